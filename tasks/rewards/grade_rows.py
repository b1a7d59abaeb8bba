"""Rows to be graded, as people write them: JSON Lines or Parquet in, a query and its response out.

A row that lacks a field stops everything, by line and field, before anything is graded: its author can mend it. Tests
or a gold answer that cannot be used are no such thing; the row's verdict says so, and the other rows are graded.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tasks.records import Domain, Message, Query

SUFFIXES = (".jsonl", ".parquet")
_BATCH = 256
_SHOWN = 5


class InputError(ValueError):
    """A file that cannot be graded; the message names file, line and field."""


class Graded(NamedTuple):
    """A row as the rewarder takes it, and the row's own id."""

    id: str | int
    query: Query
    response: str


class RawRow(NamedTuple):
    """A row as it was read. `place` names it for people: `line 7`, `row 7`."""

    place: str
    content: Any


def _from_json(value: Any) -> Any:
    """Parquet often keeps nested fields as JSON text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except RecursionError:
        raise ValueError("JSON nested too deep") from None


def _as_text(value: Any) -> Any:
    """A gold answer that is a number in JSON means its text."""
    if isinstance(value, list | tuple):
        return [_as_text(item) for item in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Row(BaseModel, ABC):
    """What rows of every domain have; fields that grading does not need are let be."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    id: str | int
    response: str

    @abstractmethod
    def query(self) -> Query:
        """The question that the response is judged by."""

    def _query(self, domain: Domain, text: str = "", **fields: Any) -> Query:
        messages = fields.pop("messages", None) or (Message(role="user", content=text),)
        return Query(id=str(self.id), domain=domain, source="", messages=messages, **fields)


class MathRow(Row):
    """A response, and the right answer or several ways to write it."""

    gold: Annotated[str | list[str], BeforeValidator(_as_text)]

    def query(self) -> Query:
        if isinstance(self.gold, str):
            return self._query(Domain.MATH, answer=self.gold)
        first, *others = self.gold or [""]
        return self._query(Domain.MATH, answer=first, alternatives=tuple(others))


class CodeRow(Row):
    """A response with a program, and its tests."""

    language: str | None = None
    tests: Annotated[dict[str, Any], BeforeValidator(_from_json)]

    def query(self) -> Query:
        # A Parquet struct has the fields of all kinds of tests, the absent ones as None.
        tests = {name: value for name, value in self.tests.items() if value is not None}
        language = {} if self.language is None else {"language": self.language}
        return self._query(Domain.CODE, tests=tests | language)


class InstructionRow(Row):
    """A response, and the instructions of its prompt in IFEval's form."""

    prompt: str
    instruction_id_list: list[str]
    kwargs: Annotated[list[Annotated[dict[str, Any] | None, BeforeValidator(_from_json)]], BeforeValidator(_from_json)]

    @model_validator(mode="after")
    def _pair_up(self) -> Self:
        if len(self.instruction_id_list) != len(self.kwargs):
            raise ValueError(
                f"kwargs: {len(self.kwargs)} for {len(self.instruction_id_list)} instructions; give one each"
            )
        return self

    def query(self) -> Query:
        pairs = zip(self.instruction_id_list, self.kwargs, strict=True)
        constraints = [{"id": name, "kwargs": kwargs or {}} for name, kwargs in pairs]
        return self._query(Domain.INSTRUCTION, self.prompt, constraints=constraints)


class ChatRow(Row):
    """A response, and the dialog that it answers."""

    messages: Annotated[tuple[Message, ...], Field(min_length=1), BeforeValidator(_from_json)]

    def query(self) -> Query:
        return self._query(Domain.CHAT, messages=self.messages)


ROWS: dict[str, type[Row]] = {"math": MathRow, "code": CodeRow, "instructions": InstructionRow, "chat": ChatRow}


def count_rows(path: Path, domain: str) -> int:
    """How many rows a file has, each of them looked at.

    Raises:
        InputError: the file cannot be read, or some rows lack what grading needs.
    """
    count, problems = 0, []
    for raw in _raw_rows(path):
        count += 1
        try:
            _parse(raw, domain)
        except InputError as error:
            problems.append(str(error))
            if len(problems) >= _SHOWN:
                break
    if problems:
        shown = "\n  ".join(problems)
        raise InputError(f"{path}: nothing was graded; mend\n  {shown}")
    if not count:
        raise InputError(f"{path}: no rows; give a file with some")
    return count


def read_rows(path: Path, domain: str) -> Iterator[Graded]:
    """The rows of a file, in order, a few at a time."""
    for raw in _raw_rows(path):
        row = _parse(raw, domain)
        yield Graded(row.id, row.query(), row.response)


def _parse(raw: RawRow, domain: str) -> Row:
    if isinstance(raw.content, ValueError):
        raise InputError(f"{raw.place}: not JSON: {raw.content}")
    if not isinstance(raw.content, dict):
        raise InputError(f"{raw.place}: {type(raw.content).__name__}, and a row is an object with the field `id`, …")
    try:
        return ROWS[domain].model_validate(raw.content)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        told = "is missing; add it" if problem["type"] == "missing" else f"{problem['msg']}"
        raise InputError(f"{raw.place}: field {field or '(several)'}: {told}") from None


def _raw_rows(path: Path) -> Iterator[RawRow]:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: give a file that ends in {' or '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; name one that exists")
    readers: dict[str, Callable[[Path], Iterator[RawRow]]] = {".jsonl": _json_lines, ".parquet": _parquet_rows}
    return readers[path.suffix](path)


def _json_lines(path: Path) -> Iterator[RawRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield RawRow(f"line {number}", json.loads(line))
                except (ValueError, RecursionError) as error:
                    yield RawRow(f"line {number}", ValueError(str(error)))


def _parquet_rows(path: Path) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for content in batch.to_pylist():
                    number += 1
                    yield RawRow(f"row {number}", content)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from None
