"""Canonical solutions of real benchmarks pass, and their hollowed-out forms fail."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from infra.sandbox.sandbox import Sandbox
from tasks.records import Outcome
from tasks.rewards.code import CodeConfig, CodeGrader

BENCHMARKS = Path(__file__).resolve().parents[2].parent / "shared/data/benchmarks"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not BENCHMARKS.exists(), reason="the shared data folder is not there"),
]


def rows(name: str, count: int) -> list[dict[str, Any]]:
    lines = (BENCHMARKS / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:: len(lines) // count][:count]]


def hollow(program: str) -> str:
    """Every function's body replaced by `return None`."""
    tree = ast.parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Return(ast.Constant(None))]
    return ast.unparse(ast.fix_missing_locations(tree))


def outcomes(pairs: list[tuple[dict[str, Any], str]]) -> list[Outcome]:
    grader = CodeGrader(CodeConfig(test_s=30.0), Sandbox())
    return [grader.judge_program(tests, program).outcome for tests, program in pairs]


def mbpp() -> list[tuple[dict[str, Any], str]]:
    return [
        ({"kind": "assert", "setup": "\n".join(row["test_imports"]), "asserts": row["test_list"]}, row["code"])
        for row in rows("mbpp_sanitized.jsonl", 60)
    ]


def humaneval() -> list[tuple[dict[str, Any], str]]:
    return [
        ({"kind": "assert", "setup": row["test"], "asserts": [f"check({row['entry_point']})"]},
         row["prompt"] + row["canonical_solution"])
        for row in rows("humaneval.jsonl", 40)
    ]  # fmt: skip


@pytest.mark.parametrize("pairs", [mbpp, humaneval])
def test_canonical_solutions_pass_and_hollow_ones_fail(pairs: Any) -> None:
    real = pairs()
    assert outcomes(real) == [Outcome.PASSED] * len(real)
    assert set(outcomes([(tests, hollow(program)) for tests, program in real])) == {Outcome.WRONG}
