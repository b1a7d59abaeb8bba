"""Test cases as code sources write them: pairs of input and output, for a program's pipes or for a function."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.ingest.native import FieldError

STARTER_FRAME = "{}\n\nUse this starter code:\n\n```python\n{}\n```"


def with_starter(problem: str, starter: str) -> str:
    """The prompt of a problem whose tests call a name that only the starter code tells."""
    problem = problem.strip()
    return STARTER_FRAME.format(problem, starter.strip()) if problem and starter.strip() else problem


def parallel_tests(tests: Mapping[str, Any] | None, field: str) -> dict[str, Any] | None:
    """APPS, TACO, PRIME: parallel lists `inputs` and `outputs`, and `fn_name` where a function is called.

    Raises:
        FieldError: they are not parallel lists.
    """
    if not tests:
        return None
    if not isinstance(tests, Mapping):
        raise FieldError(f"field `{field}` is {type(tests).__name__}, not an object of inputs and outputs")
    inputs, outputs = tests.get("inputs"), tests.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise FieldError(f"field `{field}` does not hold as many `inputs` as `outputs`")
    function = tests.get("fn_name")
    return call_tests(function, inputs, outputs, field) if function else piped_tests(inputs, outputs)


def listed_tests(cases: Sequence[Any] | None, field: str) -> dict[str, Any] | None:
    """PrimeIntellect, DeepCoder: a list of cases of `input` and `output`; `fn_name`, or `func_name` in its metadata.

    Raises:
        FieldError: a case lacks input or output, or the cases call several functions.
    """
    if not cases:
        return None
    if not all(isinstance(case, Mapping) and {"input", "output"} <= case.keys() for case in cases):
        raise FieldError(f"field `{field}` holds a case without `input` or `output`")
    functions = {_function(case) for case in cases}
    if len(functions) > 1:
        raise FieldError(f"field `{field}` tests several functions: {', '.join(map(str, sorted(map(str, functions))))}")
    inputs, outputs = [case["input"] for case in cases], [case["output"] for case in cases]
    function = functions.pop()
    return call_tests(function, inputs, outputs, field) if function else piped_tests(inputs, outputs)


def piped_tests(inputs: Sequence[Any], outputs: Sequence[Any]) -> dict[str, Any] | None:
    """Tests through standard input and output; some sources write a text as the list of its lines."""
    if not inputs:
        return None
    return {
        "kind": "stdio",
        "inputs": [_text(value) for value in inputs],
        "outputs": [_text(value) for value in outputs],
    }


def call_tests(function: str, inputs: Sequence[Any], outputs: Sequence[Any], field: str) -> dict[str, Any] | None:
    """Tests that call a function: arguments as a list, or as text with one JSON value a line.

    APPS and its descendants put each output into a list of one, so where all are, they are taken out.

    Raises:
        FieldError: a text is not JSON.
    """
    if not inputs:
        return None
    arguments = [_arguments(value, field) for value in inputs]
    expected = [_json(value, field) if isinstance(value, str) else value for value in outputs]
    # Text is a call's plain value, as LiveCodeBench writes it; only values that came as values are wrapped.
    wrapped = [value for value in outputs if isinstance(value, list) and len(value) == 1]
    if len(wrapped) == len(outputs):
        expected = [value[0] for value in wrapped]
    return {"kind": "call", "function": function, "inputs": arguments, "outputs": expected}


def _function(case: Mapping[str, Any]) -> str | None:
    metadata = case.get("metadata") or {}
    name = case.get("fn_name") or (metadata.get("func_name") if isinstance(metadata, Mapping) else None)
    return str(name) if name else None


def _arguments(value: Any, field: str) -> list[Any]:
    if isinstance(value, str):
        return [_json(line, field) for line in value.split("\n") if line.strip()]
    if not isinstance(value, list):
        raise FieldError(f"field `{field}` holds arguments that are {type(value).__name__}, not a list")
    return value


def _json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise FieldError(f"field `{field}` holds {text[:80]!r} for a call, which is not JSON") from None


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(str(line) for line in value)
    return "" if value is None else str(value)
