"""Which queries leak a benchmark. Pure: an index of the benchmarks, and what a query has in common with it.

Four signals: equal text of any length; a benchmark's numbers and operators in order with like words; all of its numbers
and a large share of its word sequences (13-grams), each weighing 1 / number of queries that hold it, so that contest
boilerplate ("where m and n are relatively prime positive integers") weighs nothing; and equal asserts.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import fsum
from typing import NamedTuple

from tasks.filter.config import DecontaminationConfig
from tasks.filter.reasons import DropReason
from tasks.filter.text import head, overlap, signature, stem, user_texts, words
from tasks.records import Query

Words = tuple[str, ...]
_FIGURE = re.compile(r"\[asy\].*?\[/asy\]|\\begin\{tikzpicture\}.*?\\end\{tikzpicture\}|https?://\S+", re.DOTALL)


class Leak(NamedTuple):
    """What a query shares with a benchmark."""

    reason: DropReason
    evidence: str


class _Item(NamedTuple):
    """A benchmark's query."""

    id: str
    benchmark: str
    text: str
    answer: str | None
    ngrams: frozenset[int]
    numbers: Counter[str]


class _Suspect(NamedTuple):
    """A query that shares word sequences with a benchmark."""

    text: str
    ngrams: frozenset[int]
    numbers: Counter[str]


class BenchmarkIndex:
    """All benchmarks, ready to be compared with one query at a time."""

    def __init__(self, benchmarks: Iterable[Query], config: DecontaminationConfig) -> None:
        self.config = config
        self.items: list[_Item] = []
        self._by_text: dict[Words, int] = {}
        self._by_signature: dict[Words, list[tuple[int, frozenset[str]]]] = defaultdict(list)
        self._by_ngram: dict[int, list[int]] = defaultdict(list)
        self._by_assert: dict[str, set[int]] = defaultdict(set)
        for query in benchmarks:
            self._add(query)

    def _add(self, query: Query) -> None:
        place = len(self.items)
        texts = comparable_texts(query, self.config.min_stem_words)
        for text in texts:
            self._by_text.setdefault(text, place)
            if order := signature(text):
                self._by_signature[order].append((place, frozenset(text)))
        ngrams = frozenset(hash_ngrams(texts[-1], self.config.ngram_words)) if texts else frozenset()
        for ngram in ngrams:
            self._by_ngram[ngram].append(place)
        for statement in asserts(query):
            self._by_assert[statement].add(place)
        numbers = count_numbers(texts[-1:])
        self.items.append(_Item(query.id, query.source, stem(query), query.answer, ngrams, numbers))

    def find_text(self, texts: Sequence[Words], answer: str | None) -> tuple[int, DropReason, str] | None:
        """The benchmark's query with an equal text, or with a rewording of one."""
        for text in texts:
            if text in self._by_text:
                return self._by_text[text], DropReason.LEAK_EXACT, "equal text"
        for text in texts:
            own = frozenset(text)
            for place, other in self._by_signature.get(signature(text), []):
                share, agrees = overlap(own, other), answer is not None and answer == self.items[place].answer
                if share >= (self.config.min_word_overlap if agrees else self.config.min_word_overlap_alone):
                    return place, DropReason.LEAK_REWORDED, f"same numbers in order, words {share:.2f}"
        return None

    def find_asserts(self, statements: Sequence[str]) -> tuple[int, DropReason, str] | None:
        """The benchmark's query that shares the most asserts, if they are enough."""
        shared = Counter(place for statement in set(statements) for place in sorted(self._by_assert.get(statement, ())))
        place, count = max(shared.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
        enough = count >= self.config.min_shared_tests
        return (place, DropReason.LEAK_TESTS, f"{count} equal asserts") if enough else None

    def ngrams_of(self, texts: Sequence[Words]) -> frozenset[int]:
        """Those of a query's n-grams that some benchmark holds."""
        found = (ngram for text in texts for ngram in hash_ngrams(text, self.config.ngram_words))
        return frozenset(ngram for ngram in found if ngram in self._by_ngram)

    def find_overlap(self, suspect: _Suspect, num_holders: Counter[int]) -> tuple[int, DropReason, str] | None:
        """The benchmark's query of whose word sequences the suspect holds the largest share, if it is large enough.

        A suspect that lacks one of its numbers is another instance of the same template, and no leak.
        """
        best = (0.0, 0)
        for place in sorted({place for ngram in suspect.ngrams for place in self._by_ngram[ngram]}):
            if self.items[place].numbers <= suspect.numbers:
                weights = {ngram: 1 / max(1, num_holders[ngram]) for ngram in self.items[place].ngrams}
                # fsum is exact, so the order of a set, which differs from process to process, cannot show.
                shared = fsum(weight for ngram, weight in weights.items() if ngram in suspect.ngrams)
                best = max(best, (shared / fsum(weights.values()), -place))
        enough = best[0] >= self.config.min_ngram_share
        return (-best[1], DropReason.LEAK_OVERLAP, f"share of sequences {best[0]:.2f}") if enough else None


def find_leaks(queries: Iterable[Query], index: BenchmarkIndex) -> dict[str, Leak]:
    """Leaks by query id. One pass over the queries; what is held in memory are the suspects only."""
    leaks: dict[str, Leak] = {}
    suspects: dict[str, _Suspect] = {}
    num_holders: Counter[int] = Counter()
    for query in queries:
        texts = comparable_texts(query, index.config.min_stem_words)
        ngrams = index.ngrams_of(texts)
        num_holders.update(ngrams)
        found = index.find_text(texts, query.answer) or index.find_asserts(asserts(query))
        if found is not None:
            leaks[query.id] = _leak(index, *found, text=query.prompt)
        elif ngrams:
            suspects[query.id] = _Suspect(head(query.prompt), ngrams, count_numbers(texts))
    for name, suspect in suspects.items():
        if overlapping := index.find_overlap(suspect, num_holders):
            leaks[name] = _leak(index, *overlapping, text=suspect.text)
    return leaks


def comparable_texts(query: Query, min_stem_words: int) -> list[Words]:
    """Words of every user turn, and of the bare question where it is long enough to speak for itself.

    Figure code and links are taken off: some copies of a problem carry them, others do not.
    """
    texts = []
    for text in user_texts(query):
        plain = words(_FIGURE.sub(" ", text))
        texts.append(plain if len(plain) >= min_stem_words else words(text))
    bare = words(_FIGURE.sub(" ", stem(query))) if stem(query) != query.prompt else ()
    return [*texts, bare] if len(bare) >= min_stem_words else texts


def count_numbers(texts: Iterable[Words]) -> Counter[str]:
    """How often each number occurs."""
    return Counter(token for text in texts for token in text if token[0].isdecimal())


def asserts(query: Query) -> list[str]:
    """Assert tests without spaces; a bare `check(…)` call says nothing."""
    statements = (query.tests or {}).get("asserts") or []
    return ["".join(s.split()) for s in statements if s.startswith("assert")]


def hash_ngrams(text: Words, length: int) -> Iterator[int]:
    """Hashes of all word sequences of a length; a shorter text has none."""
    return (hash(text[start : start + length]) for start in range(len(text) - length + 1))


def _leak(index: BenchmarkIndex, place: int, reason: DropReason, how: str, text: str) -> Leak:
    item = index.items[place]
    return Leak(reason, f"{item.benchmark} {item.id}: {how}; theirs: {head(item.text)!r}; ours: {head(text)!r}")
