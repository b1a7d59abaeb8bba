"""How a model is fine-tuned."""

from __future__ import annotations

from pydantic import Field

from tasks.training.config import OptimizerConfig
from tasks.training.schedule import Schedule


class SftConfig(OptimizerConfig):
    """Supervised fine-tuning; the defaults are AM's (section 3.3)."""

    lr: float = Field(default=8e-5, gt=0, description="peak learning rate")
    schedule: Schedule = Field(default=Schedule.COSINE, description="cosine decays to 0")
    warmup_ratio: float = Field(default=0.05, ge=0, le=1, description="share of all updates with a rising rate")
    num_epochs: int = Field(default=2, ge=1, description="passes over the samples")
    max_length: int = Field(default=32_768, ge=2, description="tokens of a packed sequence; longer samples are dropped")
    sequences_per_step: int = Field(default=64, ge=1, description="packed sequences of one update, over all ranks")
    save_every_steps: int = Field(default=100, ge=1, description="updates between resume points")
