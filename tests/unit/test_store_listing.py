"""What a store lists and reads in bulk: notes by their folder, many manifests at once, shards without their hash."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from infra.artifacts import File, Manifest
from infra.rows import CorruptShardError
from infra.store import Store, StoreError
from tests.unit.small_world import World, key


def test_notes_are_those_right_below_a_folder_and_a_star_is_any_part(any_store: Store) -> None:
    names = ["runs/a.json", "runs/by-id/r/all.json", "runs/by-id/s/all.json", "runs/by-id/s/deep/x.json", "run/b.json"]
    for name in names:
        any_store.note(name, b"1")
    assert any_store.notes("runs") == ["runs/a.json"]
    assert any_store.notes("runs/by-id/*") == ["runs/by-id/r/all.json", "runs/by-id/s/all.json"]
    assert any_store.notes("runs/by-id/s") == ["runs/by-id/s/all.json"]
    assert any_store.notes("nothing/*") == []


def test_an_address_that_looks_like_a_pattern_is_none(starred_store: Store, tmp_path: Path) -> None:
    made = World(starred_store, tmp_path).make("thing")
    for name in ("runs/last/smoke/a.json", "aliases/smoke/champion.json"):
        starred_store.note(name, b"1")
    assert starred_store.notes("runs/last/*") == ["runs/last/smoke/a.json"]
    assert starred_store.notes("aliases/*") == ["aliases/smoke/champion.json"]
    assert starred_store.notes("manifests/*") == [f"manifests/make-thing/{key('thing')}.json"]
    assert [each.digest for each in starred_store.manifests()] == [made.digest]
    assert starred_store.find_whole("make-thing", key("thing")) is not None
    starred_store.delete("aliases/smoke/champion.json")
    assert starred_store.notes("aliases/*") == []


def test_manifests_are_read_many_at_once_in_the_order_of_their_names(
    any_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(any_store, tmp_path)
    for name in "fedcba":
        world.make(name)
    find, all_there = Store.find, threading.Barrier(6)

    def together(store: Store, step: str, fingerprint: str) -> Manifest | None:
        all_there.wait(timeout=10)
        return find(store, step, fingerprint)

    monkeypatch.setattr(Store, "find", together)
    assert [each.name for each in any_store.manifests()] == list("abcdef")


def test_a_note_that_is_not_what_it_should_be_is_named(any_store: Store) -> None:
    assert any_store.read_note_as("a/b.json", File, "a file") is None
    any_store.note("a/b.json", b"{bad")
    with pytest.raises(StoreError, match=r"/a/b\.json: not a file; delete it"):
        any_store.read_note_as("a/b.json", File, "a file")


def test_an_unchecked_read_looks_at_the_size_only(any_store: Store, tmp_path: Path) -> None:
    file = World(any_store, tmp_path).put("abc")
    path = any_store.local_file(file, check=False)
    path.write_bytes(b"abd")
    assert any_store.local_file(file, check=False).read_bytes() == b"abd"
    with pytest.raises(CorruptShardError, match="bytes differ"):
        any_store.local_file(file)
    path.write_bytes(b"ab")
    with pytest.raises(CorruptShardError, match="bytes differ"):
        any_store.local_file(file, check=False)
