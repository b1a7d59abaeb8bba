"""Tests that ingest makes of each code schema judge as they should: the source's solution passes, another does not."""

from collections.abc import Iterator

import pytest

from infra.sandbox.sandbox import Sandbox
from tasks.ingest.adapters.registry import ADAPTERS
from tasks.ingest.catalogue import schemas
from tasks.ingest.native import Draft, NativeRow
from tasks.records import Domain, Outcome
from tasks.rewards.code import CodeConfig, CodeGrader

pytestmark = pytest.mark.integration
# Every made-up row of a code schema asks for a sum, or for one more.
SUM = "print(sum(map(int, input().split())))"
FUNCTIONS = (
    "def f(x):\n    return x + {0}\n\n\nclass Solution:\n    def go(self, n):\n        return n + {0}\n"  # either name
)


@pytest.fixture(scope="module")
def grader() -> Iterator[CodeGrader]:
    sandbox = Sandbox(unsafe=True)
    yield CodeGrader(CodeConfig(), sandbox)
    sandbox.close()


def drafts() -> dict[str, Draft]:
    made = {name: ADAPTERS[name](NativeRow(schemas()[name].row)) for name in ADAPTERS}
    return {name: draft for name, draft in made.items() if draft.domain is Domain.CODE and draft.tests is not None}


@pytest.mark.parametrize("adapter", sorted(drafts()))
def test_the_right_program_passes_and_a_wrong_one_does_not(grader: CodeGrader, adapter: str) -> None:
    draft = drafts()[adapter]
    is_piped = (draft.tests or {})["kind"] == "stdio"
    right = draft.solution or (SUM if is_piped else FUNCTIONS.format(1))
    assert grader.judge_program(draft.tests, right).outcome is Outcome.PASSED
    wrong = "print(0)" if is_piped else FUNCTIONS.format(2)
    assert grader.judge_program(draft.tests, wrong).outcome is Outcome.WRONG
