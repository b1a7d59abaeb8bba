"""Every way to name an artifact finds it; what cannot be found says what is near."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.artifacts import Artifact, Raw
from infra.graph import build_graph
from infra.lookup import (
    UnknownArtifactError,
    find_artifact,
    find_key,
    find_manifest,
    text_of,
    with_ancestors,
)
from infra.run import Run, read_run
from infra.store import Store
from tests.unit.traced_store import Threshold, call, new_run, run_pipeline, traced_corpus


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("traced")
    run = new_run(folder)
    run_pipeline(run, folder)
    return run


@pytest.fixture
def made(run: Run) -> Mapping[str, Artifact]:
    return {record.label: record.artifact for record in run.records}


def copied(run: Run, tmp_path: Path) -> Store:
    shutil.copytree(run.store.uri, tmp_path / "store")
    return Store(str(tmp_path / "store"), tmp_path / "store")


def test_every_way_to_name_it_finds_it(run: Run, made: Mapping[str, Artifact]) -> None:
    sft = made["sft"]
    key = sft.fingerprint or ""
    folder = run.store.checkout(sft)
    for text in (
        f"traced-sft/{key}", f"traced-sft/{key[:6]}", key, key[:8], sft.digest, sft.digest[:10], "sft", "traced:sft",
        str(folder), str(folder / "weights"),
    ):  # fmt: skip
        assert find_manifest(run.store, text).fingerprint == key, text
        assert find_artifact(run.store, text) == sft, text


def test_the_reference_has_the_label_that_was_given(run: Run, made: Mapping[str, Artifact]) -> None:
    text = text_of(made["sft"].model_copy(update={"name": "policy a"}))
    assert text == f"policy a@traced-sft/{made['sft'].fingerprint}"
    assert find_artifact(run.store, text).name == "policy a"
    assert find_artifact(run.store, "policy@traced-sft/" + (made["sft"].fingerprint or "")[:9]).name == "policy"


def test_a_raw_file_has_no_reference() -> None:
    with pytest.raises(UnknownArtifactError, match="is a raw file"):
        text_of(Raw(name="a", digest="d", uri="u"))


def test_a_direct_reference_reads_one_manifest_and_lists_nothing(
    run: Run, made: Mapping[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(run.store.uri, Path(run.store.uri))
    monkeypatch.setattr(store, "notes", None)
    monkeypatch.setattr(store, "manifests", None)
    assert find_artifact(store, text_of(made["grpo-1"])) == made["grpo-1"]


def test_a_typo_is_told_the_near_labels(run: Run) -> None:
    with pytest.raises(UnknownArtifactError, match=r"did you mean `grpo-1`.*or a label: corpus, filter, grpo-1"):
        find_manifest(run.store, "gpo-1")


@pytest.mark.parametrize(
    "text", ["traced-sft/" + "0" * 64, "champion", "0" * 12, "no-step/abcdef", "x@traced-sft/000000"]
)
def test_what_is_not_there_is_an_error(run: Run, text: str) -> None:
    with pytest.raises(UnknownArtifactError):
        find_manifest(run.store, text)


def test_an_empty_store_says_to_run_a_recipe(local_store: Store) -> None:
    with pytest.raises(UnknownArtifactError, match="remembers no step yet; run a recipe"):
        find_manifest(local_store, "grpo-1")


def test_an_ambiguous_beginning_names_the_candidates(run: Run, tmp_path: Path) -> None:
    store = copied(run, tmp_path)
    manifest = find_manifest(store, "sft")
    twin = manifest.model_copy(update={"fingerprint": manifest.fingerprint[:8] + "0" * 56})
    store.publish(twin)
    with pytest.raises(UnknownArtifactError, match=rf"names 2 artifacts: .*traced-sft/{manifest.fingerprint[:12]}"):
        find_manifest(store, manifest.fingerprint[:8])


def test_an_alias_is_of_a_recipe(run: Run, made: Mapping[str, Artifact], tmp_path: Path) -> None:
    store = copied(run, tmp_path)
    for recipe, label in (("traced", "sft"), ("other", "grpo-1")):
        note = {"step": made[label].step, "fingerprint": made[label].fingerprint}
        store.note(f"aliases/{recipe}/champion.json", json.dumps(note).encode())
        assert find_artifact(store, "champion", recipe=recipe).digest == made[label].digest
        assert find_artifact(store, f"{recipe}:champion").digest == made[label].digest
    with pytest.raises(UnknownArtifactError, match="several recipes have one: other:champion, traced:champion"):
        find_artifact(store, "champion")


def test_of_two_recipes_labels_the_newest_run_decides(tmp_path: Path) -> None:
    first, second = new_run(tmp_path, "one"), new_run(tmp_path, "two")
    old = call(first, traced_corpus, config=Threshold(lowest=1), label="corpus")
    second.started = first.started + 1
    new = call(second, traced_corpus, config=Threshold(lowest=2), label="corpus")
    assert find_artifact(first.store, "corpus") == new
    assert find_artifact(first.store, "corpus", recipe="one") == old
    for note in first.store.notes("runs/by-id/*"):
        (Path(first.store.uri) / note).unlink()
    with pytest.raises(UnknownArtifactError, match="several recipes have this label: one:corpus, two:corpus"):
        find_artifact(first.store, "corpus")


def test_a_raw_file_is_found_by_path_name_or_digest(run: Run, tmp_path: Path) -> None:
    graph = build_graph(run.store.manifests())
    copy = tmp_path / "renamed.txt"
    copy.write_text("a 0\na 1\na 2\na 3\n")
    key = find_key(run.store, graph, str(copy))
    assert graph.nodes[key].name == "raw/a.txt"
    assert find_key(run.store, graph, "raw/a.txt") == find_key(run.store, graph, key[:7]) == key
    assert graph.nodes[find_key(run.store, graph, "sft")].step == "traced-sft"
    copy.write_text("other")
    with pytest.raises(UnknownArtifactError, match=r"no step in the store .* read a file with these bytes"):
        find_key(run.store, graph, str(copy))


def test_ancestors_are_read_alone_and_the_nearest_first(run: Run) -> None:
    found = [manifest.name for manifest in with_ancestors(run.store, [find_manifest(run.store, "samples")])]
    assert found == ["samples", "verify", "filter", "merge", "ingest a", "ingest made"]


def test_the_steps_of_a_run_are_those_of_all_its_processes(run: Run, tmp_path: Path) -> None:
    store = copied(run, tmp_path)
    store.note(f"runs/by-id/{run.id}/lineage.html", b"<html>")
    store.note(f"runs/by-id/{run.id}/report.json", b"{}")
    record = json.loads(store.read_note(f"runs/by-id/{run.id}/all.json") or b"")
    halves = {"one": record["steps"][:3], "two": record["steps"][3:]}
    for part, steps in halves.items():
        store.note(f"runs/by-id/{run.id}/{part}.json", json.dumps(record | {"steps": steps}).encode())
    (Path(store.uri) / f"runs/by-id/{run.id}/all.json").unlink()
    joined = read_run(store, run.id)
    assert joined is not None
    assert [step.label for step in joined.steps] == [step.label for step in run.records]
