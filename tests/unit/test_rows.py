"""Rows come back from Parquet as they went in, and equal rows make equal bytes."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from infra.artifacts import Drop
from infra.config import Config
from infra.rows import CorruptShardError, read_shard, schema_of, write_shard
from tasks.records import Domain, Message, Outcome, Query, Response, Rollout

TEXT = st.text(max_size=20)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(TEXT, JSON, max_size=3)
ROWS = {
    Query: st.builds(
        Query,
        id=TEXT,
        domain=st.sampled_from(Domain),
        source=TEXT,
        messages=st.lists(
            st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=TEXT), max_size=3
        ).map(tuple),
        answer=st.none() | TEXT,
        choices=st.lists(TEXT, max_size=3).map(tuple),
        solution=st.none() | TEXT,
        tests=st.none() | TABLES,
        constraints=st.none() | st.lists(TABLES, max_size=2),
        license=TEXT,
        meta=TABLES,
    ),
    Response: st.builds(
        Response,
        query_id=TEXT,
        model=TEXT,
        sample_index=NUMBERS,
        text=TEXT,
        finish_reason=TEXT,
        usage=st.dictionaries(TEXT, NUMBERS, max_size=3),
    ),
    Rollout: st.builds(
        Rollout,
        query_id=TEXT,
        group=NUMBERS,
        sample_index=NUMBERS,
        weights_version=TEXT,
        prompt_ids=st.lists(NUMBERS, max_size=4),
        completion_ids=st.lists(NUMBERS, max_size=4),
        logprobs=st.lists(FLOATS, max_size=4),
        stop_reason=TEXT,
        outcome=st.sampled_from(Outcome),
        reward=st.none() | FLOATS,
        text=TEXT,
    ),
    Drop: st.builds(Drop, query_id=TEXT, source=TEXT, step=TEXT, reason=TEXT, evidence=TEXT),
}


class Lists(Config):
    """Field types that look like text from afar."""

    words: list[str]
    names: dict[str, str]
    maybe: list[str] | None = None


def round_trip(model: type[BaseModel], rows: list[Any]) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_shard(path, model, rows)
        return list(read_shard(path, model))


def shard_bytes(model: type[BaseModel], rows: list[Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_shard(path, model, rows)
        return path.read_bytes()


@pytest.mark.parametrize("model", list(ROWS), ids=lambda model: model.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_rows_come_back_as_they_went_in(model: type[BaseModel], data: st.DataObject) -> None:
    rows = data.draw(st.lists(ROWS[model], max_size=4))
    assert round_trip(model, rows) == rows


@settings(max_examples=25, deadline=None)
@given(row=ROWS[Query], order=st.randoms())
def test_equal_rows_make_equal_bytes(row: Query, order: random.Random) -> None:
    keys = list(row.meta)
    order.shuffle(keys)
    again = row.model_copy(update={"meta": {key: row.meta[key] for key in keys}})
    assert again == row
    assert shard_bytes(Query, [again]) == shard_bytes(Query, [row])


def test_lists_and_tables_of_text_come_back() -> None:
    rows = [Lists(words=["a", "b"], names={"x": "y"}), Lists(words=[], names={}, maybe=["c"])]
    assert round_trip(Lists, rows) == rows


def test_plain_fields_are_native_columns() -> None:
    types = {field.name: str(field.type) for field in schema_of(Rollout)}
    assert types["group"] == "int64"
    assert types["logprobs"] == "list<item: double>"
    assert types["reward"] == "double"
    assert types["outcome"] == "string"


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kept-00000.parquet"
    path.write_bytes(b"not parquet at all")
    with pytest.raises(CorruptShardError, match=r"kept-00000\.parquet: not a readable shard of Query rows"):
        list(read_shard(path, Query))


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kept-00000.parquet"
    write_shard(path, Drop, [Drop(query_id="1", source="s", step="t", reason="r", evidence="")])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptShardError, match=r"kept-00000\.parquet"):
        list(read_shard(path, Drop))


def test_a_shard_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept-00000.parquet"
    write_shard(path, Drop, [Drop(query_id="1", source="s", step="t", reason="r", evidence="")])
    with pytest.raises(CorruptShardError, match="not a readable shard of Response rows"):
        list(read_shard(path, Response))
