"""The policy loss on flat tokens, with its denominator given: micro-batches and ranks add up to the whole batch.

N is the number of tokens of one micro-batch; `denominator` counts the tokens of the whole update over all ranks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PolicyLoss(NamedTuple):
    """A micro-batch's share of the loss."""

    loss: Tensor
    num_clipped: int
    """Tokens whose ratio the clip held back."""


def policy_loss(
    logprobs_N: Tensor, old_logprobs_N: Tensor, advantages_N: Tensor, denominator: int, clip: tuple[float, float]
) -> PolicyLoss:
    """Token-level clipped surrogate: −Σ min(ratio·A, clip(ratio)·A) / denominator.

    Args:
        old_logprobs_N: of the weights that sampled; without gradient. On-policy they equal `logprobs_N`, the ratio is 1
            and the gradient is that of −Σ A·log p / denominator, whatever the clip.
        clip: how far below and above 1 the ratio counts.
    """
    ratio_N = torch.exp(logprobs_N - old_logprobs_N)
    plain_N = ratio_N * advantages_N
    clipped_N = ratio_N.clamp(1.0 - clip[0], 1.0 + clip[1]) * advantages_N
    return PolicyLoss(
        loss=-torch.minimum(plain_N, clipped_N).sum() / denominator,
        num_clipped=int((clipped_N < plain_N).sum()),
    )


def entropy_loss(entropy_N: Tensor, coefficient: float, denominator: int) -> Tensor:
    """−coefficient · mean entropy: raises entropy where the coefficient is positive (SK eq. 3.2)."""
    return -coefficient * entropy_N.sum() / denominator


def kl_loss(logprobs_N: Tensor, reference_logprobs_N: Tensor, coefficient: float, denominator: int) -> Tensor:
    """coefficient · mean of the non-negative estimator r − 1 − log r of KL(policy ‖ reference), r = p_ref / p."""
    log_ratio_N = reference_logprobs_N - logprobs_N
    return coefficient * (log_ratio_N.exp() - 1.0 - log_ratio_N).sum() / denominator
