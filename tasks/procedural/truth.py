"""What is wrong with which row: known to whoever makes the corpus, and never written beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class RowRef(NamedTuple):
    """A row by its file name and its index from 0."""

    file: str
    row: int


class BlemishKind(StrEnum):
    """Every fault that is planted; a row carries one at most."""

    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    URL = "url"
    IMAGE = "image"
    PROOF = "proof"
    MULTI_PART = "multi_part"
    INCOMPLETE = "incomplete"
    UNCLEAR = "unclear"
    WRONG_LABEL = "wrong_label"
    BENCHMARK_LEAK = "benchmark_leak"
    NO_TESTS = "no_tests"
    FAILING_REFERENCE = "failing_reference"
    BOUND_CHOICE = "bound_choice"


class DropFamily(StrEnum):
    """The family of reasons under which curation is expected to drop a row."""

    DUPLICATE = "duplicate"
    URL_OR_IMAGE = "url_or_image"
    QUESTION_TYPE = "question_type"
    INVALID_QUERY = "invalid_query"
    CONTAMINATED = "contaminated"
    UNVERIFIABLE = "unverifiable"


DROP_FAMILIES: Mapping[BlemishKind, DropFamily | None] = {
    BlemishKind.EXACT_DUPLICATE: DropFamily.DUPLICATE,
    BlemishKind.NEAR_DUPLICATE: DropFamily.DUPLICATE,
    BlemishKind.URL: DropFamily.URL_OR_IMAGE,
    BlemishKind.IMAGE: DropFamily.URL_OR_IMAGE,
    BlemishKind.PROOF: DropFamily.QUESTION_TYPE,
    BlemishKind.MULTI_PART: DropFamily.QUESTION_TYPE,
    BlemishKind.INCOMPLETE: DropFamily.INVALID_QUERY,
    BlemishKind.UNCLEAR: DropFamily.INVALID_QUERY,
    BlemishKind.WRONG_LABEL: None,  # repaired, not dropped: majority and arbiter agree on the right answer
    BlemishKind.BENCHMARK_LEAK: DropFamily.CONTAMINATED,
    BlemishKind.NO_TESTS: DropFamily.UNVERIFIABLE,
    BlemishKind.FAILING_REFERENCE: DropFamily.UNVERIFIABLE,
    BlemishKind.BOUND_CHOICE: None,  # a good multiple-choice question that cannot be asked without its options
}


@dataclass(frozen=True, slots=True)
class Blemish:
    """One planted fault.

    `variant` tells its form ("recased", "reworded", "markdown", …). `origin` is the row that a duplicate copies, or
    the benchmark row that leaks: of a duplicate and its origin exactly one should survive. `right_answer` is set for
    wrong labels only.
    """

    row: RowRef
    kind: BlemishKind
    variant: str
    origin: RowRef | None = None
    right_answer: str | None = None

    @property
    def drop_family(self) -> DropFamily | None:
        """Why the row is expected to go; None when it should stay, with its label repaired or as it is."""
        return DROP_FAMILIES[self.kind]


class KeepPair(NamedTuple):
    """Two rows of one sentence with one number changed: alike to a reader of words, and both must stay."""

    first: RowRef
    second: RowRef


@dataclass(frozen=True, slots=True)
class Truth:
    """Every blemish by its row; a row that is not listed is a keeper.

    Whether near duplicates are found is meant for the mathematics and code files: chat and instruction prompts of this
    world differ by a single word ("about cats", "about dogs") and say nothing about a detector.
    """

    blemishes: Mapping[RowRef, Blemish]
    keep_pairs: tuple[KeepPair, ...]

    def of_kind(self, kind: BlemishKind) -> tuple[Blemish, ...]:
        """The blemishes of one kind, in row order."""
        return tuple(blemish for _, blemish in sorted(self.blemishes.items()) if blemish.kind is kind)
