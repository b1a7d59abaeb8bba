"""When a stage is over: at its last step, or when the smoothed reward stops growing. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from tasks.grpo.config import GrpoConfig, PlateauConfig


def has_plateaued(rewards: Sequence[float], config: PlateauConfig) -> bool:
    """True when the mean reward of the last window is not `min_delta` above that of the window before.

    Args:
        rewards: mean reward of each step so far, in order.
    """
    if len(rewards) < max(config.min_steps, 2 * config.window):
        return False
    latest = fmean(rewards[-config.window :])
    before = fmean(rewards[-2 * config.window : -config.window])
    return latest - before < config.min_delta


def stage_is_over(rewards: Sequence[float], config: GrpoConfig) -> bool:
    """True after the last step, or on a plateau where the stage looks for one."""
    if len(rewards) >= config.steps:
        return True
    return config.plateau is not None and has_plateaued(rewards, config.plateau)
