"""Several answers to one query become one vote: clusters by verdict, not by spelling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from tasks.records import Outcome

MAX_TRIES = 2


class Pair(NamedTuple):
    """Two answers to be compared; the first is taken for right."""

    gold: str
    answer: str


Compare = Callable[[Sequence[Pair]], Sequence[Outcome]]


class FailedComparisonError(RuntimeError):
    """A comparison timed out or crashed, so nothing is known about its two answers."""


class Ballot(NamedTuple):
    """A query's label and the answers of its teacher samples, in order of sample index; blank answers are left out."""

    query_id: str
    label: str
    answers: tuple[str, ...]
    is_choice: bool = False
    """Answers are option letters: equal when they are the same letter."""
    alternatives: tuple[str, ...] = ()
    """Other labels that are as right."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The label and its alternatives."""
        return tuple(dict.fromkeys((self.label, *self.alternatives)))


class Vote(NamedTuple):
    """The most frequent answer, how many samples gave it, how many gave the label, and how many gave any answer."""

    answer: str
    num_votes: int
    num_for_label: int
    num_answers: int


class Comparisons:
    """Outcomes of comparisons, asked for in batches so that all verifier processes work; equal texts are free."""

    def __init__(self, compare: Compare) -> None:
        self._compare = compare
        self._known: dict[Pair, Outcome] = {}

    def ask(self, pairs: Iterable[Pair]) -> None:
        """Compare what is not known yet. Time-outs and crashes are tried once more: they may be the machine's."""
        wanted = [pair for pair in dict.fromkeys(pairs) if pair.gold != pair.answer and pair not in self._known]
        for _ in range(MAX_TRIES):
            if wanted:
                self._known |= dict(zip(wanted, self._compare(wanted), strict=True))
            wanted = [pair for pair in wanted if _is_failure(self._known[pair])]

    def forget(self) -> None:
        """Drop what is known: a batch is done, and memory stays bounded."""
        self._known.clear()

    def are_equal(self, gold: str, answer: str, ballot: Ballot) -> bool:
        """Do two answers to a ballot's query say the same?

        Raises:
            FailedComparisonError: the comparison timed out or crashed.
        """
        if gold == answer or ballot.is_choice:
            return gold == answer
        outcome = self._known[Pair(gold, answer)]
        if _is_failure(outcome):
            raise FailedComparisonError(f"{outcome.value} comparing {answer!r} with {gold!r}")
        return outcome is Outcome.EQUAL

    def has_label(self, answer: str, ballot: Ballot) -> bool:
        """Does an answer say the same as the label, or as one of its alternatives? One that does is enough.

        Raises:
            FailedComparisonError: none does, and a comparison timed out or crashed.
        """
        failure: FailedComparisonError | None = None
        for label in ballot.labels:
            try:
                if self.are_equal(label, answer, ballot):
                    return True
            except FailedComparisonError as error:
                failure = error
        if failure is not None:
            raise failure
        return False

    def outcome(self, gold: str, answer: str) -> Outcome:
        """What the verifier said; EQUAL for equal texts."""
        return Outcome.EQUAL if gold == answer else self._known[Pair(gold, answer)]


def _is_failure(outcome: Outcome) -> bool:
    return outcome in {Outcome.TIME_OUT, Outcome.CRASH}


def pairs_of(ballot: Ballot) -> list[Pair]:
    """The comparisons that a vote may need: every answer with those before it, and with the label."""
    if ballot.is_choice:
        return []
    different = list(dict.fromkeys(ballot.answers))
    earlier = [Pair(different[i], answer) for j, answer in enumerate(different) for i in range(j)]
    return earlier + [Pair(label, answer) for label in ballot.labels for answer in different]


def clusters_of(ballot: Ballot, comparisons: Comparisons) -> Mapping[str, int]:
    """First answer of each cluster → samples in it. An answer joins the first cluster whose first answer it equals.

    Raises:
        FailedComparisonError: a comparison timed out or crashed.
    """
    sizes: dict[str, int] = {}
    for answer in ballot.answers:
        home = next((first for first in sizes if comparisons.are_equal(first, answer, ballot)), answer)
        sizes[home] = sizes.get(home, 0) + 1
    return sizes


def majority(ballot: Ballot, comparisons: Comparisons) -> Vote:
    """The largest cluster. Of equally large ones that which equals the label, else that which came first.

    A tie is no majority against the label, so it must not cost a label that half of the samples support.

    Raises:
        FailedComparisonError: a comparison timed out or crashed.
        ValueError: the ballot holds no answer.
    """
    sizes = clusters_of(ballot, comparisons)
    if not sizes:
        raise ValueError(f"query {ballot.query_id}: no answers to count; leave it out of the vote")
    most = max(sizes.values())
    tied = [answer for answer, size in sizes.items() if size == most]
    like_label = [answer for answer in sizes if comparisons.has_label(answer, ballot)]
    winner = next((answer for answer in tied if answer in like_label), tied[0])
    return Vote(winner, most, sum(sizes[answer] for answer in like_label), len(ballot.answers))
