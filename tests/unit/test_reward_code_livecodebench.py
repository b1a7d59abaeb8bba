"""LiveCodeBench's encoding of tests is read, and nothing in it runs."""

import base64
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from tasks.rewards.code_livecodebench import TestsEncodingError as EncodingError
from tasks.rewards.code_livecodebench import read_livecodebench
from tasks.rewards.code_tests import CallPlan, StdioPlan, plan_tests

SAMPLE = Path(__file__).resolve().parents[2].parent / "shared/data/benchmarks/livecodebench_sample.jsonl"


def packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def row(kind: str = "stdin", hidden: Any = "[]", **changes: Any) -> dict[str, Any]:
    given = {"stdin": ("1\n", "2\n"), "functional": ('[1, 2]\n"a"', "[3]")}[kind]
    shown = [{"input": given[0], "output": given[1], "testtype": kind}]
    metadata = '{"func_name": "join"}' if kind == "functional" else "{}"
    fields = {"question_id": "q7", "public_test_cases": json.dumps(shown), "private_test_cases": packed(hidden)}
    return {**fields, "metadata": metadata, **changes}


def test_standard_input() -> None:
    hidden = json.dumps([{"input": "5\n", "output": "6\n", "testtype": "stdin"}])
    assert read_livecodebench(row(hidden=hidden)) == {
        "kind": "stdio", "inputs": ["1\n", "5\n"], "outputs": ["2\n", "6\n"],
    }  # fmt: skip


def test_functions_get_an_argument_a_line() -> None:
    assert read_livecodebench(row("functional")) == {
        "kind": "call", "function": "join", "inputs": [[[1, 2], "a"]], "outputs": [[3]],
    }  # fmt: skip


class Attack:
    def __reduce__(self) -> Any:
        return os.getpid, ()


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"private_test_cases": packed(Attack())}, "private_test_cases", "names posix.getpid"),
        ({"private_test_cases": packed(["[]"])}, "private_test_cases", "not a text"),
        ({"private_test_cases": "?"}, "private_test_cases", "cannot be read"),
        ({"private_test_cases": packed("[]")[:12]}, "private_test_cases", "cannot be read"),
        ({"private_test_cases": None}, "private_test_cases", "missing"),
        ({"public_test_cases": "[{}]"}, "public_test_cases", "KeyError"),
        ({"public_test_cases": "[]"}, "public_test_cases", "no tests"),
    ],
)
def test_errors_name_row_and_field(changes: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(EncodingError, match=reason) as caught:
        read_livecodebench(row(**changes))
    assert "row q7" in str(caught.value)
    assert f"`{field}`" in str(caught.value)


def test_functional_tests_need_a_function() -> None:
    with pytest.raises(EncodingError, match="func_name"):
        read_livecodebench(row("functional", metadata="{}"))


def test_kinds_are_not_mixed() -> None:
    hidden = json.dumps([{"input": "5\n", "output": "6\n", "testtype": "functional"}])
    with pytest.raises(EncodingError, match="mixed"):
        read_livecodebench(row(hidden=hidden))


@pytest.mark.skipif(not SAMPLE.exists(), reason="the shared data folder is not there")
def test_every_row_of_the_sample_is_read() -> None:
    plans = [plan_tests(read_livecodebench(json.loads(line))) for line in SAMPLE.read_text("utf-8").splitlines()]
    assert len(plans) == 226
    assert sum(isinstance(plan, CallPlan) for plan in plans) == 91
    assert sum(isinstance(plan, StdioPlan) for plan in plans) == 135
