"""The filters as steps: every query that comes in is kept, or dropped with its reason and evidence."""

from __future__ import annotations

from infra.artifacts import Dataset
from infra.output import Output
from infra.step import step
from tasks.filter.config import DecontaminationConfig, DedupConfig, RulesConfig
from tasks.filter.decontaminate import BenchmarkIndex, find_leaks
from tasks.filter.dedup import judge_duplicates
from tasks.filter.rules import signals
from tasks.records import Query


@step(version=1, produces=Dataset, conserves="queries")
def apply_rules(queries: Dataset, config: RulesConfig, out: Output) -> None:
    """Drop what a rule holds against; the first rule names the drop, the evidence names all."""
    for query in out.rows(queries, Query):
        found = signals(query, config)
        if found:
            out.drop(query, next(iter(found)), "; ".join(f"{reason}: {text}" for reason, text in found.items()))
        else:
            out.keep(query)


@step(version=1, produces=Dataset, conserves="queries")
def drop_duplicates(queries: Dataset, config: DedupConfig, out: Output) -> None:
    """Keep the first of equal queries, within and across sources."""
    for query, duplicate in judge_duplicates(out.rows(queries, Query), config):
        if duplicate is None:
            out.keep(query)
        else:
            out.drop(query, duplicate.reason, duplicate.evidence)


@step(version=1, produces=Dataset, conserves="queries")
def decontaminate(
    queries: Dataset, benchmarks: tuple[Dataset, ...], config: DecontaminationConfig, out: Output
) -> None:
    """Drop what leaks one of the benchmarks."""
    index = BenchmarkIndex((query for each in benchmarks for query in out.rows(each, Query)), config)
    leaks = find_leaks(out.rows(queries, Query), index)
    for query in out.rows(queries, Query):
        if query.id in leaks:
            out.drop(query, leaks[query.id].reason, leaks[query.id].evidence)
        else:
            out.keep(query)
