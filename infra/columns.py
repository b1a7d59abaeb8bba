"""Reads a few columns of an artifact's tables, for questions about single rows: no row type, no whole table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.artifacts import File, Manifest
from infra.store import Store


def shards(manifest: Manifest, table: str) -> list[File]:
    """Shards of a table (`kept`, `dropped`, a side table), in order."""
    return [file for file in manifest.files if file.path.startswith(f"{table}-") and file.path.endswith(".parquet")]


def side_tables(manifest: Manifest) -> list[str]:
    """Names of the tables beside `kept` and `dropped`."""
    named = {f.path.rpartition("-")[0] for f in manifest.files if f.path.endswith(".parquet") and "/" not in f.path}
    return sorted(named - {"kept", "dropped", ""})


def column_names(store: Store, file: File) -> list[str]:
    """Columns of a shard, from its footer."""
    names: list[str] = pq.read_schema(store.local_file(file, check=False)).names
    return names


def read_columns(store: Store, files: Iterable[File], columns: Sequence[str]) -> Any:
    """These columns of all shards as one Arrow table; a column that the shards lack is all null."""
    tables = [_aligned(_read(store, file, columns), columns) for file in files]
    return pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in columns})


def _read(store: Store, file: File, columns: Sequence[str]) -> Any:
    known = column_names(store, file)
    return pq.read_table(store.local_file(file, check=False), columns=[name for name in columns if name in known])


def _aligned(table: Any, columns: Sequence[str]) -> Any:
    for name in columns:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    return table.select(list(columns))


def rows_of(store: Store, file: File, key: str, values: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a shard whose `key` is among `values`. Reads the other columns only where there is such a row."""
    keys = _read(store, file, [key])[key]
    mask = pc.is_in(keys, value_set=pa.array(values, pa.string()))
    if not pc.any(mask).as_py():
        return []
    rows: list[dict[str, Any]] = _read(store, file, columns).filter(mask).to_pylist()
    return rows


class RowName(NamedTuple):
    """A row's id and its source."""

    row_id: str
    source: str


def rows_from(store: Store, file: File, key: str, prefix: str) -> Iterator[RowName]:
    """Rows of a shard whose `key` begins so."""
    keys = _read(store, file, [key])[key]
    mask = pc.starts_with(keys, pattern=prefix)
    if pc.any(mask).as_py():
        for row in _read(store, file, [key, "source"]).filter(mask).to_pylist():
            yield RowName(row[key], row["source"])


def number_columns(store: Store, file: File) -> list[str]:
    """Columns of a shard that hold numbers."""
    schema = pq.read_schema(store.local_file(file, check=False))
    return [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
