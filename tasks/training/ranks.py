"""A batch cut into the forward passes of one rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tasks.training.logprobs import TokenBatch, collate
from tasks.training.packing import micro_batches, share_of_rank
from tasks.training.samples import TokenSequence

# What a rank computes where it has no samples left: its loss is multiplied by zero.
_BLANK = TokenSequence(prompt_ids=(0,), completion_ids=(0,))


class Pass(NamedTuple):
    """One forward pass. `indices` name the sequences row by row; empty for a blank one."""

    indices: list[int]
    batch: TokenBatch


def passes_of_rank(
    sequences: Sequence[TokenSequence], chosen: Sequence[int], max_tokens: int, rank: int, num_ranks: int
) -> Iterator[Pass]:
    """This rank's passes over the `chosen` sequences; every rank gets equally many."""
    cut = micro_batches([sequences[index].num_tokens for index in chosen], max_tokens)
    for positions in share_of_rank(cut, rank, num_ranks):
        indices = [chosen[position] for position in positions]
        yield Pass(indices, collate([sequences[index] for index in indices] or [_BLANK]))
