"""Votes of language models on a query: read from replies, counted, and ended once the outcome is fixed. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from infra.config import Config
from tasks.records import Domain
from tasks.rewards.extract import split_thinking

_RATING = re.compile(r"<rating>\s*(valid|invalid)\s*</rating>", re.IGNORECASE)
_REASONS = re.compile(r"<reasons?>(.*?)</reasons?>", re.IGNORECASE | re.DOTALL)


class JudgeConfig(Config):
    """One judge and how often it votes."""

    model: str = Field(description="model at the endpoint of `role`")
    role: str = Field(default="judge", description="role of the profile whose endpoint serves it; two judges may share")
    votes: int = Field(default=1, ge=1, description="votes on each query; AM: 1, SK: 16")
    temperature: float | None = Field(
        default=None, ge=0, description="choice: left to the endpoint; votes differ only above 0"
    )
    max_tokens: int = Field(default=4096, ge=1, description="choice: longest reply, thinking included")
    seed: int = Field(default=0, ge=0, description="vote i of a query is drawn with seed + i")

    @model_validator(mode="after")
    def _votes_differ(self) -> Self:
        if self.votes > 1 and self.temperature == 0:
            raise ValueError(f"votes = {self.votes} at temperature 0 are all the same; raise it, or use 1 vote")
        return self


class QueryJudgesConfig(Config):
    """Which queries are judged, by whom, and how many votes keep one."""

    judges: tuple[JudgeConfig, ...] = Field(min_length=1, description="AM: one; SK: two models")
    min_valid: int = Field(default=1, ge=1, description="votes for `valid` that keep a query; SK: 9 of 32")
    domains: tuple[Domain, ...] = Field(default=(Domain.MATH,), description="what is judged (AM, SK: math)")
    votes_per_round: int = Field(
        default=8, ge=1, description="choice: votes asked before it is seen whether more can change the outcome"
    )
    spare_votes: int = Field(
        default=1, ge=0, description="choice: further replies of a judge in place of those that hold no rating"
    )
    prompt_version: int = Field(default=1, description="of the prompt, our own choice; raise it with any change of it")

    @property
    def num_votes(self) -> int:
        """Votes of all judges on one query."""
        return sum(judge.votes for judge in self.judges)

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if self.min_valid > self.num_votes:
            raise ValueError(f"min_valid = {self.min_valid} of {self.num_votes} votes keeps nothing; lower it")
        if len({(judge.role, judge.model) for judge in self.judges}) < len(self.judges):
            raise ValueError("two judges are the same model at the same role; give one of them more `votes` instead")
        return self


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
