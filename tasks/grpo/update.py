"""One step's updates on an engine: old scores where they are needed, then a gradient for each part of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.grpo.batch import Batch, Part
from tasks.grpo.config import GrpoConfig
from tasks.grpo.entropy import adapt_entropy
from tasks.grpo.loss import entropy_loss, kl_loss, policy_loss
from tasks.training.engine import Engine
from tasks.training.logprobs import Entropy, TokenScorer, TokenScores
from tasks.training.ranks import Pass, passes_of_rank
from tasks.training.schedule import Schedule, learning_rate


@dataclass
class Sums:
    """What a rank adds up over its passes."""

    loss: float = 0.0
    entropy: float = 0.0
    num_clipped: float = 0.0
    num_scored: float = 0.0
    gap: float = 0.0
    """|trainer's − sampler's log-prob|, before the update where there is one update a batch."""
    gap_max: float = 0.0
    grad_norms: list[float] = field(default_factory=list)


class StepResult(NamedTuple):
    """A finished step."""

    metrics: dict[str, float]
    entropy_coefficient: float
    """Of the next step."""


class Updater:
    """Applies batches to an engine.

    Args:
        reference: the stage's first weights, for the KL term; None without one.
        max_tokens: of one forward pass, padding included.
    """

    def __init__(self, engine: Engine, config: GrpoConfig, max_tokens: int, reference: TokenScorer | None) -> None:
        self._engine, self._config, self._max_tokens, self._reference = engine, config, max_tokens, reference
        self._entropy = Entropy.VALUE if config.entropy is None else Entropy.GRADIENT

    def apply(self, batch: Batch, step: int, coefficient: float) -> StepResult:
        """All updates of one batch, and the numbers of its progress line.

        Args:
            step: from 0.
            coefficient: c of the adaptive entropy term.
        """
        old = [self._old_logprobs(batch, part) for part in batch.parts] if self._looks_before else None
        alpha, next_coefficient = 0.0, coefficient
        if self._config.entropy is not None and old is not None:
            alpha, next_coefficient = adapt_entropy(coefficient, self._mean_entropy(old), self._config.entropy)
        sums = Sums()
        lr = self._learning_rate(step)
        for number, part in enumerate(batch.parts):
            self._update(batch, part, None if old is None else old[number].logprobs, alpha, lr, sums)
        return StepResult(self._metrics(batch, sums) | {"lr": lr, "entropy_coefficient": alpha}, next_coefficient)

    @property
    def _looks_before(self) -> bool:
        """True when the batch is scored before its first update: for the ratio of later parts, or for e_k."""
        return self._config.updates_per_batch > 1 or self._config.entropy is not None

    def _learning_rate(self, step: int) -> float:
        config = self._config
        return learning_rate(
            step, peak=config.lr, schedule=Schedule.CONSTANT, num_steps=config.steps, warmup_steps=config.warmup_steps
        )

    def _passes(self, batch: Batch, part: Part) -> Iterator[Pass]:
        chosen = part.samples
        if self._config.entropy is None and self._reference is None:
            # An advantage of 0 leaves nothing of a sample but its tokens in the denominator: not worth a pass.
            chosen = [index for index in chosen if batch.advantages_S[index] != 0.0]
        return passes_of_rank(batch.sequences, chosen, self._max_tokens, self._engine.rank, self._engine.num_ranks)

    def _score(self, one: Pass, entropy: Entropy) -> TokenScores:
        return self._engine.score(one.batch, self._config.temperature, entropy)

    def _update(
        self, batch: Batch, part: Part, old: Sequence[Tensor] | None, alpha: float, lr: float, sums: Sums
    ) -> None:
        num_passes = 0
        for number, one in enumerate(self._passes(batch, part)):
            scores = self._score(one, self._entropy)
            before = scores.logprobs_N.detach() if old is None else old[number]
            self._engine.backward(self._loss(batch, part, one, scores, before, alpha, sums))
            num_passes += 1
        # Nothing to learn from: AdamW would move on its momentum alone.
        if num_passes > 0:
            sums.grad_norms.append(self._engine.step(lr))

    def _loss(
        self, batch: Batch, part: Part, one: Pass, scores: TokenScores, before: Tensor, alpha: float, sums: Sums
    ) -> Tensor:
        if not one.indices:
            return 0.0 * scores.logprobs_N.sum()
        config = self._config
        advantages = _repeat(batch, one.indices).to(before.device)
        loss, num_clipped = policy_loss(
            scores.logprobs_N, before, advantages, part.num_tokens, (config.clip_low, config.clip_high)
        )
        if alpha != 0.0:
            loss = loss + entropy_loss(scores.entropy_N, alpha, part.num_tokens)
        if self._reference is not None:
            loss = loss + kl_loss(scores.logprobs_N, self._refer(one), config.kl_coef, part.num_tokens)
        _add_up(sums, loss, num_clipped, scores, before - _sampled(batch, one.indices).to(before.device))
        return loss

    def _refer(self, one: Pass) -> Tensor:
        assert self._reference is not None
        device = next(self._reference.parameters()).device
        tokens, mask = (tensor.to(device) for tensor in one.batch)
        with torch.no_grad():
            scores = self._reference(tokens, mask, self._config.temperature)
        return TokenScores(*scores).logprobs_N

    def _old_logprobs(self, batch: Batch, part: Part) -> OldScores:
        logprobs, entropy, num_tokens = [], 0.0, 0
        with torch.no_grad():
            for one in self._passes(batch, part):
                scores = self._score(one, Entropy.VALUE)
                logprobs.append(scores.logprobs_N)
                if one.indices:
                    entropy += scores.entropy_N.sum().item()
                    num_tokens += len(scores.entropy_N)
        return OldScores(logprobs, entropy, num_tokens)

    def _mean_entropy(self, old: Sequence[OldScores]) -> float:
        entropy, num_tokens = self._engine.sum_over_ranks(
            [sum(part.entropy for part in old), float(sum(part.num_tokens for part in old))]
        )
        return entropy / max(1.0, num_tokens)

    def _metrics(self, batch: Batch, sums: Sums) -> dict[str, float]:
        mine = [sums.loss, sums.entropy, sums.num_clipped, sums.gap, sums.num_scored]
        loss, entropy, num_clipped, gap, num_scored = self._engine.sum_over_ranks(mine)
        num_tokens = max(1.0, num_scored)
        return batch.metrics | {
            "loss": loss / max(1, len(sums.grad_norms)),
            "grad_norm": max(sums.grad_norms, default=0.0),
            "num_updates": float(len(sums.grad_norms)),
            "entropy": entropy / num_tokens,
            "clip_fraction": num_clipped / num_tokens,
            "logprob_gap_mean": gap / num_tokens,
            "logprob_gap_max": self._engine.max_over_ranks(sums.gap_max),
            "scored_tokens": num_scored,
        }


class OldScores(NamedTuple):
    """Scores of a part before the first update, pass by pass, on this rank."""

    logprobs: list[Tensor]
    entropy: float
    num_tokens: int


def _repeat(batch: Batch, indices: Sequence[int]) -> Tensor:
    """Each sample's advantage, once for each of its completion tokens."""
    advantages = torch.as_tensor(batch.advantages_S[list(indices)], dtype=torch.float32)
    return advantages.repeat_interleave(torch.tensor([len(batch.sequences[i].completion_ids) for i in indices]))


def _sampled(batch: Batch, indices: Sequence[int]) -> Tensor:
    return torch.tensor([logprob for index in indices for logprob in batch.sampled_logprobs[index]])


def _add_up(sums: Sums, loss: Tensor, num_clipped: int, scores: TokenScores, gap_N: Tensor) -> None:
    sums.loss += loss.item()
    sums.num_clipped += num_clipped
    sums.num_scored += len(gap_N)
    sums.entropy += scores.entropy_N.detach().sum().item()
    sums.gap += gap_N.abs().sum().item()
    sums.gap_max = max(sums.gap_max, gap_N.abs().max().item())
