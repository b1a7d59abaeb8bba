"""Paid answers outlive their writer, in a folder and on S3."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from infra import row_cache
from infra.row_cache import RowCache
from infra.store import Store


def segments(store: Store) -> list[str]:
    return store.notes("row_cache/llm")


def test_answers_outlive_their_writer(any_store: Store, tmp_path: Path) -> None:
    cache = RowCache(any_store, "llm", tmp_path)
    assert cache.get("k") is None
    cache.put("k", {"text": "é\n", "n": 1})
    cache.close()
    again = RowCache(any_store, "llm", tmp_path)
    assert again.get("k") == {"text": "é\n", "n": 1}
    assert again.hits == 1


def test_namespaces_do_not_meet(any_store: Store, tmp_path: Path) -> None:
    cache = RowCache(any_store, "llm", tmp_path)
    cache.put("k", 1)
    cache.close()
    assert RowCache(any_store, "verdicts", tmp_path).get("k") is None


def test_two_writers_keep_both_answers(any_store: Store, tmp_path: Path) -> None:
    first, second = RowCache(any_store, "llm", tmp_path / "a"), RowCache(any_store, "llm", tmp_path / "b")
    first.put("a", 1)
    second.put("b", 2)
    first.close()
    second.close()
    again = RowCache(any_store, "llm", tmp_path)
    assert (again.get("a"), again.get("b")) == (1, 2)


def test_nothing_is_written_by_a_cache_that_only_read(any_store: Store, tmp_path: Path) -> None:
    RowCache(any_store, "llm", tmp_path).close()
    assert segments(any_store) == []


def test_a_writer_that_was_killed_loses_nothing_it_had_put(any_store: Store, tmp_path: Path) -> None:
    killed = RowCache(any_store, "llm", tmp_path)
    killed.put("k", 1)  # and no close()
    del killed
    again = RowCache(any_store, "llm", tmp_path)
    assert again.get("k") == 1
    again.put("l", 2)
    again.close()
    assert len(segments(any_store)) == 2


def test_a_cache_goes_on_after_it_was_closed(any_store: Store, tmp_path: Path) -> None:
    # A step's end closes the cache; what lives as long as the run puts more into it.
    cache = RowCache(any_store, "llm", tmp_path)
    for key in ("a", "b"):
        cache.put(key, 1)
        cache.close()
    again = RowCache(any_store, "llm", tmp_path / "elsewhere")
    assert (again.get("a"), again.get("b")) == (1, 1)


def test_a_segment_is_left_to_its_writer_while_it_lives(any_store: Store, tmp_path: Path) -> None:
    writer = RowCache(any_store, "llm", tmp_path)
    writer.put("a", 1)
    RowCache(any_store, "llm", tmp_path)
    writer.put("b", 2)
    writer.close()
    again = RowCache(any_store, "llm", tmp_path / "elsewhere")
    assert (again.get("a"), again.get("b")) == (1, 2)
    assert len(segments(any_store)) == 1


def test_on_s3_a_lost_machine_takes_the_last_answers_only(
    any_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any_store.is_local:
        pytest.skip("a folder holds each answer at once")
    monkeypatch.setattr(row_cache, "UPLOAD_EVERY_S", 0.0)
    lost = RowCache(any_store, "llm", tmp_path / "lost")
    lost.put("k", 1)
    monkeypatch.setattr(row_cache, "UPLOAD_EVERY_S", 60.0)
    lost.put("l", 2)  # and neither close() nor the disk
    again = RowCache(any_store, "llm", tmp_path / "new")
    assert (again.get("k"), again.get("l")) == (1, None)


def test_a_torn_last_line_costs_that_line_only(any_store: Store, tmp_path: Path) -> None:
    whole = '["a", 1]\n["b", "é"]\n'.encode()
    line = '["c", {"text": "né"}]'.encode()
    for cut in range(1, len(line)):
        any_store.note("row_cache/llm/x.jsonl", whole + line[:cut])
        cache = RowCache(any_store, "llm", tmp_path)
        assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, "é", None)
    any_store.note("row_cache/llm/x.jsonl", whole + line)
    assert RowCache(any_store, "llm", tmp_path).get("c") == {"text": "né"}


def test_threads_write_whole_lines(local_store: Store, tmp_path: Path) -> None:
    cache = RowCache(local_store, "llm", tmp_path)

    def fill(thread: int) -> None:
        for number in range(50):
            cache.put(f"{thread}-{number}", "x" * 200)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.close()
    again = RowCache(local_store, "llm", tmp_path)
    assert all(again.get(f"{t}-{n}") == "x" * 200 for t in range(4) for n in range(50))


def test_what_is_there_is_told_without_counting_a_hit(local_store: Store, tmp_path: Path) -> None:
    cache = RowCache(local_store, "llm", tmp_path)
    cache.put("k", 1)
    assert (cache.has("k"), cache.has("l"), cache.items(), cache.hits) == (True, False, [("k", 1)], 0)
    beside = cache.beside("llm_batches")
    assert beside.get("k") is None
    beside.put("k", 2)
    assert RowCache(local_store, "llm_batches", tmp_path).get("k") == 2
