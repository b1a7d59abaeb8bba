"""Which queries ask the same. Pure: sketches of all queries in arrays, pairs that may be duplicates, then the policy.

A query is dropped only against a query that stays. Of two that ask the same, an earlier keeper stays, then one that
can be verified, then the one that comes first: order the sources by trust.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.filter.config import DedupConfig, DuplicateSearch
from tasks.filter.minhash import Pairs, band_keys, distinct, meet, number_orders
from tasks.filter.near import NearText, can_be_reworded, liken, near_text
from tasks.filter.reasons import DropReason
from tasks.filter.signals import DuplicateSignal
from tasks.filter.text import normalise, stem
from tasks.filter.tokens import Hashes, hash_tokens
from tasks.records import Domain, Query

BATCH_ROWS = 2_000


class Duplicate(NamedTuple):
    """A query that asks what another asks that stays."""

    reason: DropReason
    evidence: str


class Judged(NamedTuple):
    """A query, and what it duplicates; None: it stays."""

    query: Query
    duplicate: Duplicate | None


class Sketch(NamedTuple):
    """What is held of every query, one row each; some 250 bytes with the bands."""

    exact: Hashes  # [rows, 2], of the normalised dialog
    reworded: Hashes  # of numbers in order, answer and domain; 0: an equal answer would not tell
    bands: Hashes  # [rows, bands]; no column without near duplicates
    is_verified: NDArray[np.bool_]


class Row(NamedTuple):
    """A query of a pair."""

    id: str
    source: str
    domain: Domain
    text: NearText


def sketch(queries: Iterable[Query], search: DuplicateSearch) -> Sketch:
    """Sketches of a part of the queries, in order."""
    remaining = iter(queries)
    parts = [_sketch_batch(batch, search) for batch in iter(lambda: list(islice(remaining, BATCH_ROWS)), [])]
    return join(parts or [_sketch_batch([], search)])


def join(parts: Sequence[Sketch]) -> Sketch:
    """Sketches of all parts."""
    return Sketch(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def equal_rows(sketches: Sketch) -> Pairs:
    """The first of its equals and each later one."""
    order = np.lexsort((sketches.exact[:, 1], sketches.exact[:, 0]))  # stable: equal rows stay in order
    keys = sketches.exact[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    firsts = order[is_first][np.cumsum(is_first) - 1]
    later = np.flatnonzero(~is_first)
    by_row = np.argsort(order[later])
    return Pairs(firsts[later][by_row], order[later][by_row])


def near_rows(sketches: Sketch, equal: Pairs, search: DuplicateSearch) -> Pairs:
    """Rows that may be near duplicates; of equal ones the first stands for all."""
    num_rows = len(sketches.exact)
    stands = np.ones(num_rows, np.bool_)
    stands[equal.second] = False
    rows = np.flatnonzero(stands)
    columns = [sketches.reworded, *sketches.bands.T] if search.near_duplicates else []
    met = (pairs for keys in columns for pairs in meet(keys[rows], rows, search.max_candidates))
    return distinct(met, num_rows)


def signals_of(
    equal: Pairs, near: Pairs, rows: Mapping[int, Row], sketches: Sketch, search: DuplicateSearch
) -> Iterator[DuplicateSignal]:
    """Every pair with its likeness. `rows` holds the queries of all pairs, by place."""
    for first, second in zip(equal.first.tolist(), equal.second.tolist(), strict=True):
        yield _signal(first, second, rows, sketches, DropReason.DUPLICATE)
    for first, second in zip(near.first.tolist(), near.second.tolist(), strict=True):
        ours, theirs = rows[second], rows[first]
        if ours.domain is not theirs.domain:
            continue
        may_reword = bool(sketches.reworded[first]) and sketches.reworded[first] == sketches.reworded[second]
        likeness = liken(ours.text, theirs.text, may_reword)
        if likeness is not None and likeness.score >= search.min_word_overlap:
            signal = _signal(first, second, rows, sketches, DropReason.NEAR_DUPLICATE)
            yield signal.model_copy(update=likeness._asdict())


def decide(
    signals: Iterable[DuplicateSignal], config: DedupConfig, keepers: Collection[str] = ()
) -> dict[str, Duplicate]:
    """What drops, by query id: each against a query that stays. `keepers`: ids that stayed earlier, which win."""
    groups = _Groups(config, keepers)
    for signal in signals:
        if signal.reason is DropReason.DUPLICATE or _is_near(signal, config):
            groups.add(signal)
    return groups.decide()


def judge_duplicates(queries: Iterable[Query], config: DedupConfig, keepers: Collection[str] = ()) -> Iterator[Judged]:
    """Each query in order, with the one that it repeats; all are held in memory."""
    rows = list(queries)
    search = config.search.model_copy(update={"near_duplicates": config.near_duplicates})
    sketches = sketch(rows, search)
    equal = equal_rows(sketches)
    near = near_rows(sketches, equal, search)
    places = set(np.concatenate([*equal, *near]).tolist())
    known = {place: row_of(rows[place]) for place in places}
    drops = decide(signals_of(equal, near, known, sketches, search), config, keepers)
    for query in rows:
        yield Judged(query, drops.get(query.id))


def row_of(query: Query, with_words: bool = True) -> Row:
    """What is compared of a query; of equal ones the answers alone."""
    text = near_text(query) if with_words else NearText(False, "", "", "", normalise(query.answer or ""))
    return Row(query.id, query.source, query.domain, text)


def exact_key(query: Query) -> bytes:
    """Digest of the normalised dialog. Case tells code tasks apart (`'a'` and `'A'`), and nothing else."""
    texts = [f"{message.role}: {_same_case(query, message.content)}" for message in query.messages]
    return blake2b("\n\n".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def is_verified(query: Query) -> bool:
    """Whether an answer can be judged by more than a model."""
    return bool(query.answer or query.tests or query.constraints)


def _sketch_batch(queries: Sequence[Query], search: DuplicateSearch) -> Sketch:
    exact = np.frombuffer(b"".join(map(exact_key, queries)), np.uint64).reshape(-1, 2)
    verified = np.fromiter(map(is_verified, queries), np.bool_, len(queries))
    if not (search.near_duplicates and queries):
        width = search.num_bands if search.near_duplicates else 0
        empty = np.zeros(len(queries), np.uint64)
        return Sketch(exact, empty, np.zeros((len(queries), width), np.uint64), verified)
    dialogs = hash_tokens(["\n\n".join(message.content for message in query.messages) for query in queries])
    domains = np.array([_hash(query.domain) for query in queries], np.uint64)
    bands = band_keys(dialogs, number_orders(dialogs) ^ domains, search)
    bare = hash_tokens([stem(query) for query in queries])
    telling = [
        _hash(f"{query.domain} {normalise(query.answer or '')}") if can_be_reworded(query) else 0 for query in queries
    ]
    answers = np.array(telling, np.uint64)
    has_order = (answers != 0) & (bare.numbers().counts > 0)
    return Sketch(exact, np.where(has_order, number_orders(bare) ^ answers, np.uint64(0)), bands, verified)


def _telling_answer(query: Query) -> int:
    return _hash(f"{query.domain} {normalise(query.answer or '')}") if can_be_reworded(query) else 0


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _same_case(query: Query, text: str) -> str:
    return normalise(text) if query.domain is not Domain.CODE else " ".join(text.split())


def _signal(first: int, second: int, rows: Mapping[int, Row], sketches: Sketch, reason: DropReason) -> DuplicateSignal:
    ours, theirs = rows[second], rows[first]
    differ = "; answers differ" if ours.text.answer != theirs.text.answer else ""
    return DuplicateSignal(
        id=ours.id,
        source=ours.source,
        domain=ours.domain,
        place=second,
        is_verified=bool(sketches.is_verified[second]),
        other=theirs.id,
        other_source=theirs.source,
        other_place=first,
        other_is_verified=bool(sketches.is_verified[first]),
        reason=reason,
        note=f"{differ}: {theirs.text.answer} ≠ {ours.text.answer}" if differ else "",
    )


def _is_near(signal: DuplicateSignal, config: DedupConfig) -> bool:
    is_like = signal.score >= config.min_word_overlap
    is_same = signal.is_rewording or signal.num_changed <= config.max_changed_words
    return config.near_duplicates and signal.domain in config.near_domains and is_like and is_same


class _Member(NamedTuple):
    """A query of a group; the least one wins."""

    is_new: bool
    is_unverified: bool
    place: int
    id: str
    source: str


class _Groups:
    """Equal queries as one group each, and the groups that are near to each other."""

    def __init__(self, config: DedupConfig, keepers: Collection[str]) -> None:
        self._config, self._keepers = config, keepers
        self._members: dict[str, list[_Member]] = {}  # by the id of the group's first query
        self._near: dict[str, dict[str, DuplicateSignal]] = defaultdict(dict)
        self._notes: dict[str, str] = {}

    def add(self, signal: DuplicateSignal) -> None:
        """Take in a pair; those of equal queries come first."""
        other = self._member(signal.other, signal.other_source, signal.other_place, signal.other_is_verified)
        own = self._member(signal.id, signal.source, signal.place, signal.is_verified)
        group = self._members.setdefault(signal.other, [other])
        if signal.reason is DropReason.DUPLICATE:
            group.append(own)
            self._notes[signal.id] = signal.note
        else:
            self._members.setdefault(signal.id, [own])
            self._near[signal.id][signal.other] = signal
            self._near[signal.other][signal.id] = signal

    def decide(self) -> dict[str, Duplicate]:
        """Groups in the order of their winners: each drops whole if it is near to one that stays."""
        drops: dict[str, Duplicate] = {}
        kept: dict[str, _Member] = {}
        for group, members in sorted(self._members.items(), key=lambda item: min(item[1])):
            winner = min(members)
            near = [(-near.score, kept[other]) for other, near in self._near[group].items() if other in kept]
            if near:
                score, keeper = min(near)
                how = f"; words {-score:.2f}"
                drops |= {m.id: _repeats(keeper, DropReason.NEAR_DUPLICATE, how) for m in members}
                continue
            kept[group] = winner
            for member in members:
                if member is not winner:
                    note = self._notes.get(member.id, "")
                    drops[member.id] = _repeats(winner, DropReason.DUPLICATE, note)
        return drops

    def _member(self, name: str, source: str, place: int, is_verified: bool) -> _Member:
        is_unverified = self._config.prefer_verified and not is_verified
        return _Member(name not in self._keepers, is_unverified, place, name, source)


def _repeats(keeper: _Member, reason: DropReason, more: str) -> Duplicate:
    return Duplicate(reason, f"repeats {keeper.id} of {keeper.source}{more}")
