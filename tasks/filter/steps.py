"""The filters as steps. Signals first: `find_…` steps look at texts and store what they see. Policy second: the others
decide from what is stored, so that another threshold looks at no text again.

Every query that comes in is kept, or dropped with its reason and evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from infra.artifacts import Dataset
from infra.output import Output
from infra.rows import read_shard
from infra.runtime import Runtime
from infra.step import step
from tasks.filter.config import DecontaminationConfig, DedupConfig, DuplicateSearch, LeakSearch, RulesConfig
from tasks.filter.contamination import TABLE, Contamination, report
from tasks.filter.decontaminate import BenchmarkIndex, LeakScan, Match, scan, strongest, weigh
from tasks.filter.dedup import Row, Sketch, decide, equal_rows, join, near_rows, row_of, signals_of, sketch
from tasks.filter.leaks import Leak
from tasks.filter.minhash import Pairs
from tasks.filter.reasons import DropReason
from tasks.filter.rules import apply_policy, find_signals
from tasks.filter.shards import first_places, map_shards
from tasks.filter.signals import DuplicateSignal, LeakSignal, RuleSignal
from tasks.records import Query


class QueryId(BaseModel):
    """The one column of a data set that says which queries it holds."""

    id: str


@step(version=1, produces=Dataset)
def find_rule_signals(queries: Dataset, out: Output, runtime: Runtime) -> None:
    """What each rule sees, in every domain."""
    for signals in map_shards(out.store, queries, _rule_signals, runtime.verifier_processes):
        for signal in signals:
            out.keep(signal)


@step(version=2, produces=Dataset, conserves="queries")
def apply_rules(queries: Dataset, signals: Dataset, config: RulesConfig, out: Output) -> None:
    """Drop what a rule holds against; the first rule names the drop, the evidence names all."""
    found: dict[str, dict[DropReason, str]] = defaultdict(dict)
    for signal in out.rows(signals, RuleSignal):
        found[signal.id][signal.rule] = signal.evidence
    for query in out.rows(queries, Query):
        holds = apply_policy(query, found.get(query.id, {}), config)
        if holds:
            out.drop(query, next(iter(holds)), "; ".join(f"{reason}: {text}" for reason, text in holds.items()))
        else:
            out.keep(query)


@step(version=1, produces=Dataset)
def find_duplicate_signals(queries: Dataset, config: DuplicateSearch, out: Output, runtime: Runtime) -> None:
    """Pairs of equal and of like queries. In memory are a sketch of each query, and the texts of pairs."""
    make = partial(_sketch_shard, config)
    sketches = join([*map_shards(out.store, queries, make, runtime.verifier_processes), sketch([], config)])
    equal = equal_rows(sketches)
    near = near_rows(sketches, equal, config)
    rows = _rows_of_pairs(queries, equal, near, out, runtime)
    for signal in signals_of(equal, near, rows, sketches, config):
        out.keep(signal)


@step(version=2, produces=Dataset, conserves="queries")
def drop_duplicates(
    queries: Dataset, signals: Dataset, config: DedupConfig, out: Output, keepers: Dataset | None = None
) -> None:
    """Of queries that ask the same keep one, within and across sources. `keepers`: a data version whose queries win, so
    that grown input never swaps a query that stayed for a new copy of it."""
    earlier = {row.id for row in out.rows(keepers, QueryId)} if keepers is not None else set()
    drops = decide(out.rows(signals, DuplicateSignal), config, earlier)
    for query in out.rows(queries, Query):
        if query.id in drops:
            out.drop(query, drops[query.id].reason, drops[query.id].evidence)
        else:
            out.keep(query)


@step(version=1, produces=Dataset)
def find_leak_signals(
    queries: Dataset, benchmarks: tuple[Dataset, ...], config: LeakSearch, out: Output, runtime: Runtime
) -> None:
    """What queries share with benchmarks. Called for each benchmark alone it finds the same, and a new benchmark then
    costs a look at that one only."""
    index = BenchmarkIndex((query for each in benchmarks for query in out.rows(each, Query)), config)
    scans = list(map_shards(out.store, queries, partial(_scan_shard, index), runtime.verifier_processes))
    for match in weigh(scans, index):
        out.keep(_leak_signal(match))


@step(version=2, produces=Dataset, conserves="queries")
def decontaminate(queries: Dataset, signals: tuple[Dataset, ...], config: DecontaminationConfig, out: Output) -> None:
    """Drop what leaks one of the benchmarks."""
    matches = (_match(signal) for each in signals for signal in out.rows(each, LeakSignal))
    leaks = strongest(matches, config)
    told: list[Contamination] = []
    for query in out.rows(queries, Query):
        if query.id in leaks:
            out.drop(query, leaks[query.id].reason, leaks[query.id].evidence)
            told.append(Contamination.of(query, leaks[query.id]))
            out.attach(TABLE, told[-1])
        else:
            out.keep(query)
    out.note(report(told))


def _rule_signals(path: Path) -> list[RuleSignal]:
    return [
        RuleSignal(id=query.id, source=query.source, rule=rule, evidence=evidence)
        for query in read_shard(path, Query)
        for rule, evidence in find_signals(query).items()
    ]


def _sketch_shard(config: DuplicateSearch, path: Path) -> Sketch:
    return sketch(read_shard(path, Query), config)


def _scan_shard(index: BenchmarkIndex, path: Path) -> LeakScan:
    return scan(read_shard(path, Query), index)


def _rows_of_pairs(queries: Dataset, equal: Pairs, near: Pairs, out: Output, runtime: Runtime) -> dict[int, Row]:
    """The queries of all pairs by place; the words of those that are compared word by word."""
    compared = np.unique(np.concatenate([near.first, near.second]))
    wanted = np.unique(np.concatenate([equal.first, equal.second, compared]))
    starts = first_places(out.store, queries)
    ends = [*starts[1:], queries.rows]
    places = [
        wanted[np.searchsorted(wanted, a) : np.searchsorted(wanted, b)] for a, b in zip(starts, ends, strict=True)
    ]
    is_compared = [np.isin(part, compared) for part in places]
    parts = map_shards(
        out.store, queries, _read_rows, runtime.verifier_processes,
        [part - start for part, start in zip(places, starts, strict=True)], is_compared,
    )  # fmt: skip
    return {int(k): row for part, rows in zip(places, parts, strict=True) for k, row in zip(part, rows, strict=True)}


def _read_rows(path: Path, places: np.ndarray[tuple[int], np.dtype[np.int64]], compared: list[bool]) -> list[Row]:
    with_words = dict(zip(places.tolist(), compared, strict=True))
    return list(_chosen_rows(path, with_words))


def _chosen_rows(path: Path, with_words: dict[int, bool]) -> Iterator[Row]:
    for place, query in enumerate(read_shard(path, Query)):
        if place in with_words:
            yield row_of(query, with_words[place])


def _leak_signal(match: Match) -> LeakSignal:
    told = {"id": match.query_id} | match._asdict() | match.leak._asdict()
    return LeakSignal.model_validate({name: told[name] for name in LeakSignal.model_fields})


def _match(signal: LeakSignal) -> Match:
    leak = Leak(**signal.model_dump(include=set(Leak._fields)))
    return Match(signal.id, signal.source, leak, signal.answers_agree, signal.is_short)
