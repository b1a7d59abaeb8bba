"""How checkpoints are evaluated."""

from __future__ import annotations

from pydantic import Field

from infra.config import Config
from tasks.generation.policy import SamplingConfig


class BenchmarkRunConfig(Config):
    """Evaluation of one checkpoint on all benchmarks of the recipe."""

    num_samples: int = Field(ge=1, description="k of avg@k: samples a problem")
    sampling: SamplingConfig = Field(description="temperature, top_p, max_tokens, seed")
