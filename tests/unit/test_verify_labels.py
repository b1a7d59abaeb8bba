"""Votes and rulings on labels, by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.records import Outcome
from tasks.verify.labels import Found, Ruling, VerifyReason, arbitrate, arbitration_pairs, contested
from tasks.verify.votes import Ballot, Comparisons, Pair, Vote, majority, pairs_of


def compare_numbers(pairs: Sequence[Pair]) -> list[Outcome]:
    """Equality of fractions; `hang` times out, words do not parse."""
    return [_compare(*pair) for pair in pairs]


def _compare(gold: str, answer: str) -> Outcome:
    if "hang" in (gold, answer):
        return Outcome.TIME_OUT
    try:
        right = Fraction(gold)
    except ValueError:
        return Outcome.GOLD_UNPARSEABLE
    try:
        return Outcome.EQUAL if Fraction(answer) == right else Outcome.DIFFERENT
    except ValueError:
        return Outcome.ANSWER_UNPARSEABLE


def rule(label: str, answers: Sequence[str], arbiter: str | None = None, is_choice: bool = False) -> Ruling:
    """The whole way of one label, with the arbiter's answer given in advance."""
    ballot = Ballot("q", label, tuple(answers), is_choice)
    comparisons = Comparisons(compare_numbers)
    comparisons.ask(pairs_of(ballot))
    result = contested(ballot, comparisons)
    if isinstance(result, Ruling):
        return result
    comparisons.ask(arbitration_pairs(ballot, result, arbiter))
    return arbitrate(ballot, result, arbiter, comparisons)


# label, teacher's answers, arbiter → label kept, what was found or why it is dropped, agreement
TABLE = [
    ("4", ["4", "4", "4", "4"], None, "4", Found.AGREED, 1.0),
    ("4", ["4", "4", "5", "6"], None, "4", Found.AGREED, 0.5),
    ("1/2", ["0.5", "2/4", "0.7"], None, "1/2", Found.AGREED, 2 / 3),  # spelling plays no part
    ("4", ["5", "4", "5", "4"], None, "4", Found.AGREED, 0.5),  # a tie with the label is the label's
    ("4", ["5", "5", "5", "4"], "5", "5", Found.CORRECTED, 0.75),
    ("4", ["5", "5.0", "10/2"], "5.00", "5.00", Found.CORRECTED, 1.0),  # it becomes the arbiter's answer
    ("4", ["5", "5", "5", "4"], "4", "4", Found.CONFIRMED, 0.25),
    ("4", ["5", "5", "5", "4"], "4.0", "4", Found.CONFIRMED, 0.25),  # a label that stays keeps its spelling
    ("4", ["5", "5", "5", "4"], "7", "4", VerifyReason.LABEL_UNRESOLVED, None),
    ("4", ["5", "5", "5", "4"], None, "4", VerifyReason.LABEL_UNRESOLVED, None),
    ("4", ["5", "6"], "6", "4", VerifyReason.LABEL_UNRESOLVED, None),  # a tie without the label: the first is common
    ("4", ["5", "6"], "5", "5", Found.CORRECTED, 0.5),
    ("Evelyn", ["Evelyn", "Anna", "Evelyn"], None, "Evelyn", Found.AGREED, 2 / 3),  # equal texts need no parser
    ("Evelyn", ["5", "5"], "5", "Evelyn", VerifyReason.LABEL_UNPARSEABLE, None),
    ("4", ["large", "4", "large", "4"], None, "4", Found.AGREED, 0.5),  # an answer that is no number is just unequal
    ("4", ["hang", "4", "4"], None, "4", VerifyReason.VERIFICATION_FAILED, None),
    ("4", ["5", "5"], "hang", "4", VerifyReason.VERIFICATION_FAILED, None),
]


@pytest.mark.parametrize(("label", "answers", "arbiter", "kept", "found", "agreement"), TABLE)
def test_rulings(
    label: str, answers: list[str], arbiter: str | None, kept: str, found: Found | VerifyReason, agreement: float | None
) -> None:
    ruling = rule(label, answers, arbiter)
    assert (ruling.label, ruling.found or ruling.reason) == (kept, found)
    assert ruling.agreement == (None if agreement is None else pytest.approx(agreement))
    assert (ruling.found is None) == (ruling.reason is not None)


def test_letters_are_compared_as_letters() -> None:
    assert rule("B", ["B", "A", "B"], is_choice=True).found is Found.AGREED
    assert rule("B", ["A", "A", "B"], "A", is_choice=True) == Ruling(
        "A", Found.CORRECTED, None, "label 'B', 2 of 3 say 'A', arbiter 'A'", 2 / 3
    )


def test_a_time_out_is_tried_once_more_and_an_outcome_is_asked_once() -> None:
    asked: list[Pair] = []

    def flaky(pairs: Sequence[Pair]) -> list[Outcome]:
        asked.extend(pairs)
        return [Outcome.TIME_OUT if asked.count(pair) == 1 else Outcome.EQUAL for pair in pairs]

    comparisons = Comparisons(flaky)
    ballot = Ballot("q", "4", ("4.0", "4"))
    comparisons.ask(pairs_of(ballot))
    comparisons.ask(pairs_of(ballot))
    assert majority(ballot, comparisons) == Vote("4.0", 2, 2, 2)
    assert len(asked) == 2 * len(set(asked))
    assert Pair("4", "4") not in asked


def test_a_vote_without_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="no answers to count"):
        majority(Ballot("q", "4", ()), Comparisons(compare_numbers))


spellings: list[Callable[[int], str]] = [str, lambda n: f"{n}.0", lambda n: f"{2 * n}/2", lambda n: f" {n} ".strip()]


@given(
    label=st.integers(0, 5),
    answers=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(spellings)), min_size=1, max_size=9),
    truth=st.integers(0, 5),
)
def test_only_arbiter_and_majority_together_change_a_label(
    label: int, answers: list[tuple[int, Callable[[int], str]]], truth: int
) -> None:
    ruling = rule(str(label), [spell(number) for number, spell in answers], str(truth))
    numbers = [number for number, _ in answers]
    most = max(map(numbers.count, numbers))
    tied = [number for number in dict.fromkeys(numbers) if numbers.count(number) == most]
    common = label if label in tied else tied[0]
    if common == label:
        assert ruling.found is Found.AGREED
        assert ruling.label == str(label)
    elif truth == label:
        assert ruling.found is Found.CONFIRMED
        assert ruling.label == str(label)
    elif truth == common:
        assert ruling.found is Found.CORRECTED
        assert ruling.label == str(truth)
    else:
        assert ruling.reason is VerifyReason.LABEL_UNRESOLVED
