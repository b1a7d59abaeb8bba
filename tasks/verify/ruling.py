"""All labels at once: who voted, which votes contradict their label, what the arbiter says of those."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tasks.records import Domain, Query, Response
from tasks.verify.answers import answer_of, is_choice
from tasks.verify.labels import Found, Ruling, VerifyReason, arbitrate, arbitration_pairs, contested
from tasks.verify.votes import Ballot, Comparisons, Vote, pairs_of

AskArbiter = Callable[[Sequence[Query]], Mapping[str, str | None]]
LABELLED = frozenset({Domain.MATH, Domain.SCIENCE})


class Case(NamedTuple):
    """A query and what the teacher answered; texts are cut down to answers at once, for thinking is long."""

    query: Query
    ballot: Ballot | None


def case_of(query: Query, responses: Sequence[Response]) -> Case:
    """A query with the ballot of its responses; without one where there is no label to vote on."""
    if query.domain not in LABELLED or query.answer is None:
        return Case(query, None)
    answers = [answer_of(query, response.text) for response in responses]
    given = tuple(answer for answer in answers if answer is not None)
    alternatives = () if is_choice(query) else query.alternatives
    return Case(query, Ballot(query.id, query.answer, given, is_choice(query), alternatives))


def rule_on_labels(
    cases: Sequence[Case], unverified: str, comparisons: Comparisons, ask_arbiter: AskArbiter
) -> dict[str, Ruling]:
    """Query id → ruling, for every math and science query; two batches of comparisons and one of arbitration.

    Args:
        unverified: `keep` or `drop`: what becomes of a label without any teacher answer.
        ask_arbiter: queries → the arbiter's answer by query id; None where it gave none.
    """
    rulings = {c.query.id: _without_vote(c, unverified) for c in cases if c.query.domain in LABELLED}
    ballots = {c.query.id: c.ballot for c in cases if c.ballot is not None and c.ballot.answers}
    comparisons.ask(pair for ballot in ballots.values() for pair in pairs_of(ballot))
    results = {query_id: contested(ballot, comparisons) for query_id, ballot in ballots.items()}
    votes = {query_id: vote for query_id, vote in results.items() if isinstance(vote, Vote)}
    opinions = ask_arbiter([case.query for case in cases if case.query.id in votes]) if votes else {}
    comparisons.ask(
        pair
        for query_id, vote in votes.items()
        for pair in arbitration_pairs(ballots[query_id], vote, opinions.get(query_id))
    )
    rulings |= {query_id: ruling for query_id, ruling in results.items() if isinstance(ruling, Ruling)}
    return rulings | {
        query_id: arbitrate(ballots[query_id], vote, opinions.get(query_id), comparisons)
        for query_id, vote in votes.items()
    }


def _without_vote(case: Case, unverified: str) -> Ruling:
    if case.ballot is None:
        return Ruling("", None, VerifyReason.LABEL_MISSING, "nothing that a response could be judged by")
    if unverified == "keep":
        return Ruling(case.ballot.label, Found.UNCHECKED)
    return Ruling(case.ballot.label, None, VerifyReason.NO_TEACHER_ANSWER, "no teacher response with an answer")
