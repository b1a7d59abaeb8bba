"""The adaptive entropy coefficient (SK eq. 3.2), a state machine of one number. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tasks.grpo.config import EntropyConfig


class EntropyStep(NamedTuple):
    """What one step uses, and what the next one starts from."""

    used: float
    """α_k, the weight of this step's entropy term."""
    next_coefficient: float
    """c_{k+1}."""


def adapt_entropy(coefficient: float, entropy: float, config: EntropyConfig) -> EntropyStep:
    """α = c while entropy ≤ target, else 0; then c moves by Δ towards the target. c starts at 0.

    Args:
        coefficient: c_k.
        entropy: e_k, mean nats a token of this step's batch before its update.
    """
    used = coefficient if entropy <= config.target else 0.0
    moved = coefficient
    if entropy < config.target:
        moved += config.delta
    elif entropy > config.target:
        moved -= config.delta
    moved = max(config.coefficient_min, moved)
    if config.coefficient_max is not None:
        moved = min(config.coefficient_max, moved)
    return EntropyStep(used, moved)
