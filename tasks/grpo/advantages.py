"""Advantages within groups: (r − mean) / (std + 1e-6), sample std (recipes.md § 7). Pure; no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tasks.grpo.config import Overlong, ZeroVariance

EPSILON = 1e-6
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Judged(NamedTuple):
    """What the advantages need to know of one sample."""

    group: int
    reward: float | None
    """None when grading failed: nothing is said of the sample, so it takes no part at all."""
    is_truncated: bool


class GroupAdvantages(NamedTuple):
    """For each of S samples, in the order given."""

    advantages_S: Floats
    counts_S: Flags
    """True where the sample's tokens belong to the loss, the entropy and the denominator."""
    num_zero_variance: int
    """Groups whose rewards, as far as they are looked at, are all equal."""


def group_advantages(samples: Sequence[Judged], overlong: Overlong, zero_variance: ZeroVariance) -> GroupAdvantages:
    """Advantage of each sample against its own group, and whether it counts.

    Groups may be uneven: samples without a reward are missing from the statistics, never replaced by a zero.
    """
    advantages = np.zeros(len(samples), dtype=np.float64)
    counts = np.array([_counts(sample, overlong) for sample in samples], dtype=np.bool_)
    num_zero_variance = 0
    for members in _members(samples):
        known = [index for index in members if _is_in_statistics(samples[index], overlong)]
        rewards = [_reward(samples[index], overlong) for index in known]
        if is_zero_variance(rewards):
            num_zero_variance += 1
            if zero_variance is ZeroVariance.DROP:
                counts[members] = False
            continue
        mean, std = np.mean(rewards), np.std(rewards, ddof=1)
        advantages[known] = (np.array(rewards) - mean) / (std + EPSILON)
    advantages[[_is_silenced(sample, overlong) for sample in samples]] = 0.0
    return GroupAdvantages(advantages, counts, num_zero_variance)


def is_zero_variance(rewards: Sequence[float]) -> bool:
    """True for equal rewards, and for fewer than two. On the rewards: the std of equal floats need not be exactly 0."""
    return len(set(rewards)) < 2


def _members(samples: Sequence[Judged]) -> list[list[int]]:
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        members[sample.group].append(index)
    return list(members.values())


def _reward(sample: Judged, overlong: Overlong) -> float:
    assert sample.reward is not None
    return 0.0 if sample.is_truncated and overlong is Overlong.REWARD_ZERO else sample.reward


def _is_in_statistics(sample: Judged, overlong: Overlong) -> bool:
    return sample.reward is not None and not (sample.is_truncated and overlong is Overlong.MASK_BEFORE)


def _is_silenced(sample: Judged, overlong: Overlong) -> bool:
    return sample.is_truncated and overlong is not Overlong.REWARD_ZERO


def _counts(sample: Judged, overlong: Overlong) -> bool:
    is_masked = sample.is_truncated and overlong in {Overlong.MASK_BEFORE, Overlong.MASK_AFTER}
    return sample.reward is not None and not is_masked
