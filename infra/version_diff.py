"""What changed between two data versions: rows added, dropped (and why), relabelled, edited; also as a Markdown card.

Rows are told apart by their id. Why a row left is looked up in the ledgers of everything that B was made from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from infra.artifacts import Artifact, Manifest
from infra.columns import column_names, read_columns, shards
from infra.config import Config, ConfigError
from infra.lookup import with_ancestors
from infra.store import Store

LABEL = "answer"
NO_REASON = "not among the inputs"
SHOWN_IN_CARD = 10


class VersionName(Config):
    """One of the two data versions."""

    name: str
    step: str
    fingerprint: str
    digest: str
    rows: int


class AddedRow(Config):
    """A row that only B holds."""

    row_id: str
    source: str


class DroppedRow(Config):
    """A row that only A holds."""

    row_id: str
    source: str
    step: str = Field(description="whose ledger has it; empty where no input of B held the row")
    reason: str
    evidence: str


class RelabelledRow(Config):
    """A row of both with another label."""

    row_id: str
    source: str
    old: str | None
    new: str | None


class SourceDiff(Config):
    """Counts of one source."""

    before: int = 0
    added: int = 0
    dropped: dict[str, int] = Field(default={}, description="reason → rows")
    relabelled: int = 0
    after: int = 0


class VersionDiff(Config):
    """B against A. The counts are of all rows; the lists hold the first `max_rows` of each."""

    a: VersionName
    b: VersionName
    num_added: int
    num_dropped: int
    num_relabelled: int
    edited: dict[str, int] = Field(description="column other than the label → rows of both that differ in it")
    sources: dict[str, SourceDiff]
    added: tuple[AddedRow, ...]
    dropped: tuple[DroppedRow, ...]
    relabelled: tuple[RelabelledRow, ...]

    @property
    def is_empty(self) -> bool:
        """True when both hold the same rows with the same content."""
        return not (self.num_added or self.num_dropped or self.num_relabelled or self.edited)


class _Rows(NamedTuple):
    """What names the rows of a version: columns id, query_id, source, and the label where there is one."""

    manifest: Manifest
    table: Any
    columns: frozenset[str]

    @property
    def ids(self) -> Any:
        """Row ids, one Arrow array: kernels that meet a column without chunks may crash the process."""
        return self.table["id"].combine_chunks()


def diff_versions(store: Store, a: Artifact, b: Artifact, max_rows: int = 1000) -> VersionDiff:
    """Compare data version `b` with `a`.

    Raises:
        ConfigError: one of them is no data version, or its rows have no id.
    """
    before, after = _read(store, a), _read(store, b)
    shared = pc.index_in(after.ids, value_set=before.ids)  # position in A of each row of B
    both = pc.is_valid(shared)
    added = _rows(after.table.filter(pc.invert(both)))
    gone = _rows(before.table.filter(pc.invert(pc.is_in(before.ids, value_set=after.ids))))
    dropped = _with_reasons(store, after.manifest, gone)
    positions = _Positions(shared.filter(both), pc.indices_nonzero(both))
    relabelled = _relabelled(before, after, positions)
    return VersionDiff(
        a=_name(a, before),
        b=_name(b, after),
        num_added=len(added),
        num_dropped=len(dropped),
        num_relabelled=len(relabelled),
        edited=_edited(store, before, after, positions),
        sources=_sources(before, after, added, dropped, relabelled),
        added=tuple(AddedRow(row_id=row["id"], source=row["source"]) for row in added[:max_rows]),
        dropped=tuple(dropped[:max_rows]),
        relabelled=tuple(relabelled[:max_rows]),
    )


class _Positions(NamedTuple):
    """Where the rows of both lie: equal places of the two Arrow columns speak of one row."""

    a: Any
    b: Any


def _read(store: Store, artifact: Artifact) -> _Rows:
    if artifact.kind != "dataset":
        raise ConfigError(f"{artifact.name} is a {artifact.kind}; diff compares two data versions")
    manifest = store.manifest(artifact)
    files = shards(manifest, "kept")
    columns = frozenset(name for file in files[:1] for name in column_names(store, file))
    if files and "id" not in columns:
        raise ConfigError(
            f"{artifact.name}: its rows have no id ({', '.join(sorted(columns))}); compare queries or samples"
        )
    return _Rows(manifest, read_columns(store, files, ["id", "query_id", "source", LABEL]), columns)


def _name(artifact: Artifact, rows: _Rows) -> VersionName:
    fingerprint = artifact.fingerprint or ""
    return VersionName(
        name=artifact.name,
        step=artifact.step,
        fingerprint=fingerprint,
        digest=artifact.digest,
        rows=rows.table.num_rows,
    )


def _rows(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _relabelled(before: _Rows, after: _Rows, positions: _Positions) -> list[RelabelledRow]:
    if LABEL not in before.columns & after.columns:
        return []
    old, new = before.table.take(positions.a), after.table.take(positions.b)
    differs = _differs(old[LABEL], new[LABEL])
    pairs = zip(_rows(old.filter(differs)), _rows(new.filter(differs)), strict=True)
    return [
        RelabelledRow(row_id=then["id"], source=then["source"], old=then[LABEL], new=now[LABEL]) for then, now in pairs
    ]


def _differs(one: Any, other: Any) -> Any:
    """Where two columns differ; null equals null."""
    unequal = pc.fill_null(pc.not_equal(one, other), False)
    return pc.or_(unequal, pc.xor(pc.is_null(one), pc.is_null(other)))


def _edited(store: Store, before: _Rows, after: _Rows, positions: _Positions) -> dict[str, int]:
    """One column at a time, so that long texts of one only are in memory."""
    found: dict[str, int] = {}
    for name in sorted((before.columns & after.columns) - {"id", LABEL}):
        old = read_columns(store, shards(before.manifest, "kept"), [name])[name].take(positions.a)
        new = read_columns(store, shards(after.manifest, "kept"), [name])[name].take(positions.b)
        count = pc.sum(_differs(old, new)).as_py() or 0
        found |= {name: count} if count else {}
    return found


# Why rows left


def _with_reasons(store: Store, manifest: Manifest, gone: list[dict[str, Any]]) -> list[DroppedRow]:
    drops = _ledgers(store, manifest, {row["query_id"] or row["id"] for row in gone}) if gone else {}
    rows = []
    for row in gone:
        drop = drops.get(row["query_id"] or row["id"]) or {"step": "", "reason": NO_REASON, "evidence": ""}
        fields = {name: drop[name] for name in ("step", "reason", "evidence")}
        rows.append(DroppedRow(row_id=row["id"], source=row["source"], **fields))
    return rows


def _ledgers(store: Store, manifest: Manifest, wanted: set[str]) -> Mapping[str, dict[str, Any]]:
    """Row id → its line in a ledger of the version or of what it was made from; the nearest to it decides."""
    found: dict[str, dict[str, Any]] = {}
    for each in with_ancestors(store, [manifest]):
        ledger = read_columns(store, shards(each, "dropped"), ["query_id", "step", "reason", "evidence"])
        lines = ledger.filter(pc.is_in(ledger["query_id"], value_set=pa.array(sorted(wanted), pa.string())))
        for line in _rows(lines):
            found.setdefault(line["query_id"], line)
    return found


def _sources(
    before: _Rows, after: _Rows, added: list[dict[str, Any]], dropped: list[DroppedRow], relabelled: list[RelabelledRow]
) -> dict[str, SourceDiff]:
    num_before, num_after = _counted(before), _counted(after)
    num_added = Counter(row["source"] for row in added)
    num_relabelled = Counter(row.source for row in relabelled)
    reasons: dict[str, Counter[str]] = {}
    for row in dropped:
        reasons.setdefault(row.source, Counter())[row.reason] += 1
    return {
        source: SourceDiff(
            before=num_before[source],
            added=num_added[source],
            dropped=dict(sorted(reasons.get(source, Counter()).items())),
            relabelled=num_relabelled[source],
            after=num_after[source],
        )
        for source in sorted(num_before.keys() | num_after.keys())
    }


def _counted(rows: _Rows) -> Counter[str]:
    counts = pc.value_counts(rows.table["source"]).to_pylist()
    return Counter({entry["values"] or "": entry["counts"] for entry in counts})


# The card


def diff_card(diff: VersionDiff) -> str:
    """Markdown: the counts by source, the reasons of drops, and the first relabelled rows."""
    title = f"# {diff.b.name}: {diff.a.rows:,} → {diff.b.rows:,} rows"
    versions = f"`{diff.a.digest[:12]}` → `{diff.b.digest[:12]}`"
    if diff.is_empty:
        return "\n\n".join([title, versions, "Nothing changed: the same rows with the same content."])
    parts = [title, versions, _source_table(diff), _reason_table(diff), _label_table(diff)]
    if diff.edited:
        told = ", ".join(f"{name} in {count:,} rows" for name, count in diff.edited.items())
        parts.append(f"Other columns that differ in rows of both: {told}.")
    return "\n\n".join(part for part in parts if part)


def _source_table(diff: VersionDiff) -> str:
    lines = [
        (source, s.before, f"+{s.added}", f"−{sum(s.dropped.values())}", s.relabelled, s.after)
        for source, s in diff.sources.items()
    ]
    total = ("**all**", diff.a.rows, f"+{diff.num_added}", f"−{diff.num_dropped}", diff.num_relabelled, diff.b.rows)
    return _table(("source", "before", "added", "dropped", "relabelled", "after"), [*lines, total])


def _reason_table(diff: VersionDiff) -> str:
    counts = Counter[tuple[str, str]]()
    for source, each in diff.sources.items():
        counts.update({(reason, source): count for reason, count in each.dropped.items()})
    return _table(("why dropped", "source", "rows"), [(*key, count) for key, count in sorted(counts.items())])


def _label_table(diff: VersionDiff) -> str:
    rows = [(r.row_id, r.source, r.old, r.new) for r in diff.relabelled[:SHOWN_IN_CARD]]
    table = _table(("relabelled row", "source", "old", "new"), rows)
    more = diff.num_relabelled - len(rows)
    return f"{table}\n\n… and {more:,} more" if more > 0 else table


def _table(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(header) + " |", "|" + " --- |" * len(header), *lines]) if lines else ""


def _cell(value: Any) -> str:
    """A value that cannot break out of its cell."""
    return "–" if value is None else " ".join(str(value).split()).replace("|", "\\|")
