"""One pipeline run: its store, its open resources, what its steps did; or, when planning, what they would do."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field, RootModel

from infra.artifacts import AnyArtifact, Artifact, Manifest
from infra.config import Config
from infra.output import Cost, Resources
from infra.progress import announce
from infra.runtime import Runtime, storage_options
from infra.s3 import check_s3
from infra.store import Store

RUNS = "runs/by-id"
LAST = "runs/last"


class StepRecord(Config):
    """What one step did in one run."""

    label: str = Field(description="name within the pipeline; a step used twice has two labels")
    phase: str
    step: str
    artifact: AnyArtifact
    cached: bool
    seconds: float = Field(description="spent in this run")
    rows_in: int = 0
    rows_out: int = 0
    cost: Cost = Field(description="of making the artifact, whenever that was")
    funnel: dict[str, dict[str, int]] = {}
    at: float = Field(default=0.0, description="when it was recorded, in seconds since 1970")


class RunRecord(Config):
    """What a run did, as the store keeps it: one note a process of the run, written anew after every step."""

    id: str
    recipe: str
    state: Literal["running", "finished", "failed"] = Field(description="running also for one that was killed")
    started: float = Field(description="seconds since 1970")
    reason: str = Field(default="", description="why it did not finish")
    inputs: tuple[str, ...] = Field(default=(), description="`step/fingerprint` of what it was given to begin with")
    steps: tuple[StepRecord, ...] = ()


class Identity(RootModel[dict[str, Any]]):
    """What a step's fingerprint hashed, as the store keeps it of a label's last call."""


class PlannedStep(Config):
    """What a step would do."""

    label: str
    phase: str
    step: str
    state: Literal["hit", "miss", "waits"] = Field(description="waits: an input is not made yet")
    why: str = Field(description="which field or input changed since the last run of the recipe")


class Lineage(Protocol):
    """Where a run is recorded for people; the store's manifests stay the truth."""

    def record(self, record: StepRecord, manifest: Manifest, details: StepDetails) -> None:
        """Record a finished step."""

    def show(self, name: str, text: str) -> None:
        """Keep a text file with the run."""

    def describe(self, markdown: str) -> None:
        """Say on top of the run's page what it came to."""

    def set_alias(self, manifest: Manifest, model_name: str, alias: str) -> None:
        """Register a checkpoint, and point an alias at it."""

    @property
    def url(self) -> str:
        """Address of the run's page, where a server shows it."""

    def end(self, failed: bool) -> None:
        """Close the run's record."""


class RefusedError(RuntimeError):
    """A person refused; the run ends in state Refused with the reason that was given."""


class Dispatcher(Protocol):
    """Runs phases elsewhere: each as a flow run on its own work pool."""

    def serves(self, phase: str) -> bool:
        """True when it can run the phase."""

    def call(self, phase: str, arguments: Mapping[str, Any]) -> Any:
        """Run the phase and wait; its result, encoded."""


class StepDetails(Config):
    """What a step leaves beside its artifact: never part of the manifest."""

    cost: Cost = Cost()
    card: str = ""
    curves: dict[str, list[tuple[int, float]]] = {}


class Run:
    """One call of a flow: knows no phase."""

    def __init__(
        self, name: str, runtime: Runtime, planning: bool = False, id_: str | None = None, part: str = "all"
    ) -> None:
        self.name, self.runtime, self.planning, self.part = name, runtime, planning, part
        self.id = id_ or f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self.started = time.time()
        self.store = open_store(runtime, writes=not planning)
        self.resources = Resources()
        self.inputs: tuple[str, ...] = ()
        self.records: list[StepRecord] = []
        self.planned: list[PlannedStep] = []
        self.lineage: Lineage | None = None
        self.dispatcher: Dispatcher | None = None
        self.reason = ""  # why it did not finish, in a sentence
        self.has_failed = False
        self.phase = ""

    def last_seen(self, label: str) -> dict[str, Any] | None:
        """Identity of the last call of a label under this recipe's name."""
        return read_identity(self.store, f"{LAST}/{self.name}/{label}.json")

    def note_inputs(self, artifacts: Iterable[Artifact]) -> None:
        """Say in the record what the run works on, so that a collection of garbage leaves it however long that takes.

        A run that makes its inputs itself records them step by step; a phase that runs alone is given them.
        """
        named = (f"{artifact.step}/{artifact.fingerprint}" for artifact in artifacts if artifact.fingerprint)
        self.inputs = tuple(dict.fromkeys([*self.inputs, *named]))
        if not self.planning:
            self.write_record("running")

    def add(self, record: StepRecord) -> None:
        """Record a finished step, in memory and in the store."""
        self.records.append(record)
        self.write_record("running")

    def write_record(self, state: Literal["running", "finished", "failed"]) -> None:
        """Write what this process did so far as `runs/<id>/<part>.json`."""
        record = RunRecord(
            id=self.id,
            recipe=self.name,
            state=state,
            started=self.started,
            reason=self.reason,
            inputs=self.inputs,
            steps=tuple(self.records),
        )
        self.store.note(f"{RUNS}/{self.id}/{self.part}.json", record.model_dump_json().encode())

    def remember(self, label: str, identity: Mapping[str, Any]) -> None:
        """Keep the identity of a call, so that a later plan can say what changed."""
        self.store.note(f"{LAST}/{self.name}/{label}.json", json.dumps(identity, sort_keys=True).encode())


