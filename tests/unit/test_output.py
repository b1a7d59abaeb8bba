"""What a step writes through: rows and their ledger, files, cost, resources."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import infra.output
from infra.artifacts import Drop
from infra.config import Config
from infra.output import ConservationError, Output, Resources
from infra.rows import read_shard


class Item(Config):
    id: str
    source: str = "s"


def items(*ids: str) -> list[Item]:
    return [Item(id=each) for each in ids]


# The ledger


def test_every_query_kept_or_dropped_is_in_the_funnel(out: Output) -> None:
    out.keep(Item(id="1", source="x"))
    out.drop(Item(id="2", source="x"), "too_long", "400 words")
    out.drop(Item(id="3", source="y"), "too_long")
    out.check_conservation(3)
    assert out.sorted_funnel() == {"x": {"kept": 1, "too_long": 1}, "y": {"too_long": 1}}


def test_a_lost_query_is_an_error_with_the_count(out: Output) -> None:
    out.keep(Item(id="1"))
    with pytest.raises(ConservationError, match="a-step: 3 in, but 1 kept \\+ 0 dropped; every query must be"):
        out.check_conservation(3)


def test_an_invented_query_is_an_error(out: Output) -> None:
    for item in items("1", "2"):
        out.keep(item)
    with pytest.raises(ConservationError, match="1 in, but 2 kept"):
        out.check_conservation(1)


def test_a_query_both_kept_and_dropped_is_an_error_that_names_one(out: Output) -> None:
    out.keep(Item(id="1"))
    out.drop(Item(id="1"), "why")
    with pytest.raises(ConservationError, match="1 queries both kept and dropped, such as 1"):
        out.check_conservation(1)


def test_a_query_kept_twice_is_an_error_though_the_count_fits(out: Output) -> None:
    for item in items("1", "1"):
        out.keep(item)
    with pytest.raises(ConservationError, match="1 queries kept or dropped twice, such as 1"):
        out.check_conservation(1)


def test_a_query_dropped_twice_is_an_error(out: Output) -> None:
    for reason in ("url", "image"):
        out.drop(Item(id="1"), reason)
    with pytest.raises(ConservationError, match="1 queries kept or dropped twice, such as 1"):
        out.check_conservation(1)


def test_many_rows_may_stand_for_one_query(out: Output) -> None:
    query = Item(id="1")
    for row in items("a", "b"):
        out.keep(row, of=query)
    out.check_conservation(1)
    assert out.rows_kept == 2
    assert out.sorted_funnel() == {"s": {"kept": 1}}


# Tables and files


def test_rows_go_to_shards_of_bounded_size_in_order(out: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.output, "SHARD_ROWS", 2)
    for item in items("a", "b", "c"):
        out.keep(item)
    out.drop(Item(id="d"), "url", "http://x")
    files = out.finish(is_dataset=True)
    assert [(file.path, file.rows) for file in files] == [
        ("dropped-00000.parquet", 1),
        ("kept-00000.parquet", 2),
        ("kept-00001.parquet", 1),
    ]
    kept = [row for file in files[1:] for row in read_shard(out.store.local_file(file), Item)]
    assert kept == items("a", "b", "c")
    (dropped,) = read_shard(out.store.local_file(files[0]), Drop)
    assert dropped == Drop(query_id="d", source="s", step="a-step", reason="url", evidence="http://x")
    assert list(out.scratch.iterdir()) == []


def test_a_dataset_tells_rows_columns_and_funnel(out: Output) -> None:
    out.keep(Item(id="a"))
    out.finish(is_dataset=True)
    expected = {"rows": 1, "columns": {"id": "string", "source": "string"}, "funnel": {"s": {"kept": 1}}}
    assert out.summary == expected


def test_side_tables_are_outside_of_the_ledger(out: Output) -> None:
    out.attach("evidence", Item(id="a"))
    (file,) = out.finish(is_dataset=True)
    assert file.path == "evidence-00000.parquet"
    assert out.summary["rows"] == 0
    out.check_conservation(0)


def test_a_folder_is_published_below_its_prefix(out: Output, tmp_path: Path) -> None:
    (tmp_path / "model/deep").mkdir(parents=True)
    (tmp_path / "model/deep/b").write_text("b")
    (tmp_path / "model/a").write_text("a")
    out.add_folder(tmp_path / "model", "model")
    assert [file.path for file in out.finish(is_dataset=False)] == ["model/a", "model/deep/b"]


def test_nothing_is_in_the_store_before_the_end(out: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may work for longer than a collection of garbage waits."""
    monkeypatch.setattr(infra.output, "SHARD_ROWS", 1)
    (out.scratch / "weights").write_text("w")
    out.keep(Item(id="a"))
    out.add_file(out.scratch / "weights", "model/weights")
    assert out.store.objects("blobs") == []
    assert len(out.finish(is_dataset=False)) == len(out.store.objects("blobs")) == 2
    assert [path.name for path in out.scratch.iterdir()] == ["weights"]


def test_cost_adds_up(out: Output) -> None:
    out.spend(prompt_tokens=3, usd=0.5)
    out.spend(prompt_tokens=4)
    assert (out.cost.prompt_tokens, out.cost.usd, out.cost.completion_tokens) == (7, 0.5, 0)


def test_a_row_cache_is_one_a_namespace_and_survives_the_step(out: Output) -> None:
    out.cache("llm").put("k", 1)
    assert out.cache("llm").get("k") == 1
    out.close()
    assert out.cache("llm").get("k") == 1


# Resources


@contextmanager
def tracked(name: str, log: list[str], fails: bool = False) -> Iterator[str]:
    log.append(f"open {name}")
    try:
        yield name
    finally:
        log.append(f"close {name}")
        if fails:
            raise RuntimeError(f"{name} would not close")


def test_a_resource_is_opened_once_and_closed_last_opened_first() -> None:
    log: list[str] = []
    resources = Resources()
    for name in ("a", "b", "a"):
        assert resources.get(name, lambda name=name: tracked(name, log)) == name
    resources.close()
    assert log == ["open a", "open b", "close b", "close a"]


def test_one_that_fails_to_close_leaves_no_other_open() -> None:
    log: list[str] = []
    resources = Resources()
    resources.get("a", lambda: tracked("a", log))
    resources.get("b", lambda: tracked("b", log, fails=True))
    with pytest.raises(RuntimeError, match="b would not close"):
        resources.close()
    assert log == ["open a", "open b", "close b", "close a"]


def test_closed_resources_open_anew() -> None:
    log: list[str] = []
    resources = Resources()
    for _ in range(2):
        resources.get("a", lambda: tracked("a", log))
        resources.close()
    assert log == ["open a", "close a"] * 2
