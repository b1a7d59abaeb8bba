"""What a data version holds, and what became of every raw row: the card for whoever must answer for it.

Everything is read from the version's own manifests and ledgers, so that the card is the same whoever asks for it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from infra.artifacts import Dataset, Manifest
from infra.card import funnel_table
from infra.columns import read_columns, rows_of, shards
from infra.data_versions import DataVersion
from infra.lookup import with_ancestors
from infra.store import Store
from tasks.filter.contamination import TABLE as CONTAMINATION
from tasks.filter.contamination import BenchmarkCount, counts_table

NUM_EXAMPLES = 8
EXAMPLE_CHARS = 300
_PERCENTILES = (0.05, 0.5, 0.95)
_BENCHMARK_STEP = "ingest-benchmark"
_CORRECTIONS = "corrections"


def data_card(store: Store, version: DataVersion, queries: Dataset, samples: Dataset) -> str:
    """The card in Markdown: funnel, licences, lengths, contamination, corrected labels, examples."""
    last, kept = store.manifest(samples), store.manifest(queries)
    made_by = [manifest for manifest in with_ancestors(store, [last, kept]) if manifest.step != _BENCHMARK_STEP]
    parts = [
        f"# {version.recipe}, data version {version.number}",
        f"{version.num_queries:,} queries `{version.queries_digest[:12]}` and {version.num_samples:,} samples "
        f"`{version.samples_digest[:12]}`, by run {version.run}.",
        "## Every raw row\n\nKept are the queries that have a sample; a row leaves once, for one reason.",
        funnel_table(whole_funnel(store, last, made_by)),
        "## Licences of the queries\n\n" + licence_table(store, kept),
        "## Lengths\n\n" + length_table(store, kept, last),
        "## Contamination\n\n" + contamination_table(store, made_by),
        "## Labels\n\n" + correction_note(store, made_by),
        "## Examples\n\n" + examples(store, kept),
    ]
    return "\n\n".join(parts)


def whole_funnel(store: Store, last: Manifest, made_by: Sequence[Manifest]) -> dict[str, dict[str, int]]:
    """Source → reason, or kept → raw rows, over all steps that led to `last`."""
    funnel: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for manifest in made_by:
        dropped = read_columns(store, shards(manifest, "dropped"), ["source", "reason"])
        for source, reason, count in _counts(dropped, ["source", "reason"]):
            funnel[source][reason] += count
    for source, counts in last.summary.get("funnel", {}).items():
        funnel[source]["kept"] += counts.get("kept", 0)
    return {source: dict(counts) for source, counts in funnel.items()}


def licence_table(store: Store, kept: Manifest) -> str:
    """A line a licence, with the sources that carry it."""
    table = read_columns(store, shards(kept, "kept"), ["license", "source"])
    rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for licence, source, count in _counts(table, ["license", "source"]):
        rows[licence or "not stated"][source] += count
    lines = ["| licence | queries | sources |", "| --- | ---: | --- |"]
    for licence, sources in sorted(rows.items(), key=lambda item: (-item[1].total(), item[0])):
        lines.append(f"| {_cell(licence)} | {sources.total():,} | {_cell(', '.join(sorted(sources)))} |")
    return "\n".join(lines)


def length_table(store: Store, kept: Manifest, samples: Manifest) -> str:
    """Characters of dialogs by domain: of queries up to the turn to be answered, of samples with the response."""
    lines = [
        "| characters of | rows | 5 % | median | 95 % | longest |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, manifest in (("queries", kept), ("samples", samples)):
        for domain, lengths in sorted(_lengths(store, manifest).items()):
            shown = [f"{lengths[min(int(share * len(lengths)), len(lengths) - 1)]:,}" for share in _PERCENTILES]
            lines.append(f"| {name}, {domain} | {len(lengths):,} | {' | '.join(shown)} | {lengths[-1]:,} |")
    return "\n".join(lines)


def _lengths(store: Store, manifest: Manifest) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for file in shards(manifest, "kept"):  # one shard at a time: texts are long
        for row in read_columns(store, [file], ["domain", "messages"]).to_pylist():
            found[row["domain"]].append(sum(len(turn["content"]) for turn in json.loads(row["messages"])))
    return {domain: sorted(lengths) for domain, lengths in found.items()}


def contamination_table(store: Store, made_by: Sequence[Manifest]) -> str:
    """A line a benchmark and source: the queries that left because the benchmark holds them, by kind of likeness."""
    rows: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for manifest in made_by:
        table = read_columns(store, shards(manifest, CONTAMINATION), ["benchmark", "source", "reason"])
        for benchmark, source, reason, count in _counts(table, ["benchmark", "source", "reason"]):
            rows[benchmark, source][reason] += count
    return counts_table(
        BenchmarkCount(benchmark=benchmark, source=source, rows=reasons.total(), reasons=dict(sorted(reasons.items())))
        for (benchmark, source), reasons in sorted(rows.items())
    )


def correction_note(store: Store, made_by: Sequence[Manifest]) -> str:
    """How many labels were corrected, by source."""
    counts: Counter[str] = Counter()
    for manifest in made_by:
        for source, count in _counts(read_columns(store, shards(manifest, _CORRECTIONS), ["source"]), ["source"]):
            counts[source] += count
    told = ", ".join(f"{source} {count:,}" for source, count in sorted(counts.items()))
    return f"Corrected labels: {counts.total():,}{f' ({told})' if told else ''}."


def examples(store: Store, kept: Manifest) -> str:
    """A query of each of the first sources, cut: the one of the lowest id, so that no order of rows shows."""
    first: dict[str, str] = {}
    for row in _rows(read_columns(store, shards(kept, "kept"), ["source", "id"])):
        first[row["source"]] = min(first.get(row["source"], row["id"]), row["id"])
    chosen = dict(sorted(first.items())[:NUM_EXAMPLES])
    found = {row["id"]: row for row in _queries(store, kept, sorted(chosen.values()))}
    return "\n\n".join(_example(found[row_id]) for row_id in chosen.values())


def _queries(store: Store, kept: Manifest, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    for file in shards(kept, "kept"):
        yield from rows_of(store, file, "id", ids, ["id", "source", "domain", "messages", "answer"])


def _example(row: dict[str, Any]) -> str:
    prompt = " ".join(json.loads(row["messages"])[-1]["content"].split())
    cut = prompt if len(prompt) <= EXAMPLE_CHARS else f"{prompt[:EXAMPLE_CHARS]}…"
    answer = f" Answer: `{_code(row['answer'])}`." if row["answer"] is not None else ""
    return f"**{row['source']}** ({row['domain']}, `{row['id']}`): `{_code(cut)}`{answer}"


def _counts(table: Any, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Each combination of the columns' values, and its number of rows."""
    grouped = table.group_by(columns).aggregate([([], "count_all")])
    return zip(*(grouped[name].to_pylist() for name in [*columns, "count_all"]), strict=True)


def _rows(table: Any) -> Iterable[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return text.replace("`", "'")
