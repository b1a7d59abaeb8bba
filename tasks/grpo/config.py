"""How a GRPO stage trains (recipes.md § 7)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from infra.config import Config
from tasks.training.config import OptimizerConfig


class Overlong(StrEnum):
    """What becomes of responses that were cut at the token limit."""

    ADVANTAGE_ZERO = "advantage_zero"  # AM: in the group's statistics, but neither reinforced nor discouraged
    REWARD_ZERO = "reward_zero"  # SK: kept, as wrong
    MASK_BEFORE = "mask_before"  # SK ablation: statistics over the others only, and no advantage
    MASK_AFTER = "mask_after"  # SK ablation: as AM in the statistics, and no part in loss, entropy or denominator


class ZeroVariance(StrEnum):
    """What becomes of groups whose rewards are all equal, so that every advantage is 0."""

    KEEP = "keep"  # their tokens count in the loss's denominator
    DROP = "drop"  # SK: out of the batch, each step


class EntropyConfig(Config):
    """Adaptive entropy term (SK eq. 3.2)."""

    target: float = Field(default=0.2, ge=0, description="nats a token; the term acts at or below it")
    delta: float = Field(default=0.005, gt=0, description="change of the coefficient each step; 0.0001 in SK's scripts")
    coefficient_min: float = Field(default=0.0, description="lower bound of the coefficient")
    coefficient_max: float | None = Field(default=None, description="upper bound; 0.005 in SK's scripts")


class PlateauConfig(Config):
    """When a stage is over before its last step: its reward has stopped growing."""

    window: int = Field(ge=1, description="steps averaged; two windows, side by side, are compared")
    min_delta: float = Field(default=0.0, description="a smaller gain of the mean reward from window to window ends it")
    min_steps: int = Field(default=0, ge=0, description="steps before which a stage never ends")


class GrpoConfig(OptimizerConfig):
    """One GRPO stage. Defaults are what AM and SK share."""

    lr: float = Field(gt=0, description="constant learning rate; AM: 4e-6, then 1e-6")
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up")
    prompts_per_batch: int = Field(default=256, ge=1, description="prompts of one step")
    group_size: int = Field(default=16, ge=2, description="samples of one prompt; one alone has no advantage")
    updates_per_batch: int = Field(default=1, ge=1, description="1: strictly on-policy; more: in parts, in turn")
    steps: int = Field(ge=1, description="most steps of the stage")
    plateau: PlateauConfig | None = Field(default=None, description="ends the stage early; None: never")
    max_response_tokens: int = Field(ge=1, description="token limit of a response")
    temperature: float = Field(default=1.0, gt=0, description="of sampling; the trainer divides its logits by it too")
    clip_low: float = Field(default=0.2, ge=0, le=1, description="the importance ratio counts down to 1 - clip_low")
    clip_high: float = Field(default=0.2, ge=0, description="and up to 1 + clip_high; without effect when on-policy")
    kl_coef: float = Field(default=0.0, ge=0, description="weight of the divergence from the stage's first weights")
    overlong: Overlong = Field(default=Overlong.ADVANTAGE_ZERO, description="what becomes of truncated responses")
    zero_variance: ZeroVariance = Field(default=ZeroVariance.KEEP, description="groups without contrast")
    entropy: EntropyConfig | None = Field(default=None, description="adaptive entropy term; None: no term")
    save_every_steps: int = Field(default=10, ge=1, description="steps between resume points")
