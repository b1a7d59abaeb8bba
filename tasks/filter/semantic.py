"""Which texts ask the same in other words. Pure: pairs that a cheap encoder proposes, whose cosine a transformer tells.

Between the two stand the guards of `semantic_text`: what they object to is never encoded, so a data set of millions
costs a transformer's time for thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from tasks.filter.encoder import Encoder, Vectors
from tasks.filter.neighbours import Neighbours
from tasks.filter.semantic_config import SemanticDedupConfig, SemanticSearch, Support
from tasks.filter.semantic_text import Gist, contradiction, gist_of
from tasks.records import Query

_LONG_ANSWER = 8  # characters of an answer that hardly two questions share
_BLOCK = 1024  # queries that are compared at once; within a block every pair is
Item = TypeVar("Item")


class Encoders(NamedTuple):
    """The cheap one, which sees every text, and the one that decides."""

    candidates: Encoder
    decisions: Encoder


class Likeness(NamedTuple):
    """Two questions that nothing but their words tells apart."""

    ours: Gist
    theirs: Gist
    cosine: float  # of the deciding encoder, to three digits: the same on every machine
    support: Support


class SemanticDuplicate(NamedTuple):
    """A query that asks in other words what its keeper asks."""

    query_id: str
    keeper: Gist
    cosine: float
    support: Support


class Pair(NamedTuple):
    """Two questions that may be one."""

    ours: Gist
    theirs: Gist
    support: Support


def pair_of(ours: Gist, theirs: Gist) -> Pair:
    """Two questions, and what supports that they are one."""
    if ours.answer is None or theirs.answer is None:
        return Pair(ours, theirs, Support.NUMBERS if len(set(ours.numbers)) > 1 else Support.WORDS)
    if ours.answer != theirs.answer:
        return Pair(ours, theirs, Support.NONE)
    says_much = len(set(ours.numbers)) > 1 or ours.choices or len(ours.answer) >= _LONG_ANSWER
    return Pair(ours, theirs, Support.ANSWER if says_much else Support.WORDS)


def may_be_one(pair: Pair) -> bool:
    """False where numbers, opposites, options or names speak against it; strict where no answer speaks for it."""
    return contradiction(pair.ours, pair.theirs, strictly=pair.support is not Support.ANSWER) is None


def score(pairs: Sequence[Pair], encoder: Encoder) -> Iterator[Likeness]:
    """The deciding cosine of each pair."""
    texts = sorted({text for ours, theirs, _ in pairs for text in (ours.text, theirs.text)})
    places = {text: place for place, text in enumerate(texts)}
    vectors = encoder.encode(texts)
    for ours, theirs, support in pairs:
        first, second = vectors[places[ours.text]], vectors[places[theirs.text]]
        yield Likeness(ours, theirs, round(float(np.dot(first.astype(np.float64), second)), 3), support)


class _Place(NamedTuple):
    row: int
    place: int


class _SameNumbers:
    """Gists by their numbers. A template's many instances are all near to each other; one alone has the numbers."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: dict[frozenset[str], list[int]] = {}
        self._gists: list[Gist] = []

    def add(self, gist: Gist) -> None:
        """Add the gist of the next place."""
        same = self._places.setdefault(frozenset(gist.numbers), [])
        if len(set(gist.numbers)) > 1 and len(same) < self._most:
            same.append(len(self._gists))
        self._gists.append(gist)

    def of(self, gist: Gist) -> Iterator[int]:
        """Places of those with the same numbers, whose answers do not differ."""
        for place in self._places.get(frozenset(gist.numbers), ()):
            if pair_of(gist, self._gists[place]).support in {Support.ANSWER, Support.NUMBERS}:
                yield place


class _Known:
    """Gists that others are compared with: those with near vectors, and those with the same numbers."""

    def __init__(self, search: SemanticSearch, dim: int) -> None:
        self._search = search
        self._index = Neighbours(dim, search.neighbours)
        self._same = _SameNumbers(search.neighbours.max_same_numbers)
        self.gists: list[Gist] = []

    def add(self, gists: Sequence[Gist], vectors: Vectors) -> None:
        """Add gists with their vectors; a gist's place is how many were added before it."""
        for gist in gists:
            self._same.add(gist)
        self._index.add(vectors)
        self.gists += gists

    def propose(self, gists: Sequence[Gist], vectors: Vectors) -> list[_Place]:
        """Pairs that are near enough or have the same numbers, in the order of rows and places."""
        near = self._index.near(vectors)
        rows, columns = np.nonzero((near.cosines >= self._search.min_candidate_cosine) & (near.places >= 0))
        found = set(zip(rows.tolist(), near.places[rows, columns].tolist(), strict=True))
        found |= {(row, place) for row, gist in enumerate(gists) for place in self._same.of(gist)}
        return [_Place(row, place) for row, place in sorted(found)]


