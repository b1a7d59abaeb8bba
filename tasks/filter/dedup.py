"""Which queries ask the same. Pure: the keeper is the one that comes first, so order the sources by trust."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from tasks.filter.config import DedupConfig
from tasks.filter.reasons import DropReason
from tasks.filter.text import normalise, overlap, signature, stem, words
from tasks.records import Domain, Query

# Answers that say so little that two different questions share them.
_POOR_ANSWERS = frozenset({"yes", "no", "true", "false", "a", "b", "c", "d", "e"})


class Duplicate(NamedTuple):
    """A query that asks what `keeper` asked before it."""

    reason: DropReason
    evidence: str


class Judged(NamedTuple):
    """A query, and what it duplicates; None: it stays."""

    query: Query
    duplicate: Duplicate | None


class _Keeper(NamedTuple):
    id: str
    source: str
    answer: str | None
    tokens: frozenset[str] = frozenset()


def judge_duplicates(queries: Iterable[Query], config: DedupConfig) -> Iterator[Judged]:
    """Each query in order, with the earlier one that it repeats. A duplicate never becomes a keeper itself."""
    exact: dict[bytes, _Keeper] = {}
    reworded: dict[bytes, list[_Keeper]] = {}
    for query in queries:
        key = exact_key(query)
        found = _repeats(query, exact[key], DropReason.DUPLICATE) if key in exact else None
        if found is None and config.near_duplicates:
            found = _find_reworded(query, reworded, config.min_word_overlap)
        if found is None:
            exact[key] = _Keeper(query.id, query.source, query.answer)
        yield Judged(query, found)


def exact_key(query: Query) -> bytes:
    """Digest of the normalised dialog. Case tells code tasks apart (`'a'` and `'A'`), and nothing else."""
    texts = [f"{message.role}: {_same_case(query, message.content)}" for message in query.messages]
    return blake2b("\n\n".join(texts).encode(), digest_size=16).digest()


def rewording_key(query: Query) -> bytes | None:
    """Digest of all numbers and operators in their order, the answer and the domain; None: rewordings cannot be told.

    Two rewordings have equal keys. So have two questions about the same numbers only when their answers agree as well;
    hence "how many has Tom" and "how many has Ann" about one story stay apart.
    """
    if query.choices or query.answer is None or query.answer.strip().lower() in _POOR_ANSWERS:
        return None
    order = signature(words(stem(query)))
    if not order or query.domain is Domain.CODE or len(query.messages) > 1:
        return None
    return blake2b("\n".join([query.domain, normalise(query.answer), *order]).encode(), digest_size=16).digest()


def _same_case(query: Query, text: str) -> str:
    return normalise(text) if query.domain is not Domain.CODE else " ".join(text.split())


def _find_reworded(query: Query, reworded: dict[bytes, list[_Keeper]], min_overlap: float) -> Duplicate | None:
    key = rewording_key(query)
    if key is None:
        return None
    tokens = frozenset(words(stem(query)))
    for keeper in reworded.setdefault(key, []):
        share = overlap(tokens, keeper.tokens)
        if share >= min_overlap:
            return _repeats(query, keeper, DropReason.NEAR_DUPLICATE, f"; words {share:.2f}")
    reworded[key].append(_Keeper(query.id, query.source, query.answer, tokens))
    return None


def _repeats(query: Query, keeper: _Keeper, reason: DropReason, more: str = "") -> Duplicate:
    differs = f"; answers differ: {keeper.answer} ≠ {query.answer}" if keeper.answer != query.answer else ""
    return Duplicate(reason, f"repeats {keeper.id} of {keeper.source}{more}{differs}")
