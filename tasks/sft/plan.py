"""Which samples each update learns from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tasks.sft.config import SftConfig
from tasks.training.packing import pack, plan_epoch
from tasks.training.schedule import learning_rate


class Update(NamedTuple):
    """One update: its learning rate and the indices of its samples."""

    lr: float
    samples: list[int]


class Plan(NamedTuple):
    """All updates in order, and the samples that are too long for any."""

    updates: list[Update]
    overlong: list[int]


def plan_training(lengths: Sequence[int], config: SftConfig) -> Plan:
    """Pack once, shuffle the packs anew for each epoch, give each update its learning rate.

    Raises:
        ValueError: no sample fits into `max_length`.
    """
    packing = pack(lengths, config.max_length)
    if not packing.packs:
        raise ValueError(f"none of {len(lengths)} samples has at most {config.max_length} tokens; raise max_length")
    steps = [
        samples
        for epoch in range(config.num_epochs)
        for samples in plan_epoch(packing.packs, config.sequences_per_step, seed=f"{config.seed}/{epoch}")
    ]
    warmup_steps = round(config.warmup_ratio * len(steps))
    updates = [Update(_rate(step, len(steps), warmup_steps, config), samples) for step, samples in enumerate(steps)]
    return Plan(updates, packing.overlong)


def _rate(step: int, num_steps: int, warmup_steps: int, config: SftConfig) -> float:
    return learning_rate(step, peak=config.lr, schedule=config.schedule, num_steps=num_steps, warmup_steps=warmup_steps)
