"""What the parent tells the SFT trainer, and the names of the files that it leaves."""

from __future__ import annotations

from pydantic import Field

from infra.config import Config
from infra.runtime import TrainingRuntime
from tasks.sft.config import SftConfig

TRAINER = "tasks.sft.trainer"
PLAN_FILE = "plan.json"
FINAL_FOLDER = "final"


class SftSpec(Config):
    """One fine-tuning."""

    base: str = Field(description="Hugging Face folder to start from")
    shards: tuple[str, ...] = Field(description="Parquet files of samples, in order")
    folder: str = Field(description="where resume points, progress and the final weights go")
    config: SftConfig
    runtime: TrainingRuntime


class PlanSummary(Config):
    """Known before the first update; in `plan.json`."""

    num_updates: int
    num_samples: int
    num_overlong: int = Field(description="samples dropped for their length")
    num_tokens: int = Field(description="of all samples, prompts included, once")
