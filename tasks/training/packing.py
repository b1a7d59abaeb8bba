"""Which samples share an update, and which share a forward pass. Pure: lengths in, indices out.

Two layers, for two reasons. *Packs* (first-fit decreasing, a fixed token budget each) decide what a step learns from:
AM's 64 sequences of 32,768 tokens are 64 packs. *Micro-batches* decide how a rank computes it: samples of like length,
right-padded. A sample never attends to another, whatever pack or micro-batch it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple


class Packing(NamedTuple):
    """`packs` of sample indices, and the samples that fit into none."""

    packs: list[list[int]]
    overlong: list[int]


def pack(lengths: Sequence[int], budget: int) -> Packing:
    """First-fit decreasing: the longest sample first, each into the first pack that has room.

    Args:
        lengths: tokens of each sample; ties are broken by position.
        budget: tokens that a pack holds.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    fitting = [index for index in order if lengths[index] <= budget]
    room = _FirstFit(len(fitting), budget)
    packs: list[list[int]] = []
    for index in fitting:
        number = room.take(lengths[index])
        if number == len(packs):
            packs.append([])
        packs[number].append(index)
    return Packing(packs, sorted(index for index in order if lengths[index] > budget))


class _FirstFit:
    """A tournament tree over the packs' room: the first pack with room is found in log time."""

    def __init__(self, num_packs: int, budget: int) -> None:
        self._leaves = 1 << max(0, num_packs - 1).bit_length()
        self._room = [budget] * (2 * self._leaves)

    def take(self, tokens: int) -> int:
        node = 1
        while node < self._leaves:
            node *= 2
            node += self._room[node] < tokens
        self._room[node] -= tokens
        number = node - self._leaves
        while node > 1:
            node //= 2
            self._room[node] = max(self._room[2 * node], self._room[2 * node + 1])
        return number


def plan_epoch(packs: Sequence[Sequence[int]], packs_per_step: int, seed: str) -> list[list[int]]:
    """Sample indices of each step of one epoch: packs in a shuffled order; the last step takes what is left."""
    order = list(packs)
    Random(seed).shuffle(order)
    chunks = [order[start : start + packs_per_step] for start in range(0, len(order), packs_per_step)]
    return [[index for chosen in chunk for index in chosen] for chunk in chunks]


def micro_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices grouped by like length, so that rows × longest row, padding included, stays within `max_tokens`.

    A sample that is longer than `max_tokens` gets a micro-batch of its own.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * longest > max_tokens:
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches


def share_of_rank(batches: Sequence[list[int]], rank: int, num_ranks: int) -> list[list[int]]:
    """Every `num_ranks`-th micro-batch, filled up with empty ones: all ranks must run equally many passes."""
    rounds = -(-len(batches) // num_ranks)
    padded = [*batches, *([] for _ in range(rounds * num_ranks - len(batches)))]
    return padded[rank::num_ranks]
