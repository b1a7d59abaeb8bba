"""MinHash sketches of word sequences, and the buckets in which near-equal texts meet. Pure; `rensa` signs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tasks.filter.config import DuplicateSearch
from tasks.filter.tokens import Hashes, Places, Tokens, hash_sequences, mix, windows

_ODD = np.uint64(0x9FB21C651E98DF25)


class Pairs(NamedTuple):
    """Places of rows that may be duplicates: `first` comes before `second`."""

    first: Places
    second: Places


def band_keys(tokens: Tokens, blocks: Hashes, search: DuplicateSearch) -> Hashes:
    """One key a text and band, [texts, bands]; equal keys: equal block, and some band of equal minima. 0: no words.

    A block holds what near duplicates must share (numbers in order, domain), so that the thousands of instances of one
    template do not meet in one bucket.
    """
    from rensa import RMinHash

    if search.minhash_version != RMinHash.ALGORITHM_VERSION:
        raise ValueError(
            f"minhash_version={search.minhash_version}, but rensa computes version {RMinHash.ALGORITHM_VERSION}; set "
            "filter.dedup.search.minhash_version to that, which makes new sketches"
        )
    shingles = windows(tokens, search.shingle_words, short_too=True)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles.hashes, shingles.starts.astype(np.uint64), search.num_permutations, search.seed
    )
    minima = np.array(matrix.to_rows(), np.uint64).reshape(len(blocks), search.num_bands, -1)
    weights = _ODD ** np.arange(1, minima.shape[2] + 1, dtype=np.uint64)
    bands = mix(np.arange(1, search.num_bands + 1, dtype=np.uint64))
    keys = mix(mix((minima * weights).sum(axis=2, dtype=np.uint64)) ^ bands[None, :] ^ blocks[:, None])
    keys[tokens.counts == 0] = 0
    return keys


def number_orders(tokens: Tokens) -> Hashes:
    """One hash a text, of its numbers in order."""
    return hash_sequences(tokens.numbers())


def meet(keys: Hashes, rows: Places, max_candidates: int) -> Iterator[Pairs]:
    """Pairs of rows with an equal key other than 0: each with the first rows of its bucket and with those just before.

    The first is the likely keeper of a large bucket, so a copy finds it however many copies lie between.
    """
    rows, keys = rows[keys != 0], keys[keys != 0]
    order = np.lexsort((rows, keys))
    rows, keys = rows[order], keys[order]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, np.int64)
    inner = np.arange(len(keys)) - np.repeat(begins, np.diff([*begins, len(keys)]))
    for distance in range(1, max_candidates + 1):
        later = np.flatnonzero(inner >= distance)
        if not len(later):
            return
        yield Pairs(rows[later - distance], rows[later])
        far = later[inner[later] > max_candidates]
        yield Pairs(rows[far - inner[far] + distance - 1], rows[far])


def distinct(pairs: Iterator[Pairs], num_rows: int) -> Pairs:
    """Each pair once, in order of the later row, then of the earlier."""
    packed = [each.second * num_rows + each.first for each in pairs]
    once = np.unique(np.concatenate(packed)) if packed else np.empty(0, np.int64)
    return Pairs(once % num_rows, once // num_rows) if num_rows else Pairs(once, once)
