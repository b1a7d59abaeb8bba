"""Cases of known truth, written by hand in `math_cases/`: a gold, an answer, what is to be found, and why."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tasks.records import Verdict
from tasks.rewards.math import MathConfig, MathVerifier

FOLDER = Path(__file__).with_name("math_cases")


class Case(NamedTuple):
    gold: Any
    answer: str
    outcome: str
    why: str
    policy: dict[str, Any] = {}


def cases(*names: str) -> list[Case]:
    return [Case(*row) for name in names for row in tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))["rows"]]


BARE = cases("scalars", "units", "collections", "expressions", "texts", "policies")
RESPONSES = cases("responses")


class Verifiers:
    """One verifier a policy, all with their processes until the module ends."""

    def __init__(self) -> None:
        self._opened: dict[str, MathVerifier] = {}

    def of(self, policy: dict[str, Any]) -> MathVerifier:
        key = repr(policy)
        if key not in self._opened:
            # The clock is no part of the truth; the machine may be busy.
            self._opened[key] = MathVerifier(MathConfig(timeout_s=60.0, **policy), num_processes=1)
        return self._opened[key]

    def close(self) -> None:
        for verifier in self._opened.values():
            verifier.close()


@pytest.fixture(scope="module")
def verifiers() -> Iterator[Verifiers]:
    verifiers = Verifiers()
    yield verifiers
    verifiers.close()


def check(case: Case, verdict: Verdict) -> None:
    assert str(verdict.outcome) == case.outcome, f"{case.why}; by {verdict.method}: {verdict.detail}"
    assert (verdict.score is None) == verdict.outcome.is_fault
    assert verdict.method


@pytest.mark.parametrize("case", BARE, ids=lambda case: f"{case.gold} | {case.answer}")
def test_answer(verifiers: Verifiers, case: Case) -> None:
    check(case, verifiers.of(case.policy).compare(case.gold, case.answer))


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case.answer)
def test_response(verifiers: Verifiers, case: Case) -> None:
    check(case, verifiers.of(case.policy).judge(case.gold, case.answer))


def test_there_are_enough_cases_and_no_two_of_them_are_one() -> None:
    told = [(repr(case.gold), case.answer, repr(case.policy)) for case in (*BARE, *RESPONSES)]
    assert len(set(told)) == len(told)
    assert len(told) >= 300
    assert all(case.why for case in (*BARE, *RESPONSES))


@pytest.mark.parametrize(
    ("response", "method"),
    [("#### 5", "label:string"), ("The answer is 5.", "phrase:string"), ("5 in all", "number:string"),
     (r"\boxed{5.0}", "numeric")],
)  # fmt: skip
def test_method_names_where_the_answer_was_found(response: str, method: str) -> None:
    with MathVerifier(MathConfig(fallbacks=("label", "phrase", "number"))) as verifier:  # type: ignore[arg-type]
        assert verifier.judge("5", response).method == method
