"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from enum import StrEnum


class Schedule(StrEnum):
    """How the learning rate moves after warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"


def learning_rate(step: int, *, peak: float, schedule: Schedule, num_steps: int, warmup_steps: int) -> float:
    """The rate of update `step` (from 0): linear warm-up that reaches `peak`, then constant or cosine to 0.

    The first update after warm-up and the last of the warm-up both run at `peak`; the cosine would reach 0 at
    `num_steps`, one past the last update.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule is Schedule.CONSTANT:
        return peak
    done = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
