"""Rollouts as the update needs them: tokens, advantages, denominators. Pure; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from tasks.grpo.advantages import Floats, Judged, group_advantages
from tasks.grpo.config import GrpoConfig
from tasks.records import Rollout
from tasks.training.samples import TokenSequence


@dataclass(frozen=True, slots=True)
class Part:
    """Samples of one update (the whole batch when strictly on-policy).

    Attributes:
        samples: indices of the samples that count.
        num_tokens: their completion tokens, over all ranks: the loss's denominator.
    """

    samples: list[int]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's rollouts, S of them."""

    sequences: list[TokenSequence]
    sampled_logprobs: list[list[float]]
    advantages_S: Floats
    parts: list[Part]
    metrics: dict[str, float]


def make_batch(rollouts: Sequence[Rollout], config: GrpoConfig) -> Batch:
    """Judge the samples against their groups, and cut the batch into its updates; a group is never split."""
    judged = [Judged(r.group, r.reward, r.stop_reason == "length") for r in rollouts]
    result = group_advantages(judged, config.overlong, config.zero_variance)
    order = {group: number for number, group in enumerate(dict.fromkeys(r.group for r in rollouts))}
    parts = []
    for turn in range(config.updates_per_batch):
        chosen = [
            index
            for index, rollout in enumerate(rollouts)
            if result.counts_S[index] and order[rollout.group] % config.updates_per_batch == turn
        ]
        parts.append(Part(chosen, sum(len(rollouts[index].completion_ids) for index in chosen)))
    return Batch(
        sequences=[TokenSequence(r.prompt_ids, r.completion_ids) for r in rollouts],
        sampled_logprobs=[r.logprobs for r in rollouts],
        advantages_S=result.advantages_S,
        parts=parts,
        metrics=describe(rollouts)
        | {
            "zero_variance_share": result.num_zero_variance / max(1, len(order)),
            "counted_share": float(result.counts_S.mean()) if len(rollouts) else 0.0,
        },
    )


def describe(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Numbers of a batch that need no model. Entropy is estimated from the sampler's own log-probs, over all tokens."""
    rewards = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    logprobs = [logprob for rollout in rollouts for logprob in rollout.logprobs]
    return {
        "reward_mean": fmean(rewards) if rewards else 0.0,
        "length_mean": fmean(len(rollout.completion_ids) for rollout in rollouts) if rollouts else 0.0,
        "truncated_share": fmean(rollout.stop_reason == "length" for rollout in rollouts) if rollouts else 0.0,
        "fault_share": 1.0 - len(rewards) / max(1, len(rollouts)),
        "sampled_entropy": -fmean(logprobs) if logprobs else 0.0,
    }
