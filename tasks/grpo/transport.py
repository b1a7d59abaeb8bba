"""Files between rollout controller and trainer, in the step's scratch folder. A file with its name is whole.

step_00000/rollouts.parquet   controller → trainer: the batch sampled by the base weights (step 0), judged
step_00001/weights/           trainer → controller: Hugging Face folder after 1 update; samples step_00001's batch
stop                          controller → trainer: the number of updates after which the stage is over
final/                        trainer → controller: the stage's last weights; the trainer ends after it
progress.jsonl spec.json trainer.log resume-…/   see tasks.training
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from infra.config import Config
from infra.rows import read_shard, write_shard
from infra.runtime import TrainingRuntime
from tasks.grpo.config import GrpoConfig
from tasks.records import Rollout

TRAINER = "tasks.grpo.trainer"
FINAL_FOLDER = "final"
_STOP_FILE = "stop"


class GrpoSpec(Config):
    """What the controller tells the trainer."""

    base: str = Field(description="Hugging Face folder that the stage starts from")
    folder: str = Field(description="where both leave their files")
    config: GrpoConfig
    runtime: TrainingRuntime


def step_folder(folder: Path, step: int) -> Path:
    """Files of one step, counted from 0."""
    return folder / f"step_{step:05d}"


def rollouts_path(folder: Path, step: int) -> Path:
    """The batch of a step."""
    return step_folder(folder, step) / "rollouts.parquet"


def weights_path(folder: Path, step: int) -> Path:
    """Weights after `step` updates: those that sample step `step`'s batch."""
    return step_folder(folder, step) / "weights"


def write_rollouts(folder: Path, step: int, rollouts: Sequence[Rollout]) -> None:
    """Hand a batch to the trainer: written aside, then renamed."""
    path = rollouts_path(folder, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".aside")
    write_shard(aside, Rollout, rollouts)
    aside.rename(path)


def read_rollouts(folder: Path, step: int) -> list[Rollout]:
    """The batch of a step, in the order in which it was written."""
    return list(read_shard(rollouts_path(folder, step), Rollout))


def request_stop(folder: Path, num_updates: int) -> None:
    """End the stage after `num_updates` updates; the batches of all of them must have been handed over."""
    aside = folder / f"{_STOP_FILE}.aside"
    aside.write_text(str(num_updates), encoding="utf-8")
    aside.rename(folder / _STOP_FILE)


def requested_stop(folder: Path) -> int | None:
    """The number of updates after which to stop; None while nobody has asked."""
    try:
        return int((folder / _STOP_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def forget_weights(folder: Path, step: int) -> None:
    """Delete the weights after `step` updates and fewer: a kill may have left more than one behind."""
    for number in range(1, step + 1):
        if weights_path(folder, number).exists():
            shutil.rmtree(weights_path(folder, number), ignore_errors=True)
