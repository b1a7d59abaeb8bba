"""Which queries leak a benchmark. Pure: an index of the benchmarks, and what a query has in common with it.

Four signals: equal text of any length; a benchmark's numbers and operators in order with like words; all of its numbers
and a large share of its word sequences (13-grams; shorter ones in short prompts); and equal asserts. Hashes of words
find the candidates at the speed of NumPy; the words themselves decide.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.filter.config import DecontaminationConfig, LeakSearch
from tasks.filter.leaks import Leak
from tasks.filter.ngrams import Hits, NgramTable
from tasks.filter.reasons import DropReason
from tasks.filter.text import head, overlap, signature, stem, user_texts, without_figures, without_frame, words
from tasks.filter.tokens import Hashes, Tokens, hash_sequences, hash_tokens
from tasks.records import Query

__all__ = ["BenchmarkIndex", "Leak", "LeakScan", "Match", "find_leaks", "scan", "strongest", "weigh"]

Words = tuple[str, ...]
BATCH_ROWS = 2_000
EVIDENCE_CHARS = 400


class Match(NamedTuple):
    """A signal: what a query shares with a benchmark. Whether it is a leak is policy."""

    query_id: str
    source: str
    leak: Leak
    answers_agree: bool = False
    is_short: bool = False  # the benchmark's prompt is, so its sequences are short ones


class _Item(NamedTuple):
    """A benchmark's query."""

    id: str
    benchmark: str
    text: str
    answer: str | None
    numbers: Counter[str]


class _Suspect(NamedTuple):
    """A query that shares word sequences with a benchmark."""

    id: str
    source: str
    texts: list[str]


class LeakScan(NamedTuple):
    """What a part of the queries shares with the benchmarks: what is told at once, and word sequences to be weighed."""

    matches: list[Match]
    suspects: list[_Suspect]
    hits: Hits  # rows are places in `suspects`


