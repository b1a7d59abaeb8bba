"""Rebuild MLflow from the store: the manifests and run records are the truth, and replaying them makes the index."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import Field

from infra.artifacts import Dataset, Manifest
from infra.config import Config
from infra.graph import ancestors, build_graph
from infra.lineage import MlflowLineage, Tracking
from infra.run import Run, RunRecord, StepDetails, StepRecord, read_runs
from infra.runtime import Runtime
from infra.store import Store

UNNAMED = "from manifests"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "running": "KILLED"}


class Synced(Config):
    """What a sync made in MLflow; nothing where nothing was missing."""

    num_runs: int = Field(default=0, description="parent runs made")
    num_steps: int = Field(default=0, description="child runs made")


class _Unnamed(NamedTuple):
    """Steps of manifests that no run names, parents first; the late ones were made from what a run names."""

    early: list[StepRecord]
    late: list[StepRecord]


def sync(runtime: Runtime, store: Store) -> Synced:
    """Make the parent and child runs that MLflow lacks.

    A run that goes on, as far as the store knows, is left to its process where MLflow has it. Manifests that no run
    names go under one parent: those that runs may have used before the runs, because a step's edge to its model needs
    the model.
    """
    tracking = Tracking(runtime)
    runs = [run for run in read_runs(store) if run.steps]
    unnamed = _unnamed(store, {step.artifact.fingerprint or "" for run in runs for step in run.steps})
    rest = _record_of([*unnamed.early, *unnamed.late])
    made = [_replay(tracking, runtime, rest, unnamed.early)]
    made += [_replay(tracking, runtime, run, run.steps) for run in runs]
    made += [_replay(tracking, runtime, rest, unnamed.late)]
    return Synced(num_runs=sum(each.num_runs for each in made), num_steps=sum(each.num_steps for each in made))


def _replay(tracking: Tracking, runtime: Runtime, record: RunRecord, steps: Sequence[StepRecord]) -> Synced:
    """Record these steps of a run, except those that MLflow has."""
    parent = tracking.find_parent(record.id)
    if parent is not None and record.state == "running":
        return Synced()
    run = Run(record.recipe, runtime, id_=record.id)
    run.records = list(record.steps)
    missing = _missing(run.store, tracking, parent, steps)
    if not missing:
        return Synced()
    title = UNNAMED if record.id == UNNAMED else f"{record.recipe} {record.id}"
    opened = parent or tracking.new_parent(title, record.id, record.recipe, record.started)
    lineage = MlflowLineage(run, parent_id=opened)
    for step, manifest in missing:
        lineage.record(step, manifest, _details(run.store, manifest))
    lineage.close(_STATUS[record.state], max(step.at for step in record.steps) or time.time())
    return Synced(num_runs=int(parent is None), num_steps=len(missing))


class _Missing(NamedTuple):
    """A step that MLflow lacks, and what it made."""

    step: StepRecord
    manifest: Manifest


def _missing(store: Store, tracking: Tracking, parent: str | None, steps: Iterable[StepRecord]) -> list[_Missing]:
    """Steps without a child run. One whose artifact was collected as garbage cannot be told any more."""
    children = tracking.runs_with("mlflow.parentRunId", parent) if parent else []
    known = {(child.data.tags["mlflow.runName"], child.data.tags["posttrain.fingerprint"]) for child in children}
    lacking = (step for step in steps if (step.label, step.artifact.fingerprint) not in known)
    found = ((step, store.find(step.step, step.artifact.fingerprint or "")) for step in lacking)
    return [_Missing(step, manifest) for step, manifest in found if manifest is not None]


def _details(store: Store, manifest: Manifest) -> StepDetails:
    content = store.read_note(f"details/{manifest.step}/{manifest.fingerprint}.json")
    return StepDetails.model_validate_json(content) if content else StepDetails()


# Manifests that no run names


def _unnamed(store: Store, named: set[str]) -> _Unnamed:
    made = {manifest.fingerprint: manifest for manifest in store.manifests()}
    graph = build_graph(made.values())
    unnamed = _Unnamed([], [])
    for key in graph.nodes:  # parents before children
        if key in made and key not in named:
            (unnamed.late if ancestors(graph, key) & named else unnamed.early).append(_step_of(store, made[key]))
    return unnamed


def _record_of(steps: Iterable[StepRecord]) -> RunRecord:
    return RunRecord(id=UNNAMED, recipe=UNNAMED, state="finished", started=time.time(), steps=tuple(steps))


def _step_of(store: Store, manifest: Manifest) -> StepRecord:
    """A record of the making of an artifact by a run that the store does not know."""
    artifact, cost = store.reference(manifest), _details(store, manifest).cost
    funnel = artifact.funnel if isinstance(artifact, Dataset) else {}
    fields = {"label": manifest.name, "phase": "", "step": manifest.step, "artifact": artifact, "cached": False}
    fields |= {"seconds": cost.seconds, "cost": cost, "funnel": funnel}
    fields |= {"rows_in": sum(sum(reasons.values()) for reasons in funnel.values())}
    return StepRecord.model_validate(fields | {"rows_out": artifact.rows if isinstance(artifact, Dataset) else 0})
