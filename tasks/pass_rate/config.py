"""How difficulty is measured before RL (recipes.md § 6)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from infra.config import Config
from tasks.generation.policy import SamplingConfig
from tasks.records import Domain


class PassRateConfig(Config):
    """Pass rate of the model to be trained; prompts strictly inside (0, 1) stay."""

    domains: tuple[Domain, ...] = Field(description="only prompts of these domains are measured; others are dropped")
    num_samples: int = Field(ge=2, description="N: samples a prompt")
    keep: Literal["inside", "all"] = Field(
        default="inside", description="inside: strictly between 0 and 1; all: every judged query, to try a pipeline out"
    )
    max_prompts: int | None = Field(default=None, ge=1, description="measure only that many, spread by query id")
    sampling: SamplingConfig = Field(description="temperature, top_p, max_tokens, seed")
