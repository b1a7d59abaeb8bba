"""The contamination report: every leak with both texts, as a side table, a Markdown table and counts for a data card.

Leaks of every kind read alike: those that n-grams find, those that an encoder finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from pydantic import Field

from infra.artifacts import Artifact
from infra.config import Config
from infra.store import Store
from tasks.filter.leaks import Leak
from tasks.filter.text import head
from tasks.records import Query

TABLE = "contamination"  # of the artifact whose step dropped the rows
_SHOWN = 20  # rows of a card; the table holds all
_WIDTH = 160


class Contamination(Config):
    """One row of the table: a query that left because a benchmark holds it."""

    query_id: str
    source: str
    benchmark: str
    benchmark_id: str
    reason: str
    score: float = Field(description="1 for equal texts; else what `how` names")
    how: str
    theirs: str
    ours: str

    @classmethod
    def of(cls, query: Query, leak: Leak) -> Self:
        """The row of a query and its leak."""
        fields = leak._asdict() | {"reason": str(leak.reason)}
        return cls(query_id=query.id, source=query.source, **fields)


class BenchmarkCount(Config):
    """How many rows of a source leaked a benchmark, and how."""

    benchmark: str
    source: str
    rows: int
    reasons: dict[str, int]


def count_by_benchmark(rows: Iterable[Contamination]) -> list[BenchmarkCount]:
    """Leaks by benchmark and source, in the order of their names."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        counts.setdefault((row.benchmark, row.source), Counter())[row.reason] += 1
    return [
        BenchmarkCount(benchmark=benchmark, source=source, rows=reasons.total(), reasons=dict(sorted(reasons.items())))
        for (benchmark, source), reasons in sorted(counts.items())
    ]


def contamination_of(store: Store, artifacts: Iterable[Artifact]) -> Iterator[Contamination]:
    """The rows of every artifact whose step dropped leaks, for a data card."""
    for artifact in artifacts:
        yield from store.rows(artifact, Contamination, prefix=TABLE)


def counts_table(counts: Iterable[BenchmarkCount]) -> str:
    """A line a benchmark and source, for a card."""
    lines = ["| benchmark | source | rows | how |", "| --- | --- | ---: | --- |"]
    for each in counts:
        lines.append(f"| {each.benchmark} | {each.source} | {each.rows:,} | {_told(each.reasons)} |")
    return "\n".join(lines) if len(lines) > 2 else "No row leaks a benchmark."


def _told(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason.removeprefix('leak_')} {count:,}" for reason, count in reasons.items())


def report(rows: Iterable[Contamination]) -> str:
    """The paragraph of a step's card: counts, then the least sure leaks with both texts, for a person to judge."""
    rows = list(rows)
    unsure = sorted(rows, key=lambda row: (row.score, row.benchmark, row.benchmark_id, row.query_id))[:_SHOWN]
    parts = ["## Contamination", counts_table(count_by_benchmark(rows))]
    if unsure:
        parts.append(f"The {len(unsure)} least sure of {len(rows):,}; all are in the table `{TABLE}`.")
        parts.append(_texts_table(unsure))
    return "\n\n".join(parts)


def _texts_table(rows: Iterable[Contamination]) -> str:
    lines = ["| score | benchmark | theirs | query | ours | how |", "| ---: | --- | --- | --- | --- | --- |"]
    for row in rows:
        theirs, ours = _cell(row.theirs), _cell(row.ours)
        names = f"{row.benchmark} {row.benchmark_id}", f"{row.source} {row.query_id}"
        lines.append(f"| {row.score:.2f} | {names[0]} | {theirs} | {names[1]} | {ours} | {_cell(row.how)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text of a question in one cell: no line ends, and nothing that Markdown would take for its own."""
    return head(text, _WIDTH).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
