"""What becomes of a label, given the teacher's vote and the arbiter's answer (AM § 3.1). Pure: no model, no file."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from tasks.records import Outcome
from tasks.verify.votes import Ballot, Comparisons, FailedComparisonError, Pair, Vote, majority


class VerifyReason(StrEnum):
    """Why a query leaves."""

    LABEL_MISSING = "label_missing"
    LABEL_UNPARSEABLE = "label_unparseable"
    LABEL_UNRESOLVED = "label_unresolved"
    SOLUTION_MISSING = "solution_missing"
    SOLUTION_DISAGREES = "solution_disagrees"
    NO_TEACHER_ANSWER = "no_teacher_answer"
    VERIFICATION_FAILED = "verification_failed"
    TESTS_MISSING = "tests_missing"
    TESTS_CORRUPT = "tests_corrupt"
    REFERENCE_FAILS = "reference_fails"


class Found(StrEnum):
    """What was found about a label."""

    AGREED = "teacher majority agrees"
    CONFIRMED = "arbiter sides with the label"
    CORRECTED = "label corrected"
    UNCHECKED = "no teacher answer, kept"
    REFERENCE_PASSES = "reference passes its tests"
    NO_REFERENCE = "tests without a reference"


class Ruling(NamedTuple):
    """Keep the query with `label` (`found` says why), or drop it for `reason`.

    `agreement` is the share of the teacher's answers that equal the label kept; None without a vote.
    """

    label: str
    found: Found | None
    reason: VerifyReason | None = None
    evidence: str = ""
    agreement: float | None = None


def contested(ballot: Ballot, comparisons: Comparisons) -> Vote | Ruling:
    """The vote where it contradicts the label, so that the arbiter is to be asked; else the ruling."""
    try:
        vote = majority(ballot, comparisons)
        if comparisons.has_label(vote.answer, ballot):
            return Ruling(ballot.label, Found.AGREED, agreement=vote.num_for_label / vote.num_answers)
    except FailedComparisonError as error:
        return Ruling(ballot.label, None, VerifyReason.VERIFICATION_FAILED, str(error))
    if not ballot.is_choice and comparisons.outcome(ballot.label, vote.answer) is Outcome.GOLD_UNPARSEABLE:
        return Ruling(ballot.label, None, VerifyReason.LABEL_UNPARSEABLE, f"label {ballot.label!r} cannot be parsed")
    return vote


def arbitration_pairs(ballot: Ballot, vote: Vote, arbiter: str | None) -> list[Pair]:
    """The comparisons that `arbitrate` needs."""
    if arbiter is None or ballot.is_choice:
        return []
    return [Pair(known, arbiter) for known in (*ballot.labels, vote.answer)]


def arbitrate(ballot: Ballot, vote: Vote, arbiter: str | None, comparisons: Comparisons) -> Ruling:
    """Rule on a contested label.

    Arbiter equals the label, or an alternative of it: the label stays. Arbiter equals the majority: the label becomes
    the arbiter's answer. Neither, or no answer: the query is dropped as unresolved.
    """
    told = f"label {ballot.label!r}, {vote.num_votes} of {vote.num_answers} say {vote.answer!r}, arbiter {arbiter!r}"
    if arbiter is not None:
        try:
            if comparisons.has_label(arbiter, ballot):
                return Ruling(
                    ballot.label, Found.CONFIRMED, evidence=told, agreement=vote.num_for_label / vote.num_answers
                )
            if comparisons.are_equal(vote.answer, arbiter, ballot):
                return Ruling(arbiter, Found.CORRECTED, evidence=told, agreement=vote.num_votes / vote.num_answers)
        except FailedComparisonError as error:
            return Ruling(ballot.label, None, VerifyReason.VERIFICATION_FAILED, str(error))
    return Ruling(ballot.label, None, VerifyReason.LABEL_UNRESOLVED, told)
