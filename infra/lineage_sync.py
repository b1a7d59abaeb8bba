"""Rebuild MLflow from the store: the manifests and run records are the truth, and replaying them makes the index."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pydantic import Field

from infra.artifacts import Dataset, Manifest
from infra.config import Config
from infra.graph import build_graph
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


class _Missing(NamedTuple):
    """A step that MLflow lacks, and what it made."""

    step: StepRecord
    manifest: Manifest


class _Replay(NamedTuple):
    """A run whose steps MLflow lacks, in part or all."""

    record: RunRecord
    lineage: MlflowLineage
    is_new: bool
    missing: list[_Missing]


def sync(runtime: Runtime, store: Store) -> Synced:
    """Make the parent and child runs that MLflow lacks; manifests that no run names go under one parent.

    A run that goes on, as far as the store knows, is left to its process where MLflow has it.
    """
    tracking = Tracking(runtime)
    made = {manifest.fingerprint: manifest for manifest in store.manifests()}
    order = {key: place for place, key in enumerate(build_graph(made.values()).nodes)}
    runs = [run for run in read_runs(store) if run.steps]
    named = {step.artifact.fingerprint for run in runs for step in run.steps}
    unnamed = [_step_of(store, made[key]) for key in order if key in made and key not in named]
    records = [*runs, _record_of(unnamed)] if unnamed else runs
    replays = [found for record in records if (found := _opened(tracking, runtime, record, made)) is not None]
    # Parents before children, across runs: the edge of a step to its model needs the model.
    lines = [(order[missing.manifest.fingerprint], replay, missing) for replay in replays for missing in replay.missing]
    for _, replay, missing in sorted(lines, key=lambda line: line[0]):
        replay.lineage.record(missing.step, missing.manifest, _details(store, missing.manifest))
    for replay in replays:
        ended = max(step.at for step in replay.record.steps) or time.time()
        replay.lineage.close(_STATUS[replay.record.state], ended)
    return Synced(num_runs=sum(replay.is_new for replay in replays), num_steps=len(lines))


def _opened(tracking: Tracking, runtime: Runtime, record: RunRecord, made: Mapping[str, Manifest]) -> _Replay | None:
    """The run, open for what MLflow lacks of it; None where it lacks nothing."""
    parent = tracking.find_parent(record.id)
    missing = _missing(tracking, parent, record, made)
    if (parent is not None and record.state == "running") or not missing:
        return None
    title = UNNAMED if record.id == UNNAMED else f"{record.recipe} {record.id}"
    run = Run(record.recipe, runtime, id_=record.id)
    run.records = list(record.steps)
    opened = parent or tracking.new_parent(title, record.id, record.recipe, record.started)
    return _Replay(record, MlflowLineage(run, parent_id=opened), parent is None, missing)


def _missing(tracking: Tracking, parent: str | None, record: RunRecord, made: Mapping[str, Manifest]) -> list[_Missing]:
    """Steps without a child run. One whose artifact was collected as garbage cannot be told any more."""
    children = tracking.runs_with("mlflow.parentRunId", parent) if parent else []
    known = {(child.data.tags["mlflow.runName"], child.data.tags["posttrain.fingerprint"]) for child in children}
    steps = ((step, step.artifact.fingerprint or "") for step in record.steps)
    return [_Missing(step, made[key]) for step, key in steps if key in made and (step.label, key) not in known]


def _details(store: Store, manifest: Manifest) -> StepDetails:
    content = store.read_note(f"details/{manifest.step}/{manifest.fingerprint}.json")
    return StepDetails.model_validate_json(content) if content else StepDetails()


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
