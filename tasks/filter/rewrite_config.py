"""Policy of rewriting multiple choice: who rewrites, who checks, and what becomes of what cannot be rewritten."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.config import Config
from tasks.records import Domain
from tasks.rewards.math import MathConfig


class RewriterConfig(Config):
    """A model in the rewriting."""

    model: str = Field(description="model at the endpoint of `role`")
    role: str = Field(description="role of the profile whose endpoint serves it")
    temperature: float | None = Field(default=None, ge=0, description="choice: left to the endpoint")
    max_tokens: int = Field(default=8192, ge=1, description="choice: longest reply, thinking included")
    seed: int = Field(default=0, ge=0, description="of its sampling")


class ChoiceRewriteConfig(Config):
    """Which multiple-choice queries are rewritten, and what becomes of the others."""

    rewriter: RewriterConfig = Field(description="the model that rewrites")
    answerer: RewriterConfig = Field(description="a model that must come to the answer from the rewritten question")
    domains: tuple[Domain, ...] = Field(default=(Domain.MATH,), description="what is rewritten (AM: math)")
    otherwise: Literal["keep", "drop"] = Field(
        default="keep", description="choice: what becomes of one that cannot be rewritten; kept, it stays as it is"
    )
    max_text_words: int = Field(
        default=3, ge=0, description="choice: longest answer in words that is no formula, so is compared as text"
    )
    prompt_version: int = Field(default=1, description="of the prompt, our own choice; raise it with any change of it")

    @model_validator(mode="after")
    def _has_answers(self) -> Self:
        if others := sorted(set(self.domains) - {Domain.MATH, Domain.SCIENCE}):
            raise ValueError(f"{', '.join(others)}: only answers of math and science can be compared; leave them out")
        return self


class RewriteCheck(Config):
    """What `rewrite_choices` depends on."""

    rewrite: ChoiceRewriteConfig
    math: MathConfig = Field(description="how answers are compared; that of the rewards")
