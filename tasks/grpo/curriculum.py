"""Which prompts a step trains on: the pool in a new random order each epoch, a function of seed and step alone."""

from __future__ import annotations

from random import Random


def batch_indices(num_prompts: int, batch_size: int, step: int, seed: int) -> list[int]:
    """Indices of the prompts of one step, `batch_size` of them; consecutive steps walk through shuffled epochs.

    Raises:
        ValueError: there are fewer prompts than a batch holds, so that a batch would hold a prompt twice.
    """
    if num_prompts < batch_size:
        raise ValueError(
            f"{num_prompts} prompts for batches of {batch_size}; lower prompts_per_batch or measure more prompts"
        )
    per_epoch = num_prompts // batch_size
    epoch, turn = divmod(step, per_epoch)
    order = list(range(num_prompts))
    Random(f"{seed}/{epoch}").shuffle(order)
    return order[turn * batch_size : (turn + 1) * batch_size]