class BenchmarkIndex:
    """All benchmarks, ready to be compared with queries."""

    def __init__(self, benchmarks: Iterable[Query], config: DecontaminationConfig | LeakSearch) -> None:
        self.config = config if isinstance(config, DecontaminationConfig) else DecontaminationConfig(search=config)
        self.search = self.config.search
        self.items: list[_Item] = []
        self._by_text: dict[Words, int] = {}
        self._by_signature: dict[Words, list[int]] = defaultdict(list)
        self._by_assert: dict[str, set[int]] = defaultdict(set)
        self._words: list[frozenset[str]] = []
        self._word_items: list[int] = []
        spoken: list[str] = []
        texts: list[str] = []
        for query in benchmarks:
            self._add(query)
            spoken += comparable(query)
            texts.append(comparable(query)[-1] if comparable(query) else "")
        self.ngrams = NgramTable(texts, self.search.ngram_words, self.search.short_ngram_words)
        tokens = hash_tokens(spoken)
        self._sequences = np.unique(hash_sequences(tokens))
        self._vocabularies: dict[int, list[frozenset[int]]] = defaultdict(list)
        for number, order in enumerate(_orders(tokens).tolist()):
            self._vocabularies[order].append(_vocabulary(tokens, number))
        self._vocabularies.pop(0, None)  # without a number no order can be told
        self._orders = np.array(sorted(self._vocabularies), np.uint64)

    def _add(self, query: Query) -> None:
        place = len(self.items)
        texts = comparable_texts(query, self.search.min_stem_words)
        for text in texts:
            self._by_text.setdefault(text, place)
            if order := signature(text):
                self._by_signature[order].append(len(self._words))
                self._words.append(frozenset(text))
                self._word_items.append(place)
        for statement in asserts(query):
            self._by_assert[statement].add(place)
        self.items.append(_Item(query.id, query.source, stem(query), query.answer, count_numbers(texts[-1:])))

    def candidates(self, tokens: Tokens) -> list[int]:
        """Texts that may be equal to one of a benchmark, or a rewording of one: equal numbers, some equal words."""
        orders = _orders(tokens)
        is_same = _is_among(hash_sequences(tokens), self._sequences)
        maybe = np.flatnonzero(is_same | _is_among(orders, self._orders))
        return [k for k in maybe.tolist() if is_same[k] or self._is_near(_vocabulary(tokens, k), int(orders[k]))]

    def _is_near(self, own: frozenset[int], order: int) -> bool:
        # Words alone may overlap less than words and operators do, so this asks for less than the policy can.
        return any(6 * len(own & other) >= len(own) + len(other) for other in self._vocabularies[order])

    def find_texts(self, query: Query) -> Iterator[Match]:
        """The benchmark's query with an equal text; or else the closest rewordings, with and without the answer."""
        texts = comparable_texts(query, self.search.min_stem_words)
        for text in texts:
            if text in self._by_text:
                yield self.match(query, self._by_text[text], DropReason.LEAK_EXACT, 1.0, "equal text")
                return
        best: dict[bool, tuple[float, int]] = {}
        for text in texts:
            own = frozenset(text)
            for number in self._by_signature.get(signature(text), []):
                place = self._word_items[number]
                agrees = query.answer is not None and query.answer == self.items[place].answer
                best[agrees] = max(best.get(agrees, (0.0, 0)), (overlap(own, self._words[number]), -place))
        for agrees, (share, place) in sorted(best.items(), reverse=True):
            if share >= self.search.min_word_overlap:
                how = f"same numbers in order, words {share:.2f}"
                yield self.match(query, -place, DropReason.LEAK_REWORDED, share, how, agrees)

    def find_asserts(self, query: Query) -> Iterator[Match]:
        """The benchmark's query that shares the most asserts."""
        statements = set(asserts(query))
        shared = Counter(place for statement in statements for place in self._by_assert.get(statement, ()))
        place, count = max(shared.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
        if count:
            yield self.match(query, place, DropReason.LEAK_TESTS, float(count), f"{count} equal asserts")

    def match(
        self, query: Query, place: int, reason: DropReason, score: float, how: str, answers_agree: bool = False
    ) -> Match:
        """The signal that a query shows for an item."""
        return Match(query.id, query.source, self.leak(place, reason, score, how, query.prompt), answers_agree)

    def leak(self, place: int, reason: DropReason, score: float, how: str, text: str) -> Leak:
        """The evidence for an item."""
        item = self.items[place]
        theirs, ours = head(item.text, EVIDENCE_CHARS), head(text, EVIDENCE_CHARS)
        return Leak(item.benchmark, item.id, reason, round(score, 4), how, theirs, ours)


def scan(queries: Iterable[Query], index: BenchmarkIndex) -> LeakScan:
    """One pass over a part of the queries; what is held in memory are the suspects only."""
    found = LeakScan([], [], Hits(np.empty(0, np.int64), np.empty(0, np.int64)))
    rows, grams = [found.hits.rows], [found.hits.grams]
    remaining = iter(queries)
    while batch := list(islice(remaining, BATCH_ROWS)):
        hits = _scan_batch(batch, index, found)
        rows.append(hits.rows)
        grams.append(hits.grams)
    return found._replace(hits=Hits(np.concatenate(rows), np.concatenate(grams)))


def _scan_batch(batch: Sequence[Query], index: BenchmarkIndex, found: LeakScan) -> Hits:
    spoken = [comparable(query) for query in batch]
    owners = np.repeat(np.arange(len(batch)), [len(texts) for texts in spoken])
    tokens = hash_tokens([text for texts in spoken for text in texts])
    for place in sorted({int(owners[text]) for text in index.candidates(tokens)}):
        found.matches.extend(index.find_texts(batch[place]))
    for query in batch:
        if query.tests:
            found.matches.extend(index.find_asserts(query))
    hits = index.ngrams.find(tokens, owners)
    suspects = np.unique(hits.rows)
    num_before = len(found.suspects)
    for place in suspects.tolist():
        found.suspects.append(_Suspect(batch[place].id, batch[place].source, spoken[place]))
    return Hits(np.searchsorted(suspects, hits.rows) + num_before, hits.grams)


def weigh(scans: Sequence[LeakScan], index: BenchmarkIndex) -> Iterator[Match]:
    """All signals of all parts: those told at once, and of each query the item whose sequences it holds most of.

    A suspect that lacks one of the item's numbers is another instance of the same template, and no leak.
    """
    suspects: list[_Suspect] = []
    rows, grams = [], []
    for part in scans:
        yield from part.matches
        rows.append(part.hits.rows + len(suspects))
        grams.append(part.hits.grams)
        suspects += part.suspects
    if not suspects:
        return
    told = -1
    for row, item, share in index.ngrams.shares(
        Hits(np.concatenate(rows), np.concatenate(grams)), index.search.min_ngram_share
    ):
        suspect = suspects[row]
        if row != told and index.items[item].numbers <= count_numbers(map(words, suspect.texts)):
            told = row
            how = f"share of sequences {share:.2f}"
            leak = index.leak(item, DropReason.LEAK_OVERLAP, share, how, suspect.texts[-1])
            yield Match(suspect.id, suspect.source, leak, is_short=index.ngrams.is_short(item))


def is_leak(match: Match, config: DecontaminationConfig) -> bool:
    """The policy."""
    share = config.min_short_ngram_share if match.is_short else config.min_ngram_share
    weakest = {
        DropReason.LEAK_REWORDED: config.min_word_overlap if match.answers_agree else config.min_word_overlap_alone,
        DropReason.LEAK_OVERLAP: share,
        DropReason.LEAK_TESTS: config.min_shared_tests,
    }
    return match.leak.score >= weakest.get(match.leak.reason, 0.0)


def strongest(matches: Iterable[Match], config: DecontaminationConfig) -> dict[str, Leak]:
    """Leaks by query id: of those that the policy takes for leaks the first in the order of the reasons."""
    order = {reason: number for number, reason in enumerate(DropReason)}
    leaks: dict[str, Leak] = {}
    for match in matches:
        before = leaks.get(match.query_id)
        if is_leak(match, config) and (before is None or order[match.leak.reason] < order[before.reason]):
            leaks[match.query_id] = match.leak
    return leaks


def find_leaks(queries: Iterable[Query], index: BenchmarkIndex) -> dict[str, Leak]:
    """Leaks by query id, by the policy that the index was made with."""
    return strongest(weigh([scan(queries, index)], index), index.config)


def comparable(query: Query) -> list[str]:
    """Every user turn and the bare question, without frame and figures, as they are hashed."""
    texts = user_texts(query)
    if stem(query) != query.prompt:
        texts = [*texts, stem(query)]
    return [without_figures(without_frame(text)) for text in texts]


def comparable_texts(query: Query, min_stem_words: int) -> list[Words]:
    """Words of every user turn, and of the bare question where it is long enough to speak for itself."""
    texts = []
    for text in user_texts(query):
        plain = words(without_figures(text))
        texts.append(plain if len(plain) >= min_stem_words else words(text))
    bare = words(without_figures(stem(query))) if stem(query) != query.prompt else ()
    return [*texts, bare] if len(bare) >= min_stem_words else texts


def count_numbers(texts: Iterable[Words]) -> Counter[str]:
    """How often each number occurs."""
    return Counter(token for text in texts for token in text if token[0].isdecimal())


def asserts(query: Query) -> list[str]:
    """Assert tests without spaces; a bare `check(…)` call says nothing."""
    statements = (query.tests or {}).get("asserts") or []
    return ["".join(s.split()) for s in statements if s.startswith("assert")]


def _orders(tokens: Tokens) -> Hashes:
    """One hash a text, of its numbers in order; 0 without a number."""
    numbers = tokens.numbers()
    return np.where(numbers.counts > 0, hash_sequences(numbers), np.uint64(0))


def _vocabulary(tokens: Tokens, text: int) -> frozenset[int]:
    return frozenset(tokens.hashes[tokens.starts[text] : tokens.starts[text + 1]].tolist())


def _is_among(hashes: Hashes, known: Hashes) -> NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return (known[places] == hashes) & (hashes != 0) if len(known) else np.zeros(len(hashes), np.bool_)
