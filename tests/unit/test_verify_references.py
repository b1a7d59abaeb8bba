"""Source solutions of code queries: what becomes of tests that nothing can be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from infra.output import Output
from infra.runtime import Runtime
from tasks.records import Domain, Message, Outcome, Query, Verdict
from tasks.rewards.rewarder import RewardConfig
from tasks.verify import references
from tasks.verify.labels import Found, Ruling, VerifyReason

GOOD = {"kind": "stdio", "inputs": ["1"], "outputs": ["1"]}


def query(name: str, tests: dict[str, Any] | None, solution: str | None = None) -> Query:
    messages = (Message(role="user", content="Echo."),)
    return Query(id=name, domain=Domain.CODE, source="s", messages=messages, tests=tests, solution=solution)


def rule(monkeypatch: pytest.MonkeyPatch, queries: Sequence[Query], outcome: Outcome) -> dict[str, Ruling]:
    class Runner:
        def score(self, batch: Sequence[tuple[Query, str]]) -> list[Verdict]:
            assert all("```python\n" in text for _, text in batch)
            return [Verdict(outcome=outcome, detail="test 0: told") for _ in batch]

    monkeypatch.setattr(references, "open_rewarder", lambda *_: Runner())
    return references.check_references(queries, RewardConfig(), cast(Output, None), Runtime())


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome.PASSED, None),
        (Outcome.WRONG, VerifyReason.REFERENCE_FAILS),
        (Outcome.COMPILE_ERROR, VerifyReason.REFERENCE_FAILS),
        (Outcome.TIME_LIMIT, VerifyReason.REFERENCE_FAILS),
        (Outcome.MEMORY_LIMIT, VerifyReason.REFERENCE_FAILS),
        (Outcome.SANDBOX_ERROR, VerifyReason.VERIFICATION_FAILED),
        (Outcome.TESTS_MISSING, VerifyReason.TESTS_CORRUPT),
    ],
)
def test_every_outcome_has_its_ruling(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, reason: VerifyReason | None
) -> None:
    ruling = rule(monkeypatch, [query("a", GOOD, "print(input())")], outcome)["a"]
    assert ruling.reason is reason
    assert ruling.found is (Found.REFERENCE_PASSES if reason is None else None)
    assert reason is None or ruling.evidence == f"{outcome}: test 0: told"


@pytest.mark.parametrize("solution", [None, "print(input())"])
@pytest.mark.parametrize(
    ("tests", "reason", "told"),
    [
        (None, VerifyReason.TESTS_MISSING, "no tests to judge"),
        ({"kind": "odd"}, VerifyReason.TESTS_CORRUPT, "'odd'"),
        ({"kind": "assert", "asserts": ["assert True"]}, VerifyReason.TESTS_CORRUPT, "asks anything"),
        ({**GOOD, "outputs": []}, VerifyReason.TESTS_CORRUPT, "1 inputs and 0 outputs"),
    ],
)
def test_tests_that_nothing_can_be_judged_by_are_missing_or_corrupt(
    monkeypatch: pytest.MonkeyPatch, tests: dict[str, Any] | None, reason: VerifyReason, told: str, solution: str | None
) -> None:
    ruling = rule(monkeypatch, [query("a", tests, solution)], Outcome.PASSED)["a"]
    assert ruling.reason is reason
    assert told in ruling.evidence


def test_without_a_solution_good_tests_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rule(monkeypatch, [query("a", GOOD)], Outcome.WRONG)["a"].found is Found.NO_REFERENCE
