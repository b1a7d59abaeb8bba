"""The store, in a folder and on S3: bytes first, manifest last and once."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Dataset, Drop, File, Folder, Manifest
from infra.rows import CorruptShardError, write_shard
from infra.store import NondeterminismError, Store, StoreError, raw_file

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def manifest_of(*files: File, fingerprint: str = "f1", **fields: Any) -> Manifest:
    base: dict[str, Any] = {"kind": "folder", "name": "thing", "step": "make-thing", "version": 1, "sampled": False}
    return Manifest.model_validate(
        base | {"fingerprint": fingerprint, "config": {}, "parents": {}, "files": files, "summary": {}} | fields
    )


def put(store: Store, tmp_path: Path, content: bytes, name: str = "file.txt") -> File:
    source = tmp_path / "sources" / name
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(content)
    return store.put_file(source, name)


def overwrite(store: Store, sha256: str, content: bytes) -> None:
    if store.is_local:
        Path(store._blob(sha256)).parent.mkdir(parents=True, exist_ok=True)
    store._fs.pipe_file(store._blob(sha256), content)


def objects(store: Store) -> list[str]:
    store._fs.invalidate_cache()
    return sorted(str(path).removeprefix(f"{store._root}/") for path in store._fs.find(store._root))


def set_back(store: Store, name: str, hours: float) -> None:
    """Make an object of the store older than it is."""
    if store.is_local:
        then = time.time() - hours * 3600
        os.utime(Path(store.uri) / name, (then, then))
        return
    from moto.s3.models import s3_backends

    bucket, _, prefix = store._root.partition("/")
    key = s3_backends["123456789012"]["aws"].buckets[bucket].keys[f"{prefix}/{name}"]
    key.last_modified = datetime.utcnow() - timedelta(hours=hours)


def hours_old(store: Store, name: str) -> float:
    stored = store.stored(name)
    assert stored is not None
    return (time.time() - stored.modified) / 3600


# Bytes


def test_a_file_lies_under_its_hash_once(any_store: Store, tmp_path: Path) -> None:
    file = put(any_store, tmp_path, b"abc")
    assert file == File(path="file.txt", sha256=ABC, bytes=3)
    put(any_store, tmp_path, b"abc", name="other-name.txt")
    assert objects(any_store) == [f"blobs/ba/{ABC}"]
    assert any_store.local_file(file).read_bytes() == b"abc"


def test_changed_bytes_are_found_when_they_are_read(any_store: Store, tmp_path: Path) -> None:
    file = put(any_store, tmp_path, b"abc")
    overwrite(any_store, ABC, b"abd")
    with pytest.raises(CorruptShardError, match=rf"blobs/ba/{ABC} \(file.txt\): .* delete it and run again"):
        any_store.local_file(file)


def test_a_torn_blob_is_replaced_when_its_bytes_come_again(any_store: Store, tmp_path: Path) -> None:
    overwrite(any_store, ABC, b"a")
    file = put(any_store, tmp_path, b"abc")
    assert any_store.local_file(file).read_bytes() == b"abc"


def test_a_missing_blob_is_named(any_store: Store, tmp_path: Path) -> None:
    file = put(any_store, tmp_path, b"abc")
    any_store._fs.rm_file(any_store._blob(ABC))
    with pytest.raises(StoreError, match=f"{ABC} is missing from the store"):
        any_store.local_file(file)


# Publishing


def test_what_is_published_is_found_whole(any_store: Store, tmp_path: Path) -> None:
    manifest = manifest_of(put(any_store, tmp_path, b"abc"))
    assert any_store.find_whole("make-thing", "f1") is None
    assert any_store.publish(manifest) == manifest
    assert any_store.find_whole("make-thing", "f1") == manifest
    assert list(any_store.manifests()) == [manifest]


def test_the_loser_of_a_race_adopts_an_equal_artifact(any_store: Store, tmp_path: Path) -> None:
    file = put(any_store, tmp_path, b"abc")
    first = any_store.publish(manifest_of(file, name="first"))
    assert any_store.publish(manifest_of(file, name="second")) == first


def test_other_bytes_for_the_same_fingerprint_are_an_error_that_says_so(any_store: Store, tmp_path: Path) -> None:
    first = any_store.publish(manifest_of(put(any_store, tmp_path, b"abc")))
    second = manifest_of(put(any_store, tmp_path, b"abd"))
    with pytest.raises(NondeterminismError, match=r"make-thing .* not deterministic") as caught:
        any_store.publish(second)
    assert first.digest[:12] in str(caught.value)
    assert second.digest[:12] in str(caught.value)
    assert any_store.find("make-thing", "f1") == first


def test_a_sampled_loser_adopts_the_first(any_store: Store, tmp_path: Path) -> None:
    first = any_store.publish(manifest_of(put(any_store, tmp_path, b"abc"), sampled=True))
    assert any_store.publish(manifest_of(put(any_store, tmp_path, b"abd"), sampled=True)) == first


def test_many_at_once_make_exactly_one_winner(any_store: Store) -> None:
    path = any_store.manifest_path("make-thing", "f1")
    won: list[int] = []
    barrier = threading.Barrier(4)

    def create(number: int) -> None:
        barrier.wait()
        if any_store.create(path, str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert any_store._fs.cat_file(path) == str(won[0]).encode()
    assert objects(any_store) == ["manifests/make-thing/f1.json"]


def test_bytes_without_a_manifest_are_no_artifact(any_store: Store, tmp_path: Path) -> None:
    put(any_store, tmp_path, b"abc")
    assert any_store.find("make-thing", "f1") is None
    assert list(any_store.manifests()) == []


@pytest.mark.parametrize("harm", ["missing", "torn"])
def test_a_manifest_whose_bytes_are_gone_is_void_and_heals(any_store: Store, tmp_path: Path, harm: str) -> None:
    manifest = any_store.publish(manifest_of(put(any_store, tmp_path, b"abc")))
    if harm == "missing":
        any_store._fs.rm_file(any_store._blob(ABC))
    else:
        overwrite(any_store, ABC, b"a")
    assert any_store.find_whole("make-thing", "f1") is None
    assert list(any_store.manifests()) == []
    any_store.publish(manifest_of(put(any_store, tmp_path, b"abc")))
    assert any_store.find_whole("make-thing", "f1") == manifest


def test_a_broken_manifest_is_named(any_store: Store) -> None:
    any_store.create(any_store.manifest_path("make-thing", "f1"), b'{"kind": "fold')
    with pytest.raises(StoreError, match=r"make-thing/f1\.json: not a manifest; delete it and run again"):
        any_store.find("make-thing", "f1")


def test_both_kinds_of_store_hold_the_same_bytes(
    s3_options: dict[str, Any], local_store: Store, tmp_path: Path
) -> None:
    remote = Store("s3://posttrain/same-bytes", local=tmp_path / "local", options=s3_options)
    for store in (local_store, remote):
        store.publish(manifest_of(put(store, tmp_path, b"abc")))
    assert objects(local_store) == objects(remote)
    for name in objects(remote):
        assert local_store._fs.cat_file(local_store._path(name)) == remote._fs.cat_file(remote._path(name))


# No space


@pytest.mark.parametrize(("owner", "call"), [(shutil, "copyfile"), (os, "replace"), (os, "fsync")])
def test_no_space_for_bytes_is_one_error_and_leaves_nothing(
    local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, call: str
) -> None:
    monkeypatch.setattr(owner, call, no_space)
    with pytest.raises(StoreError, match="No space left on device; free space"):
        put(local_store, tmp_path, b"abc")
    assert objects(local_store) == []


@pytest.mark.parametrize("call", ["link", "fsync"])
def test_no_space_for_the_manifest_is_one_error_and_publishes_nothing(
    local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = put(local_store, tmp_path, b"abc")
    monkeypatch.setattr(os, call, no_space)
    with pytest.raises(StoreError, match="No space left on device; free space"):
        local_store.publish(manifest_of(file))
    assert objects(local_store) == [f"blobs/ba/{ABC}"]


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_bucket_that_is_not_there_is_one_error(s3_options: dict[str, Any], tmp_path: Path) -> None:
    store = Store("s3://no-such-bucket/x", local=tmp_path, options=s3_options)
    with pytest.raises(StoreError, match="cannot write no-such-bucket/x/blobs"):
        put(store, tmp_path, b"abc")


# Reading


def test_rows_of_all_shards_come_in_order(any_store: Store, tmp_path: Path) -> None:
    files = []
    for number, ids in enumerate(["ab", "c"]):
        path = tmp_path / f"kept-{number:05d}.parquet"
        rows = [Drop(query_id=query_id, source="s", step="t", reason="r", evidence="") for query_id in ids]
        write_shard(path, Drop, rows)
        files.append(any_store.put_file(path, path.name, rows=len(rows)))
    manifest = any_store.publish(manifest_of(*files, kind="dataset", summary={"rows": 3}))
    dataset = any_store.reference(manifest)
    assert isinstance(dataset, Dataset)
    assert dataset.rows == 3
    assert [row.query_id for row in any_store.rows(dataset, Drop)] == ["a", "b", "c"]


def test_one_file_of_a_folder_is_a_raw_input(any_store: Store, tmp_path: Path) -> None:
    folder = any_store.reference(any_store.publish(manifest_of(put(any_store, tmp_path, b"abc"))))
    assert isinstance(folder, Folder)
    raw = any_store.file(folder, "file.txt")
    assert raw.digest == ABC
    assert raw.parents == (folder.digest,)
    assert Path(raw.uri).read_bytes() == b"abc"
    with pytest.raises(StoreError, match=r"thing holds no file b\.txt; it holds \['file\.txt'\]"):
        any_store.file(folder, "b.txt")


def test_a_checkout_is_a_local_folder_with_the_files_names(any_store: Store, tmp_path: Path) -> None:
    files = put(any_store, tmp_path, b"abc"), put(any_store, tmp_path, b"d")
    named = [file.model_copy(update={"path": f"model/{name}"}) for file, name in zip(files, "ab", strict=True)]
    artifact = any_store.reference(any_store.publish(manifest_of(*named)))
    for _ in range(2):
        folder = any_store.checkout(artifact)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"abc", "b": b"d"}
    with pytest.raises(StoreError, match="thing has no files below weights/"):
        any_store.checkout(artifact, "weights")


def test_a_reference_whose_manifest_is_gone_says_what_to_do(any_store: Store) -> None:
    artifact = any_store.reference(manifest_of())
    with pytest.raises(StoreError, match=r"thing: its manifest .* is gone; run the pipeline again"):
        any_store.manifest(artifact)


def test_notes_are_replaced_and_listed(any_store: Store) -> None:
    assert any_store.read_note("runs/a.json") is None
    any_store.note("runs/a.json", b"1")
    any_store.note("runs/a.json", b"2")
    any_store.note("runs/b.json", b"3")
    assert any_store.read_note("runs/a.json") == b"2"
    assert any_store.notes("runs") == ["runs/a.json", "runs/b.json"]


def test_a_raw_file_is_named_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(b"abc")
    assert raw_file(tmp_path / "raw.jsonl", "raw").digest == ABC
    with pytest.raises(StoreError, match=r"gone\.jsonl: no such raw file"):
        raw_file(tmp_path / "gone.jsonl", "raw")


# Age


def test_old_bytes_that_come_again_are_young_again(any_store: Store, tmp_path: Path) -> None:
    name = f"blobs/ba/{ABC}"
    for hours in (11, 13):
        put(any_store, tmp_path, b"abc")
        set_back(any_store, name, hours)
    assert hours_old(any_store, name) == pytest.approx(13, abs=0.01)
    file = put(any_store, tmp_path, b"abc")
    assert hours_old(any_store, name) == pytest.approx(0, abs=0.01)
    assert any_store.local_file(file).read_bytes() == b"abc"
    set_back(any_store, name, 11)
    put(any_store, tmp_path, b"abc")
    assert hours_old(any_store, name) == pytest.approx(11, abs=0.01), "a look-up is cheaper than an upload"


def test_a_manifest_that_is_found_again_is_young_again(any_store: Store, tmp_path: Path) -> None:
    manifest = any_store.publish(manifest_of(put(any_store, tmp_path, b"abc")))
    set_back(any_store, "manifests/make-thing/f1.json", 13)
    assert any_store.find("make-thing", "f1") == manifest
    assert hours_old(any_store, "manifests/make-thing/f1.json") == pytest.approx(13, abs=0.01)
    assert any_store.find_whole("make-thing", "f1") == manifest
    assert hours_old(any_store, "manifests/make-thing/f1.json") == pytest.approx(0, abs=0.01)
    assert any_store.find("make-thing", "f1") == manifest


def test_a_manifest_that_is_deleted_while_it_is_found_is_not_brought_back(
    any_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection of garbage deletes it after it was read, and its bytes next."""
    name = "manifests/make-thing/f1.json"
    any_store.publish(manifest_of(put(any_store, tmp_path, b"abc")))
    set_back(any_store, name, 100)
    stored = Store.stored

    def seen_then_deleted(store: Store, looked_at: str) -> Any:
        found = stored(store, looked_at)
        store.delete(looked_at)
        return found

    monkeypatch.setattr(Store, "stored", seen_then_deleted)
    assert any_store.find_whole("make-thing", "f1") is None
    assert objects(any_store) == [f"blobs/ba/{ABC}"]


def test_objects_are_listed_with_size_and_age_and_deleted(any_store: Store) -> None:
    any_store.note("details/a/f.json", b"12")
    any_store.note("details/b.json", b"123")
    any_store.note("runs/c.json", b"1")
    listed = any_store.objects("details")
    assert [(each.name, each.bytes) for each in listed] == [("details/a/f.json", 2), ("details/b.json", 3)]
    assert all(abs(each.modified - time.time()) < 60 for each in listed)
    for _ in range(2):
        any_store.delete("details/a/f.json")
    assert [each.name for each in any_store.objects("details")] == ["details/b.json"]
    assert any_store.objects("nothing") == []
    assert any_store.stored("details/a/f.json") is None


def test_a_folder_that_cannot_be_listed_is_an_error(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not listed would count as not there."""
    local_store.note("details/a.json", b"1")

    def refuse(_: Any) -> Any:
        raise PermissionError("no")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        local_store.objects("details")


def test_notes_that_a_killed_writer_left_aside_are_not_listed(local_store: Store) -> None:
    local_store.note("runs/a.json", b"1")
    (Path(local_store.uri) / "runs/a.json.0.tmp").write_bytes(b"half")
    assert local_store.notes("runs") == ["runs/a.json"]
