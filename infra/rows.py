"""Pydantic rows ⇄ Parquet shards: plain fields are native columns, nested ones JSON text; equal rows, equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from infra.fingerprint import canonical_json

Row = TypeVar("Row", bound=BaseModel)
_SCALARS: dict[Any, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_LISTS: dict[Any, pa.DataType] = {list[int]: pa.list_(pa.int64()), list[float]: pa.list_(pa.float64())}


class CorruptShardError(RuntimeError):
    """A Parquet shard that cannot be read as the rows it should hold."""


@cache
def schema_of(model: type[BaseModel]) -> pa.Schema:
    """Arrow schema of a row type."""
    return pa.schema([pa.field(name, _arrow_type(f.annotation)) for name, f in model.model_fields.items()])


def _arrow_type(annotation: Any) -> pa.DataType:
    plain = [part for part in get_args(annotation) if part is not NoneType]
    if NoneType in get_args(annotation) and get_origin(annotation) is not list:
        return _arrow_type(plain[0]) if len(plain) == 1 else pa.string()
    if annotation in _LISTS:
        return _LISTS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return pa.string()
    return _SCALARS.get(annotation, pa.string())


@cache
def _json_columns(model: type[BaseModel]) -> frozenset[str]:
    """Columns whose Arrow type is text though the field is neither text nor an enum."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if _arrow_type(field.annotation) == pa.string() and not _is_text(field.annotation)
    )


def _is_text(annotation: Any) -> bool:
    is_union = get_origin(annotation) in (Union, UnionType)
    parts = [part for part in get_args(annotation) if part is not NoneType] if is_union else [annotation]
    return all(isinstance(part, type) and issubclass(part, str) for part in parts)


def write_shard(path: Path, model: type[Row], rows: Sequence[Row]) -> None:
    """Write `rows` as one zstd Parquet file at `path`."""
    nested = _json_columns(model)
    columns = {name: [_encode(getattr(row, name), name in nested) for row in rows] for name in model.model_fields}
    pq.write_table(pa.table(columns, schema=schema_of(model)), path, compression="zstd")


def _encode(value: Any, nested: bool) -> Any:
    if nested:
        return None if value is None else canonical_json(value)
    return value.value if isinstance(value, Enum) else value


def read_shard(path: Path, model: type[Row]) -> Iterator[Row]:
    """Rows of one Parquet file, in order.

    Raises:
        CorruptShardError: the file is not Parquet or lacks a column of `model`.
    """
    try:
        table = pq.read_table(path, columns=list(model.model_fields))
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise CorruptShardError(f"{path}: not a readable shard of {model.__name__} rows: {error}") from error
    nested = _json_columns(model)
    for batch in table.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            for name in nested:
                row[name] = None if row[name] is None else json.loads(row[name])
            yield model.model_validate(row)
