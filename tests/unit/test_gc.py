"""Garbage: what goes and what stays, beside runs that work at the same time, and killed at any moment."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import infra.output
from infra.aliases import set_alias
from infra.artifacts import Artifact, Dataset, Folder, Parent
from infra.config import Config
from infra.data_versions import DataVersion, publish_version
from infra.fingerprint import fingerprint
from infra.gc import Garbage
from infra.output import Output, Resources
from infra.passing import decode, encode
from infra.run import RUNS, RunRecord
from infra.store import Store, StoreError
from tests.unit.small_world import DAY, LATER, Killed, World, key, parent_of


class Row(Config):
    """A row that the ledger can name."""

    id: str
    source: str


def going(garbage: Garbage) -> set[str]:
    return {step.removeprefix("make-") for step in garbage.by_step}


@pytest.fixture
def world(any_store: Store, tmp_path: Path) -> World:
    return World(any_store, tmp_path)


@pytest.fixture
def local(local_store: Store, tmp_path: Path) -> World:
    return World(local_store, tmp_path)


def age(world: World, name: str, days: float = 100.0) -> None:
    """Set back the time of an object of a local store."""
    path = Path(world.store.uri) / name
    os.utime(path, (path.stat().st_atime, time.time() - days * DAY))


def age_all(world: World) -> None:
    for name in world.objects():
        age(world, name)


# Roots


def test_what_nothing_reaches_goes_with_its_blobs_and_details(world: World) -> None:
    old = world.make("old")
    garbage = world.collector().find()
    assert garbage.by_step == {"make-old": 1}
    assert [piece.name for piece in garbage.details] == [f"details/make-old/{key('old')}.json"]
    assert len(garbage.blobs) == 1
    assert garbage.bytes == sum(piece.bytes for piece in (*garbage.manifests, *garbage.details, *garbage.blobs))
    assert world.names() == {"old"}, "finding deletes nothing"
    assert world.collector().collect(garbage) == garbage
    assert world.objects() == set()
    assert world.store.find(old.step, key("old")) is None


def test_nothing_younger_than_the_grace_goes_nor_what_it_was_made_from(local: World) -> None:
    raw = local.make("raw")
    local.make("child", raw)
    local.make("other")
    age_all(local)
    os.utime(Path(local.store.uri) / f"manifests/make-child/{key('child')}.json")
    assert going(local.collector(now=time.time()).find()) == {"other"}
    assert going(local.collector(now=time.time() + 3 * DAY).find()) == {"raw", "child", "other"}
    assert going(local.collector(now=time.time() + 3 * DAY, grace_hours=100).find()) == {"other"}


def test_an_alias_keeps_its_artifact_and_all_ancestors(world: World) -> None:
    raw, other = world.make("raw"), world.make("other")
    queries = world.make("queries", raw)
    model = world.make("model", queries)
    world.make("report", model)
    set_alias(world.store, "recipe", "champion", model, "better", "someone")
    assert going(world.collector().find()) == {"other", "report"}
    set_alias(world.store, "recipe", "champion", other, "not so good", "someone")
    assert going(world.collector().find()) == {"raw", "queries", "model", "report"}


@pytest.mark.parametrize(
    ("days_ago", "state", "stays"),
    [(29, "finished", True), (31, "finished", False), (29, "failed", True), (31, "running", False)],
)
def test_a_recent_run_keeps_what_it_used_and_made(local: World, days_ago: float, state: str, stays: bool) -> None:
    model = local.make("model", local.make("raw"))
    local.make("other")
    local.record_run(model, started=LATER - days_ago * DAY, state=state)
    assert going(local.collector().find()) == ({"other"} if stays else {"other", "raw", "model"})


def test_a_run_that_may_still_be_running_keeps_its_things_for_thirty_days(local: World) -> None:
    model = local.make("model")
    local.record_run(model, started=LATER - 29 * DAY, state="running")
    assert going(local.collector(keep_days=0).find()) == set()
    local.record_run(model, started=LATER - 29 * DAY, state="finished")
    assert going(local.collector(keep_days=0).find()) == {"model"}


def test_what_a_recipe_called_last_stays(world: World) -> None:
    identity = {"step": "make-last", "version": 1, "config": {"a": 1}, "inputs": {}}
    world.make("last", fingerprint=fingerprint(identity))
    world.store.note(
        "runs/last/recipe/scores base.json", b'{"config":{"a":1},"inputs":{},"step":"make-last","version":1}'
    )
    assert going(world.collector().find()) == set()


def test_the_newest_data_version_of_a_recipe_stays(world: World) -> None:
    made = {name: world.make(name) for name in ("q1", "s1", "q2", "s2")}
    texts = {name: f"{name}@make-{name}/{artifact.fingerprint}" for name, artifact in made.items()}
    for number in (1, 2):
        fields = {"queries": texts[f"q{number}"], "samples": texts[f"s{number}"], "queries_digest": "", "run": "r"}
        counts = {"samples_digest": "", "num_queries": 1, "num_samples": 1, "at": 0.0}
        version = DataVersion.model_validate({"recipe": "recipe", "number": number} | fields | counts)
        publish_version(world.store, version)
    assert going(world.collector().find()) == {"q1", "s1"}


def test_a_file_of_a_folder_keeps_the_folder_that_holds_it(world: World) -> None:
    """The parent of a data version that was read from one file of a generated corpus carries no fingerprint."""
    corpus = world.make("corpus", kind="folder", files=("a", "b"))
    world.make("other-corpus", kind="folder", files=("c",))
    assert isinstance(corpus, Folder)
    raw = world.store.file(corpus, "b.txt")
    queries = world.make("queries", Parent(kind="raw", name="b.txt", digest=raw.digest))
    set_alias(world.store, "recipe", "champion", queries, "", "")
    assert going(world.collector().find()) == {"other-corpus"}


def test_equal_content_of_another_step_stands_for_a_parent_that_is_gone(world: World) -> None:
    twin = world.make("twin")
    lost = parent_of(twin).model_copy(update={"fingerprint": key("lost")})
    set_alias(world.store, "recipe", "champion", world.make("child", lost), "", "")
    assert going(world.collector().find()) == set()


def test_a_blob_that_something_kept_names_too_stays(world: World) -> None:
    kept = world.make("kept", files=("shared", "own"))
    world.make("old", files=("shared", "alone"))
    set_alias(world.store, "recipe", "champion", kept, "", "")
    world.collector().collect(garbage := world.collector().find())
    assert len(garbage.blobs) == 1
    assert world.store.is_whole(world.store.manifest(kept))
    assert len(world.store.objects("blobs")) == 2


def test_blobs_and_details_without_a_manifest_go_once_they_are_old(local: World) -> None:
    file = local.put("never published")
    local.store.note("details/make-x/f.json", b"{}")
    assert local.collector(now=time.time()).find().bytes == 0
    garbage = local.collector().find()
    assert [piece.name for piece in garbage.blobs] == [f"blobs/{file.sha256[:2]}/{file.sha256}"]
    assert [piece.name for piece in garbage.details] == ["details/make-x/f.json"]


def test_writes_of_killed_processes_go(local: World) -> None:
    local.make("kept")
    local.record_run(local.make("made"), started=LATER)
    uri = Path(local.store.uri)
    for name in (
        f"blobs/ab/abc.{'0' * 32}.tmp",
        f"manifests/make-kept/f.json.{'0' * 32}.tmp",
        f"{RUNS}/r/all.json.1.tmp",
    ):
        (uri / name).parent.mkdir(parents=True, exist_ok=True)
        (uri / name).write_bytes(b"half")
    garbage = local.collector(keep_days=1000).find()
    local.collector(keep_days=1000).collect(garbage)
    assert list(uri.rglob("*.tmp")) == []
    assert len(garbage.unfinished) == 2
    assert (uri / RUNS / "r/all.json").exists()


def test_a_manifest_that_cannot_be_read_stops_the_collection(world: World) -> None:
    """What it names is not known, so nothing may go."""
    world.make("old")
    world.store.create(world.store.manifest_path("make-x", "f"), b"{")
    with pytest.raises(Exception, match=r"make-x/f\.json: not a manifest; delete it and run again"):
        world.collector().find()


def test_in_a_store_whose_address_looks_like_a_pattern_the_same_stays(starred_store: Store, tmp_path: Path) -> None:
    world = World(starred_store, tmp_path)
    model, used = world.make("model"), world.make("used")
    world.make("old")
    set_alias(world.store, "recipe", "champion", model, "", "")
    world.record_run(used, started=LATER)
    world.collector().collect(world.collector().find())
    assert world.names() == {"model", "used"}


@pytest.mark.parametrize("note", [f"{RUNS}/x/all.json", "runs/last/recipe/queries.json"])
def test_a_note_that_cannot_be_read_stops_the_collection(world: World, note: str) -> None:
    """What it names is not known, so nothing may go."""
    world.make("old")
    world.store.note(note, b"{bad")
    with pytest.raises(StoreError, match=rf"{note}: not a .*; delete it"):
        world.collector().find()


@pytest.mark.parametrize(("state", "goes"), [("running", set()), ("finished", {"raw", "given"})])
def test_what_a_run_was_given_stays_while_it_works(local: World, state: str, goes: set[str]) -> None:
    given = local.make("given", local.make("raw"))
    inputs = (f"{given.step}/{given.fingerprint}",)
    record = RunRecord(id="r", recipe="x", state=state, started=LATER - 20 * DAY, inputs=inputs)  # type: ignore[arg-type]
    local.store.note(f"{RUNS}/r/sft-1.json", record.model_dump_json().encode())
    assert going(local.collector(keep_days=10).find()) == goes
    assert going(local.collector(keep_days=30).find()) == set()


# Beside a run


def test_what_a_phase_was_handed_after_the_marking_stays(local: World) -> None:
    text = encode(local.make("queries", local.make("raw")))
    age_all(local)
    collector = local.collector(now=time.time())
    garbage = collector.find()
    assert going(garbage) == {"raw", "queries"}
    decode(Dataset, text, local.store, "recipe")
    assert going(collector.collect(garbage)) == set()


def test_bytes_that_a_long_step_wrote_early_are_young_when_it_ends(
    local: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infra.output, "SHARD_ROWS", 1)
    out = Output("long", scratch=tmp_path, store=local.store, resources=Resources())
    (tmp_path / "weights").write_text("w")
    out.keep(Row(id="a", source="s"))
    out.add_file(tmp_path / "weights", "model/weights")
    age_all(local)
    collector = local.collector(now=time.time())
    collector.collect(collector.find())
    assert all(local.store.stored(f"blobs/{f.sha256[:2]}/{f.sha256}") for f in out.finish(is_dataset=True))


def test_what_a_run_finds_again_after_the_marking_stays_with_its_ancestors(local: World) -> None:
    raw = local.make("raw")
    queries = local.make("queries", raw)
    local.make("model", queries)
    age_all(local)
    collector = local.collector(now=time.time())
    garbage = collector.find()
    assert going(garbage) == {"raw", "queries", "model"}
    assert local.store.find_whole("make-queries", key("queries")) is not None
    assert going(collector.collect(garbage)) == {"model"}
    assert local.names() == {"raw", "queries"}
    assert all(local.store.is_whole(manifest) for manifest in local.store.manifests())


def test_old_bytes_that_a_step_puts_again_stay(local: World) -> None:
    """Its manifest is not there yet; without a new time the blob would go between the two."""
    local.make("old", files=("shared",))
    age_all(local)
    collector = local.collector(now=time.time())
    garbage = collector.find()
    file = local.put("shared")
    gone = collector.collect(garbage)
    assert (going(gone), gone.blobs) == ({"old"}, ())
    assert local.store.local_file(file).read_text() == "shared"


def test_a_manifest_that_is_published_after_the_marking_keeps_its_blobs(local: World) -> None:
    local.make("old", files=("shared",))
    age_all(local)
    collector = local.collector(now=time.time())
    garbage = collector.find()
    new = local.make("new", files=("shared",))
    age(local, f"blobs/{local.put('shared').sha256[:2]}/{local.put('shared').sha256}")
    gone = collector.collect(garbage)
    assert (going(gone), gone.blobs) == ({"old"}, ())
    assert local.store.is_whole(local.store.manifest(new))


def test_details_of_an_artifact_that_is_made_again_meanwhile_stay(local: World) -> None:
    local.make("old")
    age_all(local)
    collector = local.collector(now=time.time())
    garbage = collector.find()
    local.store.delete(f"manifests/make-old/{key('old')}.json")
    local.make("old")
    age(local, f"details/make-old/{key('old')}.json")
    assert collector.collect(garbage) == Garbage()
    assert local.store.read_note(f"details/make-old/{key('old')}.json") == b"{}"


def test_two_collections_at_once_do_not_disturb_each_other(world: World) -> None:
    world.make("child", world.make("raw"))
    first, second = world.collector(), world.collector()
    garbage = first.find()
    assert second.find() == garbage
    first.collect(garbage)
    assert second.collect(garbage).bytes == 0


# Killed


def test_killed_between_any_two_deletes_nothing_is_half_and_the_next_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = world.make("raw", files=("raw", "shared"))
    kept = world.make("kept", raw, files=("kept", "shared"))
    set_alias(world.store, "recipe", "champion", kept, "", "")
    before: Artifact = raw
    for name in ("a", "b", "c"):
        before = world.make(name, before, files=(name, "shared"))
    twins = world.make("d", before, raw, files=("d1", "d2"))
    assert isinstance(twins, Dataset)
    expected = world.collector().find()
    num_deletes = len(expected.manifests) + len(expected.details) + len(expected.blobs)
    assert num_deletes == 4 + 4 + 5

    delete = Store.delete
    left = [0]

    def delete_one(store: Store, name: str) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        delete(store, name)

    monkeypatch.setattr(Store, "delete", delete_one)
    for done in range(num_deletes):
        left[0] = 1
        with pytest.raises(Killed) if done < num_deletes - 1 else pytest.MonkeyPatch.context():
            world.collector().collect(world.collector().find())
        assert_nothing_is_half(world)
    assert world.names() == {"raw", "kept"}
    assert world.collector().find() == Garbage()
    assert len(world.store.objects("blobs")) == 3
    assert len(world.store.objects("details")) == 2


def assert_nothing_is_half(world: World) -> None:
    manifests = {manifest.fingerprint: manifest for manifest in world.store.manifests()}
    assert {key("raw"), key("kept")} <= manifests.keys()
    for manifest in manifests.values():
        assert world.store.is_whole(manifest)
        assert world.store.read_note(f"details/{manifest.step}/{manifest.fingerprint}.json") is not None
        assert {p.fingerprint for group in manifest.parents.values() for p in group} <= manifests.keys()
        for file in manifest.files:
            assert world.store.local_file(file).read_text() == file.path.removesuffix(".txt")