def read_runs(store: Store) -> list[RunRecord]:
    """Every run that the store knows, oldest first; the steps of its processes in the order in which they ended.

    Raises:
        StoreError: a record cannot be read.
    """
    parts: dict[str, list[RunRecord]] = {}
    for record in _read_records(store, "*"):
        parts.setdefault(record.id, []).append(record)
    return sorted((_joined(records) for records in parts.values()), key=lambda run: (run.started, run.id))


def read_run(store: Store, run_id: str) -> RunRecord | None:
    """One run, whichever processes it ran in; None where the store does not know it.

    Raises:
        StoreError: its record cannot be read.
    """
    parts = list(_read_records(store, run_id))
    return _joined(parts) if parts else None


def _read_records(store: Store, run_id: str) -> Iterator[RunRecord]:
    notes = (name for name in store.notes(f"{RUNS}/{run_id}") if _is_record(name))
    found = (store.read_note_as(name, RunRecord, "a run's record") for name in notes)
    return (record for record in found if record is not None)


def read_identity(store: Store, name: str) -> dict[str, Any] | None:
    """The identity of a call that `Run.remember` kept under this name, or None.

    Raises:
        StoreError: it cannot be read.
    """
    identity = store.read_note_as(name, Identity, "a call's identity")
    return identity.root if identity is not None else None


def run_record(run: Run) -> RunRecord:
    """What all processes of a run did so far."""
    found = read_run(run.store, run.id)
    assert found is not None, "a run writes its record when it begins"
    return found


def _is_record(note: str) -> bool:
    return note.endswith(".json") and not note.endswith("/report.json")


def _joined(parts: list[RunRecord]) -> RunRecord:
    """One record of a run that ran in several processes: it goes on while one does, and fails with one."""
    first = min(parts, key=lambda part: part.started)
    states = {part.state for part in parts}
    state = next(each for each in ("failed", "running", "finished") if each in states)
    inputs = tuple(dict.fromkeys(name for part in parts for name in part.inputs))
    steps = sorted((step for part in parts for step in part.steps), key=lambda step: step.at)
    reason = next((part.reason for part in parts if part.reason), "")
    return first.model_copy(update={"state": state, "reason": reason, "inputs": inputs, "steps": tuple(steps)})


def open_store(runtime: Runtime, writes: bool = False) -> Store:
    """The profile's store, once it answers.

    Raises:
        ConfigError: a store on S3 that cannot be used as the profile says.
    """
    store = Store(runtime.store, runtime.scratch_folder.parent, storage_options(runtime))
    check_s3(store, runtime, writes)
    return store


_current: ContextVar[Run | None] = ContextVar("posttrain_run", default=None)


def current_run() -> Run | None:
    """The run that this code is part of."""
    return _current.get()


def require_run() -> Run:
    """The current run.

    Raises:
        RuntimeError: there is none.
    """
    run = current_run()
    if run is None:
        raise RuntimeError("no run is active; open one with `with active(Run(…))`")
    return run


@contextmanager
def active(run: Run) -> Iterator[Run]:
    """Make `run` the current one; at the end its resources close, and its records in store and lineage are ended."""
    token = _current.set(run)
    run.has_failed = True  # until its end says otherwise
    with ExitStack() as at_end:
        # Each of these happens whatever becomes of the others; the last pushed is the first done.
        for work in (_end_lineage, _end_record, _close_resources):
            at_end.callback(_without_hiding, run, work)
        at_end.callback(_current.reset, token)
        try:
            if not run.planning:
                run.write_record("running")
            yield run
            run.has_failed = bool(run.reason)
        except BaseException as error:
            run.reason = run.reason or f"{type(error).__name__}: {error}".removesuffix(": ")
            raise


def _without_hiding(run: Run, work: Callable[[Run], None]) -> None:
    """Do a part of a run's end. Its own failure must not stand in the place of the one that ended the run."""
    try:
        work(run)
    except Exception as late:
        if not run.has_failed:
            run.has_failed, run.reason = True, f"{type(late).__name__}: {late}"
            raise
        announce(run.phase or run.name, "at the end", f"{type(late).__name__}: {late}")


def _close_resources(run: Run) -> None:
    run.resources.close()


def _end_record(run: Run) -> None:
    if not run.planning:
        run.write_record("failed" if run.has_failed else "finished")


def _end_lineage(run: Run) -> None:
    if run.lineage is not None:
        run.lineage.end(run.has_failed)


@contextmanager
def in_phase(run: Run, phase: str) -> Iterator[None]:
    """Name the phase that the next steps belong to."""
    before, run.phase = run.phase, phase
    try:
        yield
    finally:
        run.phase = before


def scratch_of(runtime: Runtime, step: str, fingerprint: str) -> Path:
    """The local folder where unfinished work of a fingerprint lies."""
    return runtime.scratch_folder / f"{step}-{fingerprint[:24]}"
