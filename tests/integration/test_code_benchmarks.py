"""Solutions of real benchmarks pass, and their hollowed-out forms fail."""

import ast
import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.sandbox.sandbox import Sandbox
from tasks.records import Outcome, Verdict
from tasks.rewards.code import CodeConfig, CodeGrader

SHARED = Path(__file__).resolve().parents[2].parent / "shared/data"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SHARED.exists(), reason="the shared data folder is not there"),
]
NUM_THREADS = 3
SAMPLED, NUM_SAMPLED = {"mbpp_train"}, 60  # `--thorough` runs it whole


class Item(NamedTuple):
    """A program with its tests, and where it comes from."""

    name: str
    tests: dict[str, Any]
    program: str


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SHARED / name).read_text(encoding="utf-8").splitlines()]


def humaneval() -> list[Item]:
    return [
        Item(row["task_id"], {"kind": "check", "entry_point": row["entry_point"], "code": row["test"]},
             row["prompt"] + row["canonical_solution"])
        for row in rows("benchmarks/humaneval.jsonl")
    ]  # fmt: skip


def mbpp() -> list[Item]:
    return [
        Item(str(row["task_id"]), asserts(row["test_list"], "\n".join(row["test_imports"])), row["code"])
        for row in rows("benchmarks/mbpp_sanitized.jsonl")
    ]


def mbpp_train() -> list[Item]:
    return [
        Item(str(row["task_id"]), asserts([*row["test_list"], *row["challenge_test_list"]], row["test_setup_code"]),
             row["code"])
        for row in rows("raw/mbpp_train.jsonl")
    ]  # fmt: skip


def leetcode() -> list[Item]:
    return [
        Item(str(index), asserts([lines[-1]], "\n".join(lines[:-1])), row["solutions"])
        for index, row in enumerate(rows("raw/leetcode.jsonl"))
        if (lines := row["tests"]["functional"].strip().split("\n"))
    ]


def asserts(lines: list[str], setup: str) -> dict[str, Any]:
    return {"kind": "assert", "setup": setup, "asserts": lines}


def hollow(program: str) -> str:
    """Every function's body replaced by `return None`."""
    tree = ast.parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Return(ast.Constant(None))]
    return ast.unparse(ast.fix_missing_locations(tree))


SETS = {
    "humaneval": (humaneval, 164),
    "mbpp": (mbpp, 427),
    "mbpp_train": (mbpp_train, 464),
    "leetcode": (leetcode, 600),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


def judge(sandbox: Sandbox, items: list[Item], **config: Any) -> list[Verdict]:
    # Ten times the limit of a test: other tests run beside this one, and no test here is meant to be slow.
    grader = CodeGrader(CodeConfig(test_s=60.0, **config), sandbox)
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        return list(threads.map(lambda item: grader.judge_program(item.tests, item.program), items))


def told(items: list[Item], verdicts: list[Verdict], *, is_right: bool) -> list[str]:
    pairs = zip(items, verdicts, strict=True)
    return [f"{item.name}: {v.outcome} {v.detail}" for item, v in pairs if v.outcome.is_right is is_right]


def check(sandbox: Sandbox, items: list[Item]) -> None:
    """All pass; none of the hollow ones does, and each of those is a wrong answer, not a fault."""
    assert told(items, judge(sandbox, items), is_right=False) == []
    empty = [item._replace(program=hollow(item.program)) for item in items]
    verdicts = judge(sandbox, empty)
    assert told(empty, verdicts, is_right=True) == []
    assert not [verdict for verdict in verdicts if verdict.outcome.is_fault]


@pytest.mark.parametrize("name", SETS)
def test_solutions_pass_and_hollow_ones_fail(sandbox: Sandbox, pytestconfig: pytest.Config, name: str) -> None:
    read, count = SETS[name]
    items = read()
    assert len(items) == count
    if name in SAMPLED and not pytestconfig.getoption("--thorough"):
        items = random.Random(7).sample(items, NUM_SAMPLED)
    check(sandbox, items)


def test_fractions_are_those_that_acecode_recorded(sandbox: Sandbox) -> None:
    """Programs of 20 models with the share of tests that each passed; three import pytest, which no jail has."""
    (row,) = rows("raw/acecode.jsonl")
    items = [
        Item(str(one["pass_rate"]), asserts(row["test_cases"], ""), one["completion"]) for one in row["inferences"]
    ]
    verdicts = judge(sandbox, items, first_failure_exit=False)
    total = len(row["test_cases"])
    pairs = [
        (item, verdict)
        for item, verdict in zip(items, verdicts, strict=True)
        if "No module named 'pytest'" not in verdict.detail
    ]
    assert len(items) - len(pairs) == 3
    for item, verdict in pairs:
        assert verdict.fraction == round(float(item.name) * total) / total, verdict
    assert Counter(verdict.outcome for _, verdict in pairs)[Outcome.PASSED] == 61
