"""Word sequences that queries share with benchmarks, weighed by how rare they are. Pure NumPy: no object for a word.

A sequence weighs 1 / number of queries that hold it, so that contest boilerplate ("where m and n are relatively prime
positive integers") weighs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.filter.tokens import Hashes, Places, Tokens, hash_tokens, windows

# Hits are weighed in parts of so many (query, benchmark) rows, which bounds the memory of common boilerplate.
PART_ROWS = 4_000_000


class Hits(NamedTuple):
    """Sequences that queries share with benchmarks: query `rows[k]` holds the sequence of number `grams[k]`."""

    rows: Places
    grams: Places


class Share(NamedTuple):
    """How much of a benchmark's item a query holds."""

    row: int
    item: int
    share: float


class NgramTable:
    """The word sequences of a benchmark's items. An item too short for `length` is cut into sequences of `short`."""

    def __init__(self, texts: Sequence[str], length: int, short: int) -> None:
        self.lengths = (length, short)
        tokens = hash_tokens(texts)
        is_long = tokens.counts >= 2 * length  # so that a rewording leaves some of its sequences whole
        parts = [_grams(tokens, length, is_long), _grams(tokens, short, ~is_long)]
        hashes = np.concatenate([part.hashes for part in parts])
        self.keys, grams = np.unique(hashes, return_inverse=True)
        pairs = np.unique(np.stack([grams, np.concatenate([part.items for part in parts])], axis=1), axis=0)
        self._grams, self._items = pairs[:, 0], pairs[:, 1]  # by sequence, in order
        self._starts = np.searchsorted(pairs[:, 0], np.arange(len(self.keys) + 1))
        self.num_items = len(texts)
        self._is_long = is_long
        self._is_key, self._shift = _bitmap(self.keys)

    def is_short(self, item: int) -> bool:
        """Whether the item is cut into the short sequences."""
        return not self._is_long[item]

    def find(self, tokens: Tokens, owners: Places) -> Hits:
        """Each (owner of a text, sequence) that occurs, once."""
        found = [self._find(tokens, length, owners) for length in self.lengths]
        pairs = np.concatenate(found) if found else np.empty((0, 2), np.int64)
        pairs = np.unique(pairs, axis=0)
        return Hits(pairs[:, 0], pairs[:, 1])

    def shares(self, hits: Hits, min_share: float) -> Iterator[Share]:
        """Every query and item whose share is large enough; of each query the largest first."""
        weights = 1 / np.maximum(1, np.bincount(hits.grams, minlength=len(self.keys)))
        items, grams = self._items, self._grams
        totals = np.bincount(items, weights[grams], minlength=self.num_items)
        # The most that a sequence can give to any item: what cannot reach the share together is not looked at further.
        most = np.maximum.reduceat(weights[grams] / totals[items], self._starts[:-1]) if len(self.keys) else weights
        for rows, grams in self._parts(_reaching(hits, most, min_share)):
            yield from self._shares(rows, grams, weights, totals, min_share)

    def _find(self, tokens: Tokens, length: int, owners: Places) -> NDArray[np.int64]:
        sequences = windows(tokens, length)
        maybe = np.flatnonzero(self._is_key[(sequences.hashes >> self._shift).astype(np.int64)])
        hashes = sequences.hashes[maybe]
        places = np.minimum(np.searchsorted(self.keys, hashes), max(0, len(self.keys) - 1))
        is_there = self.keys[places] == hashes if len(self.keys) else np.zeros(len(hashes), np.bool_)
        texts = np.searchsorted(sequences.starts, maybe[is_there], side="right") - 1
        return np.stack([owners[texts], places[is_there]], axis=1)

    def _parts(self, hits: Hits) -> Iterator[Hits]:
        """The hits, cut between queries."""
        order = np.lexsort((hits.grams, hits.rows))
        rows, grams = hits.rows[order], hits.grams[order]
        sizes = np.cumsum(self._starts[grams + 1] - self._starts[grams])
        begin = 0
        while begin < len(rows):
            done = sizes[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(sizes, done + PART_ROWS)))
            end = int(np.searchsorted(rows, rows[end - 1], side="right"))
            yield Hits(rows[begin:end], grams[begin:end])
            begin = end

    def _shares(
        self, rows: Places, grams: Places, weights: NDArray[Any], totals: NDArray[Any], min_share: float
    ) -> Iterator[Share]:
        counts = self._starts[grams + 1] - self._starts[grams]
        inner = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        items = self._items[np.repeat(self._starts[grams], counts) + inner]
        pairs = np.repeat(rows, counts) * self.num_items + items
        order = np.argsort(pairs, kind="stable")  # sequences stay in order, so sums do not depend on the batches
        pairs, weights_of_pair = pairs[order], np.repeat(weights[grams], counts)[order]
        firsts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
        shared, pairs = np.add.reduceat(weights_of_pair, firsts), pairs[firsts]
        shares = np.round(shared / totals[pairs % self.num_items], 4)
        enough = np.flatnonzero(shares >= min_share)
        for k in enough[np.lexsort((pairs[enough] % self.num_items, -shares[enough], pairs[enough] // self.num_items))]:
            row, item = divmod(int(pairs[k]), self.num_items)
            yield Share(row, item, float(shares[k]))


def _reaching(hits: Hits, most: NDArray[Any], min_share: float) -> Hits:
    """The hits of queries whose sequences can reach a share together."""
    reach = np.bincount(hits.rows, most[hits.grams]) if len(hits.rows) else np.empty(0)
    mask = reach[hits.rows] >= min_share - 1e-3  # shares are rounded, sums of floats are not exact
    return Hits(hits.rows[mask], hits.grams[mask])


class _Grams(NamedTuple):
    hashes: Hashes
    items: Places


def _grams(tokens: Tokens, length: int, chosen: NDArray[np.bool_]) -> _Grams:
    found = windows(tokens, length)
    items = found.texts
    mask = chosen[items]
    return _Grams(found.hashes[mask], items[mask])


class _Bitmap(NamedTuple):
    is_key: NDArray[np.bool_]
    shift: np.uint64


def _bitmap(keys: Hashes) -> _Bitmap:
    """Which leading bits occur: it turns most of the sequences down with one look."""
    bits = min(24, max(10, (16 * len(keys)).bit_length()))
    is_key = np.zeros(1 << bits, np.bool_)
    shift = np.uint64(64 - bits)
    is_key[(keys >> shift).astype(np.int64)] = True
    return _Bitmap(is_key, shift)
