"""Votes of language models on a query: read from replies, counted, and ended once the outcome is fixed. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from tasks.filter.judge_config import QueryJudgesConfig
from tasks.rewards.extract import split_thinking

_RATING = re.compile(r"<rating>\s*(valid|invalid)\s*</rating>", re.IGNORECASE)
_REASONS = re.compile(r"<reasons?>(.*?)</reasons?>", re.IGNORECASE | re.DOTALL)


class Standing(StrEnum):
    """What the votes so far say; all but `OPEN` are final."""

    VALID = "valid"
    INVALID = "invalid"
    FAILED = "failed"  # votes that could not be had would have decided: nothing is known of the query
    OPEN = "open"


class Rating(NamedTuple):
    """One vote with its reasons."""

    is_valid: bool
    reasons: str


class Reply(NamedTuple):
    """One reply of a judge. `rating` is None where it holds none: such a reply is no vote."""

    judge: int
    sample_index: int
    rating: Rating | None
    told: str
    """The reasons of a vote, or why there is none."""


@dataclass(slots=True)
class Hearing:
    """The replies of all judges to one query, in the order in which they were asked for."""

    config: QueryJudgesConfig
    replies: list[Reply] = field(default_factory=list)

    def num_asked(self, judge: int) -> int:
        """Replies that a judge has given."""
        return sum(reply.judge == judge for reply in self.replies)

    def num_read(self, judge: int) -> int:
        """Votes that a judge has cast."""
        return sum(reply.judge == judge and reply.rating is not None for reply in self.replies)

    @property
    def num_valid(self) -> int:
        """Votes for `valid`."""
        return sum(reply.rating is not None and reply.rating.is_valid for reply in self.replies)

    @property
    def num_uncast(self) -> int:
        """Votes that are not cast yet, or could not be read."""
        return self.config.num_votes - sum(reply.rating is not None for reply in self.replies)

    @property
    def standing(self) -> Standing:
        """Final as soon as no further vote could change it, so that it is the same as after all votes."""
        if self.num_valid >= self.config.min_valid:
            return Standing.VALID
        if self.num_valid + self.num_uncast < self.config.min_valid:
            return Standing.INVALID
        return Standing.OPEN if any(self._wanted()) else Standing.FAILED

    def next_round(self) -> list[int]:
        """Further replies to ask of each judge: a round's votes, judge by judge, so that few requests hold them."""
        left, dealt = self.config.votes_per_round, []
        for wanted in self._wanted():
            dealt.append(min(left, wanted))
            left -= dealt[-1]
        return dealt

    def _wanted(self) -> list[int]:
        """Replies of each judge that could still become votes."""
        return [
            min(judge.votes - self.num_read(place), judge.votes + self.config.spare_votes - self.num_asked(place))
            for place, judge in enumerate(self.config.judges)
        ]

    def tell(self, names: Sequence[str]) -> str:
        """Evidence for a drop: the count, and the first reasons against the query, or why a vote is missing."""
        num_read = sum(reply.rating is not None for reply in self.replies)
        count = f"{self.num_valid} of {num_read} votes say valid, {self.config.min_valid} of {self.config.num_votes}"
        against = [r for r in self.replies if (r.rating is None) == (self.standing is Standing.FAILED)]
        against = [r for r in against if r.rating is None or not r.rating.is_valid]
        return f"{count} are needed" + (f"; {names[against[0].judge]}: {against[0].told}" if against else "")


def read_rating(text: str) -> Rating | None:
    """The last rating in what a reply says after thinking, with its reasons; None where there is none."""
    said = split_thinking(text).answer
    ratings = _RATING.findall(said) if said is not None else []
    if said is None or not ratings:
        return None
    reasons = _REASONS.findall(said)
    return Rating(ratings[-1].lower() == "valid", " ".join((reasons[-1] if reasons else "").split()))
