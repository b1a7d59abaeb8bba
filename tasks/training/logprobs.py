"""Log-probabilities and entropy of completion tokens. Shapes: B rows, L positions, N scored tokens, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tasks.training.samples import TokenSequence

# Logits held at once; above, they are computed again in the backward pass, piece by piece (2^27 fp32 are 512 MiB).
MAX_LOGITS = 1 << 27


class Entropy(StrEnum):
    """Whether entropy is worked out, and whether the loss has a term in it."""

    NONE = "none"
    VALUE = "value"
    GRADIENT = "gradient"


class TokenBatch(NamedTuple):
    """Right-padded rows. Padding comes after a row's tokens, so under causal attention no token ever sees it."""

    input_ids_B_L: Tensor
    is_completion_B_L: Tensor


class TokenScores(NamedTuple):
    """One value for each completion token, row after row; entropy is all zeros where it was not asked for."""

    logprobs_N: Tensor
    entropy_N: Tensor


def collate(sequences: Sequence[TokenSequence]) -> TokenBatch:
    """Lay sequences out as rows; the fill-in token is 0 and is never looked at."""
    length = max(sequence.num_tokens for sequence in sequences)
    input_ids = torch.zeros(len(sequences), length, dtype=torch.long)
    is_completion = torch.zeros(len(sequences), length, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        start, stop = len(sequence.prompt_ids), sequence.num_tokens
        input_ids[row, :start] = torch.as_tensor(sequence.prompt_ids, dtype=torch.long)
        input_ids[row, start:stop] = torch.as_tensor(sequence.completion_ids, dtype=torch.long)
        is_completion[row, start:stop] = True
    return TokenBatch(input_ids, is_completion)


class TokenScorer(nn.Module):
    """A causal language model that returns scores of completion tokens instead of logits of all tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids_B_L: Tensor,
        is_completion_B_L: Tensor,
        temperature: float = 1.0,
        entropy: Entropy = Entropy.NONE,
    ) -> tuple[Tensor, Tensor]:
        """`TokenScores` as a plain tuple (DeepSpeed's hooks rebuild outputs as tuples). Every prompt has a token.

        Args:
            temperature: rollouts are sampled at T, so logits are divided by T here too, or the ratio is not 1.
            entropy: what is wanted of the entropy; it costs a softmax.
        """
        hidden_B_L_D = self.model.base_model(input_ids=input_ids_B_L, use_cache=False).last_hidden_state
        # The state at position t predicts token t + 1. The vocabulary's matrix is applied to scored positions only.
        hidden_N_D = hidden_B_L_D[:, :-1][is_completion_B_L[:, 1:]]
        targets_N = input_ids_B_L[:, 1:][is_completion_B_L[:, 1:]]
        head = self.model.get_output_embeddings()
        rows = max(1, MAX_LOGITS // self.model.config.vocab_size)
        if hidden_N_D.shape[0] <= rows:
            return score_tokens(head(hidden_N_D), targets_N, temperature, entropy)
        parts = [
            checkpoint(_score_hidden, head, hidden, targets, temperature, entropy, use_reentrant=False)
            for hidden, targets in zip(torch.split(hidden_N_D, rows), torch.split(targets_N, rows), strict=True)
        ]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _score_hidden(
    head: nn.Module, hidden_N_D: Tensor, targets_N: Tensor, temperature: float, entropy: Entropy
) -> TokenScores:
    return score_tokens(head(hidden_N_D), targets_N, temperature, entropy)


def score_tokens(
    logits_N_V: Tensor, targets_N: Tensor, temperature: float = 1.0, entropy: Entropy = Entropy.NONE
) -> TokenScores:
    """Log-probability of each target and entropy (nats) of each distribution at temperature T, in fp32."""
    scaled_N_V = logits_N_V.float()
    if temperature != 1.0:
        scaled_N_V = scaled_N_V / temperature
    logprobs_N = -F.cross_entropy(scaled_N_V, targets_N, reduction="none")
    if entropy is Entropy.NONE:
        return TokenScores(logprobs_N, torch.zeros_like(logprobs_N))
    with torch.set_grad_enabled(entropy is Entropy.GRADIENT and torch.is_grad_enabled()):
        log_p_N_V = F.log_softmax(scaled_N_V, dim=-1)
        entropy_N = -(log_p_N_V.exp() * log_p_N_V).sum(-1)
    return TokenScores(logprobs_N, entropy_N)