class BenchmarkGists:
    """All benchmarks, ready to be compared with queries."""

    def __init__(self, benchmarks: Iterable[Query], search: SemanticSearch, encoders: Encoders) -> None:
        self._search, self._encoders = search, encoders
        self._known = _Known(search, encoders.candidates.dim)
        gists = _long_enough(benchmarks, search)
        self._known.add(gists, encoders.candidates.encode([gist.text for gist in gists]))

    def like(self, queries: Iterable[Query]) -> Iterator[Likeness]:
        """Every query beside those of the benchmarks' that it may be, in the order of the queries."""
        for block in _blocks(queries, _BLOCK):
            gists = _long_enough(block, self._search)
            places = self._known.propose(gists, self._encoders.candidates.encode([gist.text for gist in gists]))
            pairs = [pair_of(gists[row], self._known.gists[place]) for row, place in places]
            yield from score([pair for pair in pairs if may_be_one(pair)], self._encoders.decisions)


def _long_enough(queries: Iterable[Query], search: SemanticSearch) -> list[Gist]:
    return [gist for gist in map(gist_of, queries) if gist.num_words >= search.min_words]


def find_semantic_duplicates(
    queries: Iterable[Query], config: SemanticDedupConfig, encoders: Encoders
) -> Iterator[SemanticDuplicate]:
    """Queries that repeat a kept one before them, in order. Only what stays is ever compared against.

    Which queries stay depends on the threshold, so another threshold searches again; it finds its vectors kept.
    """
    kept = {domain: _Kept(config, encoders) for domain in config.domains}
    for block in _blocks((query for query in queries if query.domain in kept), _BLOCK):
        gists = _long_enough(block, config.search)
        for domain in config.domains:
            yield from kept[domain].take([gist for gist in gists if gist.domain is domain])


class _Kept:
    """The keepers of one domain."""

    def __init__(self, config: SemanticDedupConfig, encoders: Encoders) -> None:
        self._config, self._encoders = config, encoders
        self._known = _Known(config.search, encoders.candidates.dim)

    def take(self, gists: Sequence[Gist]) -> list[SemanticDuplicate]:
        """Those of the next queries that repeat a keeper; the others become keepers."""
        vectors = self._encoders.candidates.encode([gist.text for gist in gists])
        known, among = self._known.gists, _earlier(gists, vectors, self._config.search)
        pairs = [(row, pair_of(gists[row], known[place])) for row, place in self._known.propose(gists, vectors)]
        pairs += [(row, pair_of(gists[row], gists[place])) for row, place in among]
        pairs.sort(key=lambda each: each[0])  # and so a row meets its keepers before the earlier rows of its block
        may_be = (pair for _, pair in pairs if pair.support is not Support.NONE)
        found = self._decide([pair for pair in may_be if may_be_one(pair)])
        stay = [row for row, gist in enumerate(gists) if gist.id not in found]
        self._known.add([gists[row] for row in stay], vectors[stay])
        return list(found.values())

    def _decide(self, pairs: Sequence[Pair]) -> dict[str, SemanticDuplicate]:
        """Duplicates by id, each with its likest keeper, the earliest of equals; pairs come in the order of the rows.

        So who is a duplicate is known when a later row meets it, and keeps nobody out.
        """
        found: dict[str, SemanticDuplicate] = {}
        for like in score(pairs, self._encoders.decisions):
            best = found.get(like.ours.id)
            is_likest = best is None or like.cosine > best.cosine
            if is_likest and like.theirs.id not in found and like.cosine >= self._config.min_cosine.of(like.support):
                found[like.ours.id] = SemanticDuplicate(like.ours.id, like.theirs, like.cosine, like.support)
        return found


def _earlier(gists: Sequence[Gist], vectors: Vectors, search: SemanticSearch) -> list[_Place]:
    """Pairs of a block that are near enough or have the same numbers, each row with every one before it."""
    rows, places = np.nonzero(np.tril(vectors @ vectors.T, k=-1) >= search.min_candidate_cosine)
    found = set(zip(rows.tolist(), places.tolist(), strict=True))
    same = _SameNumbers(search.neighbours.max_same_numbers)
    for row, gist in enumerate(gists):
        found |= {(row, place) for place in same.of(gist)}
        same.add(gist)
    return [_Place(row, place) for row, place in sorted(found)]


def _blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Consecutive items, `size` at a time."""
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block
