"""Policy of the LLM query filter: which models vote on which queries, and how many votes keep one."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from infra.config import Config
from tasks.records import Domain


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
