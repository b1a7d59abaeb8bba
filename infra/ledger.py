"""Where a raw row went and why: every decision of a run about it, read from the tables of the run's artifacts.

Knows no row type: a table is read by its columns. `id` names a row, or else `query_id` the row that it stands for;
`dropped` has reason and evidence, `corrections` old and new labels, `rollouts/step_N` the rewards of a train step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field

from infra.artifacts import Checkpoint, File, Manifest, Parent, Report
from infra.columns import column_names, number_columns, rows_from, rows_of, shards, side_tables
from infra.config import Config, ConfigError
from infra.run import RunRecord, StepRecord, read_runs
from infra.store import Store

_BATCH = re.compile(r"rollouts/step_(\d+)\.parquet")
MIN_PREFIX = 4
_TOLD = {"dropped": ("reason", "evidence"), "corrections": ("old", "new", "evidence"), "kept": ("source",)}


class UnknownRowError(ConfigError, LookupError):
    """No row, or more than one, has the id that was given."""


class RolloutUse(Config):
    """A train step that sampled answers to the row."""

    train_step: int
    rewards: tuple[float | None, ...] = Field(description="one a sample; None where grading failed")


class Decision(Config):
    """What one step of the run did with the row."""

    label: str
    phase: str
    step: str
    fingerprint: str
    what: Literal["kept", "corrected", "dropped", "absent", "used", "scored"] = Field(
        description="absent: an input held it, the result does not and names no reason; used: a model trained on it"
    )
    reason: str = ""
    evidence: str = ""
    old: str | None = Field(default=None, description="label before a correction")
    new: str | None = None
    num_rows: int = Field(default=0, description="rows that stand for it, such as responses or samples")
    numbers: dict[str, float] = Field(default={}, description="measured, such as num_correct of num_judged")
    rollouts: tuple[RolloutUse, ...] = ()

    @property
    def pass_rate(self) -> float | None:
        """Share of the judged samples that were correct, where it was measured."""
        judged = self.numbers.get("num_judged")
        return self.numbers["num_correct"] / judged if judged else None


class RowHistory(Config):
    """Everything a run did with one raw row."""

    row_id: str
    source: str
    raw_file: str
    raw_digest: str
    recipe: str
    run: str
    decisions: tuple[Decision, ...] = Field(description="in pipeline order")


def row_history(store: Store, row_id: str, recipe: str | None = None, run_id: str | None = None) -> RowHistory:
    """The decisions of a run about a row.

    Args:
        store: where the run's artifacts lie.
        row_id: the row's id, or its beginning.
        recipe: whose last run is asked; by default the last run of any.
        run_id: the run that is asked, instead of the last.

    Raises:
        UnknownRowError: no such run; or no row, or more than one, has the id.
    """
    run = _chosen_run(store, recipe, run_id)
    calls = [Call(record, store.manifest(record.artifact)) for record in run.steps]
    origin = _origin(store, run, calls, row_id)
    decisions, held = list[Decision](), {origin.raw.digest}
    for call in calls:
        decision = _decision(store, call, origin.row_id, held)
        if decision is not None:
            decisions.append(decision)
            held |= {call.record.artifact.digest} if decision.what in {"kept", "corrected"} else set()
    return RowHistory(
        row_id=origin.row_id,
        source=origin.source,
        raw_file=origin.raw.name,
        raw_digest=origin.raw.digest,
        recipe=run.recipe,
        run=run.id,
        decisions=tuple(decisions),
    )


class Call(NamedTuple):
    """A step of the run and what it made."""

    record: StepRecord
    manifest: Manifest


class Origin(NamedTuple):
    """Where the row came in."""

    raw: Parent
    row_id: str
    source: str


def _chosen_run(store: Store, recipe: str | None, run_id: str | None) -> RunRecord:
    runs = [run for run in read_runs(store) if run.steps]
    chosen = [run for run in runs if recipe in (None, run.recipe) and run_id in (None, run.id)]
    if not chosen:
        known = ", ".join(f"{run.id} ({run.recipe})" for run in runs[-5:]) or "none; run a recipe first"
        raise UnknownRowError(f"the store {store.uri} knows no such run; the last ones: {known}")
    return chosen[-1]


# Which row, and from where


def _origin(store: Store, run: RunRecord, calls: Sequence[Call], prefix: str) -> Origin:
    if len(prefix) < MIN_PREFIX:
        raise UnknownRowError(f"`{prefix}`: give at least {MIN_PREFIX} characters of the row's id")
    found = {
        row_id: Origin(raw, row_id, source)
        for call in calls
        if (raw := _raw_parent(call.manifest)) is not None
        for table in ("kept", "dropped")
        for file in shards(call.manifest, table)
        for row_id, source in rows_from(store, file, _key(store, file), prefix)
    }
    if len(found) == 1 or prefix in found:
        return found.get(prefix) or next(iter(found.values()))
    if found:
        shown = ", ".join(sorted(found)[:6])
        raise UnknownRowError(f"{prefix}: {len(found)} rows begin so: {shown}; give more of the id")
    raise UnknownRowError(
        f"{prefix}: run {run.id} of recipe {run.recipe} read no row with this id; name another --recipe or --run, "
        "or look the id up in the `id` column of a data version"
    )


def _raw_parent(manifest: Manifest) -> Parent | None:
    return next((p for group in manifest.parents.values() for p in group if p.kind == "raw"), None)


def _key(store: Store, file: File) -> str:
    """The column that names the raw row."""
    return "query_id" if "query_id" in column_names(store, file) else "id"


# What each step did


def _decision(store: Store, call: Call, row_id: str, held: set[str]) -> Decision | None:
    """None where the row did not come to the step."""
    if not held & set(call.record.artifact.parents):
        return None
    artifact, manifest = call.record.artifact, call.manifest
    if isinstance(artifact, Checkpoint):
        uses = _rollouts(store, manifest, row_id)
        samples = any(_BATCH.fullmatch(file.path) for file in manifest.files)
        evidence = "" if uses or not samples else "among its prompts, but in no batch"
        return _said(call, what="used", rollouts=uses, evidence=evidence)
    numbers = _numbers(store, manifest, row_id)
    if isinstance(artifact, Report):
        return _said(call, what="scored", numbers=numbers)
    for dropped in _rows(store, manifest, "dropped", row_id):
        return _said(call, what="dropped", reason=dropped["reason"], evidence=dropped["evidence"], numbers=numbers)
    num_rows = len(_rows(store, manifest, "kept", row_id))
    for changed in _rows(store, manifest, "corrections", row_id):
        fields = {name: changed[name] for name in ("old", "new", "evidence")}
        return _said(call, what="corrected", num_rows=num_rows, numbers=numbers, **fields)
    return _said(call, what="kept" if num_rows else "absent", num_rows=num_rows, numbers=numbers)


def _said(call: Call, **fields: Any) -> Decision:
    record, manifest = call.record, call.manifest
    who = {"label": record.label, "phase": record.phase, "step": record.step, "fingerprint": manifest.fingerprint}
    return Decision.model_validate(who | fields)


def _rows(store: Store, manifest: Manifest, table: str, row_id: str) -> list[dict[str, Any]]:
    """Rows about the row, without the long texts of its messages and responses."""
    return [
        row
        for file in shards(manifest, table)
        for row in rows_of(store, file, _key(store, file), [row_id], _TOLD.get(table, ()))
    ]


def _numbers(store: Store, manifest: Manifest, row_id: str) -> dict[str, float]:
    """Numeric columns of side tables that hold one row about the row, such as its difficulty."""
    found: dict[str, float] = {}
    for table in side_tables(manifest):
        rows = [
            row
            for file in shards(manifest, table)
            for row in rows_of(store, file, _key(store, file), [row_id], number_columns(store, file))
        ]
        found |= rows[0] if len(rows) == 1 else {}
    return found


def _rollouts(store: Store, manifest: Manifest, row_id: str) -> tuple[RolloutUse, ...]:
    uses = []
    for file in manifest.files:
        batch = _BATCH.fullmatch(file.path)
        rows = rows_of(store, file, "query_id", [row_id], ("reward",)) if batch else []
        if batch and rows:
            uses.append(RolloutUse(train_step=int(batch[1]), rewards=tuple(row["reward"] for row in rows)))
    return tuple(uses)
