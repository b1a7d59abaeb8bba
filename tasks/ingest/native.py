"""Raw files and their rows, read one by one; every error names the file or source, the row and the remedy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

from tasks.records import Domain, Message

PARQUET_BATCH_ROWS = 1024


class RawFileError(ValueError):
    """A raw file that cannot be read; the message names file, line and remedy."""


class FieldError(ValueError):
    """A field of a native row is missing or has another type than its source promises."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What an adapter makes of a native row. `messages` may be empty: such a row is dropped with a reason."""

    domain: Domain
    messages: tuple[Message, ...]
    answer: str | None = None
    choices: tuple[str, ...] = ()
    solution: str | None = None
    tests: dict[str, Any] | None = None
    constraints: list[dict[str, Any]] | None = None
    stem: str | None = None
    """The bare question, where the prompt adds options, tests or a frame to it; kept as `meta["stem"]`."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Further fields, on top of those that the adapter did not take."""


class NativeRow:
    """A native row that remembers which fields an adapter took; the rest goes into the query's meta."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self._taken: set[str] = set()

    def take(self, name: str) -> Any:
        """The value of a field that must be there.

        Raises:
            FieldError: there is no such field.
        """
        if name not in self._fields:
            raise FieldError(f"field `{name}` is missing; the row has {', '.join(self._fields) or 'no fields'}")
        self._taken.add(name)
        return self._fields[name]

    def text(self, name: str) -> str:
        """A field that must be text; a missing value (None) reads as empty.

        Raises:
            FieldError: there is no such field, or it is not text.
        """
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise FieldError(f"field `{name}` is {type(value).__name__}, not text")
        return value or ""

    def list(self, name: str) -> list[Any]:
        """A field that must be a list; a missing value (None) reads as empty.

        Raises:
            FieldError: there is no such field, or it is not a list.
        """
        value = self.take(name)
        if value is not None and not isinstance(value, list):
            raise FieldError(f"field `{name}` is {type(value).__name__}, not a list")
        return value or []

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A field that must be an object.

        Raises:
            FieldError: there is no such field, or it is not an object.
        """
        value = self.take(name)
        if not isinstance(value, Mapping):
            raise FieldError(f"field `{name}` is {type(value).__name__}, not an object")
        return value

    def json(self, name: str) -> Any:
        """The value that a field holds as JSON text; a field that is no text is taken as it is, and empty text is None.

        Raises:
            FieldError: there is no such field, or its text is not JSON.
        """
        value = self.take(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value) if value.strip() else None
        except (ValueError, RecursionError) as error:
            raise FieldError(f"field `{name}` is not JSON: {str(error)[:200]}") from None

    def optional(self, name: str, default: Any = None) -> Any:
        """The value of a field that some versions of a source lack."""
        return self.take(name) if name in self._fields else default

    def leave(self, *names: str) -> None:
        """Known fields that are not kept: what models wrote, many times as long as the question, or a second copy."""
        self._taken.update(names)

    def rest(self) -> dict[str, Any]:
        """Fields that nobody took."""
        return {name: value for name, value in self._fields.items() if name not in self._taken}


def read_rows(path: Path, file: str) -> Iterator[dict[str, Any]]:
    """Rows of a raw file in order, never all at once. `file` is its name: its suffix tells the format.

    Raises:
        RawFileError: the format is unknown, or a line is not a JSON object.
    """
    if file.endswith(".parquet"):
        return _read_parquet(path, file)
    if file.endswith(".jsonl"):
        return _read_json_lines(path, file)
    raise RawFileError(f"{file}: unknown format; give a .jsonl or a .parquet file")


def _read_json_lines(path: Path, file: str) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_constant=_no_number)
            except ValueError as error:
                raise RawFileError(f"{file}, line {number}: not JSON: {error}; mend or fetch the file again") from None
            if not isinstance(row, dict):
                raise RawFileError(f"{file}, line {number}: {type(row).__name__} instead of an object; mend the file")
            yield row


def _no_number(_: str) -> None:
    """NaN and infinities are no JSON; they stand for a missing value."""


def _read_parquet(path: Path, file: str) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(PARQUET_BATCH_ROWS):
                for row in batch.to_pylist():
                    yield plain(row)
    except pa.ArrowInvalid as error:
        raise RawFileError(f"{file}: not a readable Parquet file: {error}; fetch it again") from error


def plain(value: Any) -> Any:
    """`value` in JSON types: NaN becomes None, dates and decimals text, bytes the name of their hash."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, date | time | Decimal):
        return str(value)
    if isinstance(value, bytes):
        return f"sha256:{sha256(value).hexdigest()}"
    return value
