"""Code: tests must exist, and the source's own solution must pass them all (recipes.md § 2)."""

from __future__ import annotations

from collections.abc import Sequence

from infra.output import Output
from infra.runtime import Runtime
from tasks.generation.teacher import source_responses
from tasks.records import Outcome, Query, Verdict
from tasks.rewards.code_tests import BadTestsError, plan_tests
from tasks.rewards.opening import open_rewarder
from tasks.rewards.rewarder import RewardConfig
from tasks.verify.labels import Found, Ruling, VerifyReason


def check_references(
    queries: Sequence[Query], rewards: RewardConfig, out: Output, runtime: Runtime
) -> dict[str, Ruling]:
    """Query id → ruling, for code queries. Without a solution of its source, a query is kept for its tests alone.

    Tests that nothing can be judged by are found before anything runs, with or without a solution.
    """
    rulings = {query.id: _unrun(query) for query in queries}
    checked = [query for query in queries if query.solution and rulings[query.id].reason is None]
    if checked:
        rewarder = open_rewarder(out, runtime, rewards)
        verdicts = rewarder.score([(query, source_responses(query)[0].text) for query in checked])
        rulings |= {query.id: _of_verdict(verdict) for query, verdict in zip(checked, verdicts, strict=True)}
    return rulings


def _unrun(query: Query) -> Ruling:
    if query.tests is None:
        return Ruling("", None, VerifyReason.TESTS_MISSING, "no tests to judge a program by")
    try:
        plan_tests(query.tests)
    except BadTestsError as error:
        return Ruling("", None, VerifyReason.TESTS_CORRUPT, str(error)[:500])
    return Ruling("", Found.NO_REFERENCE)


def _of_verdict(verdict: Verdict) -> Ruling:
    told = f"{verdict.outcome.value}: {verdict.detail}"[:500]
    if verdict.outcome.is_right:
        return Ruling("", Found.REFERENCE_PASSES)
    if verdict.outcome is Outcome.TESTS_MISSING:
        return Ruling("", None, VerifyReason.TESTS_CORRUPT, told)
    if verdict.outcome.is_fault:
        return Ruling("", None, VerifyReason.VERIFICATION_FAILED, told)
    return Ruling("", None, VerifyReason.REFERENCE_FAILS, told)
