"""What lies on the local disk beside the store: what of it goes, and what a process holds."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from infra.aliases import set_alias
from infra.fingerprint import fingerprint
from infra.store import Store
from tests.unit.small_world import Killed, World


@pytest.fixture
def world(any_store: Store, tmp_path: Path) -> World:
    return World(any_store, tmp_path)


@pytest.fixture
def local(local_store: Store, tmp_path: Path) -> World:
    return World(local_store, tmp_path)


def scratch_folder(world: World, name: str) -> Path:
    folder = world.scratch / f"{name}-{fingerprint(name)[:24]}"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/work.txt").write_text("12345")
    folder.with_suffix(".lock").touch()
    return folder


def test_old_scratch_goes_unless_a_process_works_in_it(local: World) -> None:
    idle, busy = scratch_folder(local, "idle"), scratch_folder(local, "busy")
    (local.scratch / "keep-me").mkdir()
    assert local.collector(now=time.time()).find().scratch == ()
    with busy.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        garbage = local.collector().find()
        assert [(piece.name, piece.bytes) for piece in garbage.scratch] == [(str(idle), 5)]
        local.collector().collect(garbage)
    assert sorted(path.name for path in local.scratch.iterdir() if path.is_dir()) == [busy.name, "keep-me"]
    assert idle.with_suffix(".lock").exists()


def test_scratch_that_a_process_took_up_after_the_marking_stays(local: World) -> None:
    taken, renewed = scratch_folder(local, "taken"), scratch_folder(local, "renewed")
    for path in (*taken.rglob("*"), *renewed.rglob("*"), taken, renewed):
        os.utime(path, (0, 0))
    collector = local.collector(now=time.time())
    garbage = collector.find()
    assert len(garbage.scratch) == 2
    (renewed / "inner/more.txt").write_text("x")
    with taken.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert collector.collect(garbage).scratch == ()
    assert (taken / "inner/work.txt").exists()
    assert (renewed / "inner/work.txt").exists()


def test_a_removal_that_was_killed_leaves_no_half_folder_under_its_name(
    local: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scratch_folder(local, "idle")

    def killed(_: Path) -> None:
        raise Killed

    garbage = local.collector().find()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(Killed):
            local.collector().collect(garbage)
    assert not folder.exists()
    (moved,) = [path for path in local.scratch.iterdir() if path.is_dir()]
    fresh = local.collector(now=time.time()).find()
    assert [piece.name for piece in fresh.scratch] == [str(moved)]
    local.collector(now=time.time()).collect(fresh)
    assert [path.suffix for path in local.scratch.iterdir()] == [".lock"]


def test_answers_that_were_not_uploaded_are_saved_before_scratch_goes(
    s3_options: dict[str, Any], tmp_path: Path
) -> None:
    store = Store(f"s3://posttrain/{tmp_path.name}", local=tmp_path / "local", options=s3_options)
    world = World(store, tmp_path)
    folder = scratch_folder(world, "asks")
    (folder / "row_cache/llm").mkdir(parents=True)
    (folder / "row_cache/llm/segment.jsonl").write_text('["a", 1]\n')
    world.collector().collect(world.collector().find())
    assert not folder.exists()
    assert store.read_note("row_cache/llm/segment.jsonl") == b'["a", 1]\n'


def test_checkouts_and_copies_of_what_goes_go_too(world: World) -> None:
    kept = world.make("kept", files=("k",))
    old = world.make("old", files=("o",))
    set_alias(world.store, "recipe", "champion", kept, "", "")
    for artifact in (kept, old):
        for file in world.store.manifest(artifact).files:
            world.store.local_file(file)
        (world.store.local / "checkouts" / f"{artifact.step}-{artifact.digest[:16]}").mkdir(parents=True)
    garbage = world.collector().find()
    assert [Path(piece.name).name for piece in garbage.checkouts] == [f"make-old-{old.digest[:16]}"]
    assert len(garbage.copies) == (0 if world.store.is_local else 1)
    world.collector().collect(garbage)
    assert [path.name for path in (world.store.local / "checkouts").iterdir()] == [f"make-kept-{kept.digest[:16]}"]
    assert world.store.is_whole(world.store.manifest(kept))
