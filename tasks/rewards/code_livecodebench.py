"""LiveCodeBench's own encoding of tests: JSON in the open, and base64 of zlib of a pickled JSON text for the hidden."""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

_MOST_BYTES = 512 * 1024 * 1024  # of hidden tests; the largest published row holds some 100 MB


class TestsEncodingError(ValueError):
    """A row whose tests cannot be read; the message names row and field."""


class _Case(NamedTuple):
    given: str
    expected: str
    is_call: bool


class _TextUnpickler(pickle.Unpickler):
    """Reads plain values only: a pickle that names a class or function would run code of its maker's."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


def read_livecodebench(row: Mapping[str, Any]) -> dict[str, Any]:
    """Tests of a row, the open ones first: `stdio`, or `call` where `metadata` names a function.

    Raises:
        TestsEncodingError: a field is missing or cannot be read, there are no tests, or both kinds are mixed.
    """
    cases = [*_cases(row, "public_test_cases", _open_text), *_cases(row, "private_test_cases", _hidden_text)]
    kinds = {case.is_call for case in cases}
    if len(kinds) != 1:
        raise _error(row, "public_test_cases", "no tests" if not kinds else "functional and stdin tests are mixed")
    if kinds == {False}:
        return {"kind": "stdio", "inputs": [case.given for case in cases], "outputs": [case.expected for case in cases]}
    return {
        "kind": "call",
        "function": _function(row),
        "inputs": [_arguments(row, case.given) for case in cases],
        "outputs": [_json(row, case.expected) for case in cases],
    }


def _error(row: Mapping[str, Any], field: str, reason: str) -> TestsEncodingError:
    return TestsEncodingError(f"row {row.get('question_id', '?')}, field `{field}`: {reason}")


def _cases(row: Mapping[str, Any], field: str, text_of: Any) -> list[_Case]:
    value = row.get(field)
    if value is None:
        raise _error(row, field, "missing")
    try:
        listed = value if isinstance(value, list) else json.loads(text_of(value))
        return [_Case(item["input"], item["output"], item["testtype"] == "functional") for item in listed]
    except _UNREADABLE as error:
        raise _error(row, field, f"cannot be read ({type(error).__name__}: {str(error)[:200]})") from None


_UNREADABLE = (
    ValueError, TypeError, KeyError, AttributeError, IndexError, EOFError, binascii.Error, zlib.error,
    pickle.UnpicklingError, RecursionError, MemoryError,
)  # fmt: skip


def _open_text(value: str) -> str:
    return value


def _hidden_text(value: str) -> str:
    """The JSON text; some mirrors hold it unpacked."""
    if value.lstrip().startswith("["):
        return value
    unpacker = zlib.decompressobj()
    packed = unpacker.decompress(base64.b64decode(value, validate=True), _MOST_BYTES)
    if not unpacker.eof:
        raise ValueError(f"cut short, or more than {_MOST_BYTES} bytes")
    text = _TextUnpickler(io.BytesIO(packed)).load()
    if not isinstance(text, str):
        raise TypeError(f"holds a {type(text).__name__}, not a text")
    return text


def _function(row: Mapping[str, Any]) -> str:
    metadata = row.get("metadata")
    try:
        name = (json.loads(metadata) if isinstance(metadata, str) else metadata or {}).get("func_name")
    except (ValueError, AttributeError) as error:
        raise _error(row, "metadata", str(error)) from None
    if not isinstance(name, str) or not name:
        raise _error(row, "metadata", "has no `func_name`, and the tests are functional")
    return name


def _arguments(row: Mapping[str, Any], given: str) -> list[Any]:
    return [_json(row, line) for line in given.split("\n") if line.strip()]


def _json(row: Mapping[str, Any], text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _error(row, "public_test_cases/private_test_cases", f"{text[:80]!r} is not JSON: {error}") from None
