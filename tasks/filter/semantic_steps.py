"""Semantic dedup and decontamination as steps: likeness first, then the policy that keeps or drops."""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import Field

from infra.artifacts import Dataset
from infra.config import Config
from infra.output import Output
from infra.step import step
from tasks.filter.contamination import TABLE, Contamination, report
from tasks.filter.embeddings import KeptVectors
from tasks.filter.encoder import open_encoder
from tasks.filter.leaks import Leak
from tasks.filter.reasons import DropReason
from tasks.filter.semantic import BenchmarkGists, Encoders, Likeness, find_semantic_duplicates
from tasks.filter.semantic_config import (
    SemanticDedupConfig,
    SemanticLeakPolicy,
    SemanticLeakSearch,
    SemanticSearch,
    Support,
)
from tasks.filter.text import head
from tasks.records import Query


class LeakSignal(Config):
    """A query beside a benchmark's, and how alike they are: what a policy judges."""

    id: str = Field(description="of the query and the benchmark's")
    query_id: str
    source: str
    benchmark: str
    benchmark_id: str
    cosine: float
    support: Support
    theirs: str
    ours: str

    @classmethod
    def of(cls, like: Likeness) -> Self:
        """The row of a likeness."""
        return cls(
            id=f"{like.ours.id} {like.theirs.id}",
            query_id=like.ours.id,
            source=like.ours.source,
            benchmark=like.theirs.source,
            benchmark_id=like.theirs.id,
            cosine=like.cosine,
            support=like.support,
            theirs=like.theirs.text,
            ours=like.ours.text,
        )

    def leak(self) -> Leak:
        """The evidence of a drop."""
        how = f"cosine {self.cosine:.3f}, support: {self.support}"
        return Leak(
            self.benchmark, self.benchmark_id, DropReason.LEAK_SEMANTIC, self.cosine, how, self.theirs, self.ours
        )


@step(version=1, produces=Dataset, conserves="queries")
def drop_semantic_duplicates(queries: Dataset, config: SemanticDedupConfig, out: Output) -> None:
    """Keep the first of the queries that ask the same in other words; order the sources by trust."""
    encoders, kept = _open(config.search, out)
    found = {each.query_id: each for each in find_semantic_duplicates(out.rows(queries, Query), config, encoders)}
    for query in out.rows(queries, Query):
        if (each := found.get(query.id)) is None:
            out.keep(query)
        else:
            told = (
                f"repeats {each.keeper.id} of {each.keeper.source}: cosine {each.cosine:.3f}, support: {each.support}"
            )
            texts = f"theirs: {head(each.keeper.text)!r}; ours: {head(query.prompt)!r}"
            out.drop(query, DropReason.SEMANTIC_DUPLICATE, f"{told}; {texts}")
    out.spend(cache_hits=kept.hits)


@step(version=1, produces=Dataset)
def find_semantic_leaks(
    queries: Dataset, benchmarks: tuple[Dataset, ...], config: SemanticLeakSearch, out: Output
) -> None:
    """Signals: every query beside those of the benchmarks' that it may be, with the deciding cosine."""
    encoders, kept = _open(config.search, out)
    theirs = (query for each in benchmarks for query in out.rows(each, Query))
    index = BenchmarkGists(theirs, config.search, encoders)
    for like in index.like(out.rows(queries, Query)):
        if like.cosine >= config.min_stored_cosine:
            out.keep(LeakSignal.of(like))
    out.spend(cache_hits=kept.hits)


@step(version=1, produces=Dataset, conserves="queries")
def drop_semantic_leaks(queries: Dataset, signals: Dataset, config: SemanticLeakPolicy, out: Output) -> None:
    """Drop what asks a benchmark's question in other words; the likest one is the evidence."""
    leaks: dict[str, LeakSignal] = {}
    for signal in out.rows(signals, LeakSignal):
        first = leaks.get(signal.query_id)
        if signal.cosine >= config.min_cosine.of(signal.support) and (first is None or signal.cosine > first.cosine):
            leaks[signal.query_id] = signal
    rows: list[Contamination] = []
    for query in out.rows(queries, Query):
        if query.id in leaks:
            leak = leaks[query.id].leak()
            out.drop(query, leak.reason, leak.evidence)
            rows.append(Contamination.of(query, leak))
            out.attach(TABLE, rows[-1])
        else:
            out.keep(query)
    out.note(report(rows))


class _Opened(NamedTuple):
    encoders: Encoders
    kept: KeptVectors


def _open(search: SemanticSearch, out: Output) -> _Opened:
    kept = KeptVectors(open_encoder(search.decisions), out.store)
    return _Opened(Encoders(open_encoder(search.candidates), kept), kept)
