"""Verdicts of a file that is being graded: kept as they come, so that the same command goes on where it was ended.

Two small files stand beside the output: `OUT.journal` while some rows are missing, and `OUT.graded.json`, which says of
which input and rules a finished output is. Memory holds a place in the journal a row, never the rows.
"""

from __future__ import annotations

import fcntl
import json
import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from infra.whole_files import aside_of
from tasks.records import Outcome, Verdict
from tasks.rewards.grade_rows import InputError

FIELDS = ("id", "outcome", "score", "extracted", "method", "ms", "detail")
# Grading these again may well end otherwise; the verdict on a gold answer that cannot be read stays.
WORTH_ANOTHER_TRY = frozenset({Outcome.CRASH, Outcome.SANDBOX_ERROR, Outcome.TIME_OUT})
_ABSENT = -1
_BATCH = 1_000
OutputRow = dict[str, Any]


def output_row(row_id: str | int, verdict: Verdict) -> OutputRow:
    """A verdict as it is written."""
    content = {"id": row_id, **verdict.model_dump(mode="json")}
    return {name: content[name] for name in FIELDS}


def journal_of(output: Path) -> Path:
    """Where the journal of an output stands."""
    return output.with_name(f"{output.name}.journal")


class Journal:
    """Rows of an output by their number in the input; use as a context manager. One process at a time has it.

    Args:
        output: the file that is made in the end.
        identity: of the input and the rules; a journal of another one is begun anew.
        num_rows: of the input.

    Raises:
        InputError: another command has it open.
    """

    def __init__(self, output: Path, identity: str, num_rows: int) -> None:
        self.path = journal_of(output)
        self._places = array("q", [_ABSENT]) * num_rows
        self._file = self._open(identity)
        self.num_kept = sum(place != _ABSENT for place in self._places)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, number: int) -> bool:
        return self._places[number] != _ABSENT

    def put(self, number: int, row: OutputRow) -> None:
        """Keep a row."""
        place = self._file.seek(0, 2)
        self._file.write(json.dumps([number, row]).encode() + b"\n")
        self._file.flush()
        self._places[number] = place

    def rows(self) -> Iterator[OutputRow]:
        """All rows, in the order of the input."""
        for number, place in enumerate(self._places):
            self._file.seek(place)
            line = _read_line(self._file)
            if not self._is_entry(line) or line[0] != number:
                raise InputError(f"{self.path}: something else wrote to it; delete it, and run the command again")
            row: OutputRow = line[1]
            yield row

    def _open(self, identity: str) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(self.path)
        if _read_line(file) != {"identity": identity}:
            file.seek(0)
            file.truncate()
            file.write(json.dumps({"identity": identity}).encode() + b"\n")
        self._read(file)
        return file

    def _read(self, file: BinaryIO) -> None:
        while True:
            place = file.tell()
            line = _read_line(file)
            if not isinstance(line, list):
                break
            if self._is_entry(line):  # another version may have written otherwise
                number, row = line
                is_final = row["outcome"] not in WORTH_ANOTHER_TRY
                self._places[number] = place if is_final else _ABSENT
        file.seek(place)
        file.truncate()  # the row that was being written when we were killed

    def _is_entry(self, line: Any) -> bool:
        if not (isinstance(line, list) and len(line) == 2 and isinstance(line[1], dict)):
            return False
        is_number = type(line[0]) is int and 0 <= line[0] < len(self._places)
        return is_number and line[1].keys() == set(FIELDS) and isinstance(line[1]["outcome"], str)


def _open_locked(path: Path) -> BinaryIO:
    while True:
        path.touch()
        file = path.open("r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have finished and deleted it after we opened it.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BlockingIOError:
            file.close()
            told = f"{path}: another command is grading into this output; wait for it, or name another output"
            raise InputError(told) from None
        file.close()


def _read_line(file: BinaryIO) -> Any:
    line = file.readline()
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None


def write_output(path: Path, rows: Iterator[OutputRow]) -> None:
    """Write JSON Lines or Parquet, by suffix; the file is whole or not there."""
    writers: dict[str, Callable[[Path, Iterator[OutputRow]], None]] = {
        ".jsonl": _write_json,
        ".parquet": _write_parquet,
    }
    with aside_of(path) as aside:
        writers[path.suffix](aside, rows)
        aside.replace(path)


def _write_json(path: Path, rows: Iterator[OutputRow]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False)
            # Half of a surrogate pair is a character to JSON, and none to UTF-8.
            file.write((line if _is_encodable(line) else json.dumps(row)) + "\n")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_parquet(path: Path, rows: Iterator[OutputRow]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {"score": pa.float64(), "ms": pa.float64()}
    schema = pa.schema([(name, numbers.get(name, pa.string())) for name in FIELDS])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        batch: list[OutputRow] = []
        for row in rows:
            batch.append({name: _column_value(value) for name, value in row.items()})
            if len(batch) == _BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
                batch = []
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))


def _column_value(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # an id; a column has one type
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
