"""The step: one contract for all work. Prefect task + cache + ledger + card + cost + lineage.

Prefect is imported when a step runs, not when it is defined, so that `posttrain plan` walks the same flows without it.
"""

from __future__ import annotations

import fcntl
import functools
import inspect
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from pydantic import BaseModel

from infra.artifacts import AnyArtifact, Artifact, Checkpoint, Dataset, Folder, Kind, Manifest, Parent, Report, pending
from infra.card import render_card
from infra.cards import artifact_key
from infra.fingerprint import canonical, canonical_json, fingerprint
from infra.output import Output
from infra.progress import announce
from infra.run import PlannedStep, Run, StepDetails, StepRecord, current_run, scratch_of
from infra.runtime import Runtime

Made = TypeVar("Made", bound=Artifact)
_KINDS: dict[type[Artifact], Kind] = {Dataset: "dataset", Checkpoint: "checkpoint", Report: "report", Folder: "folder"}
REGISTRY: dict[str, Step[Any]] = {}


class StepError(RuntimeError):
    """A step is declared or called in a way that cannot work."""


class Call(BaseModel):
    """One call of a step, bound: what its identity is made of."""

    inputs: dict[str, tuple[Artifact, ...]]
    config: BaseModel | None
    arguments: dict[str, Any]
    label: str

    model_config = {"arbitrary_types_allowed": True}

    @property
    def waits_for(self) -> list[str]:
        """Labels of inputs that are not made yet (only while planning)."""
        return [a.name for group in self.inputs.values() for a in group if a.is_pending]

    def identity(self, step: str, version: int) -> dict[str, Any]:
        """What the fingerprint hashes: step, version, config and input digests. No Runtime, by construction."""
        digests = {name: [artifact.digest for artifact in group] for name, group in self.inputs.items()}
        return {"step": step, "version": version, "config": canonical(self.config), "inputs": digests}


class Step(Generic[Made]):
    """A decorated function. Calling it returns the reference to its artifact; `inner` is the function itself."""

    def __init__(
        self,
        inner: Callable[..., None],
        produces: type[Made],
        version: int,
        conserves: str | None,
        sampled: bool,
        retries: int,
    ) -> None:
        functools.update_wrapper(self, inner)
        self.inner, self.produces, self.version = inner, produces, version
        self.conserves, self.sampled, self.retries = conserves, sampled, retries
        self.name = inner.__name__.replace("_", "-")
        self._signature = inspect.signature(inner)
        if conserves is not None and conserves not in self._signature.parameters:
            raise StepError(f"step {self.name} conserves `{conserves}`, which is not one of its parameters")
        other = REGISTRY.setdefault(self.name, self)
        if other.inner.__module__ != inner.__module__:
            raise StepError(
                f"step {self.name} of {inner.__module__} has the name of one of {other.inner.__module__}; rename it"
            )
        REGISTRY[self.name] = self

    def __call__(self, *args: Any, label: str = "", runtime: Runtime | None = None, **kwargs: Any) -> Made:
        """Find or make the artifact. `label` names this use of the step where it is used more than once."""
        run = current_run()
        if run is None:
            raise StepError(
                f"step {self.name} was called outside of a flow; call it from one, or use `.inner` in a test"
            )
        call = self._bind(args, kwargs, label or self.name)
        if run.planning:
            return self._plan(run, call)
        return cast(Made, _as_prefect_task(self, run, call))

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], label: str) -> Call:
        given = self._signature.bind_partial(*args, **kwargs).arguments
        inputs = {name: _artifacts(value) for name, value in given.items() if _is_input(value)}
        loose = [name for name, value in given.items() if value is not None and name not in {*inputs, "config"}]
        if loose:
            raise StepError(
                f"step {self.name}: `{loose[0]}` would be no part of its identity; make it a field of config"
            )
        return Call(inputs=inputs, config=given.get("config"), arguments=dict(given), label=label)

    def _plan(self, run: Run, call: Call) -> Made:
        planned = functools.partial(PlannedStep, label=call.label, phase=run.phase, step=self.name)
        made = cast(Made, pending(_KINDS[self.produces], call.label, self.name))
        if call.waits_for:
            run.planned.append(planned(state="waits", why=f"waits for {', '.join(dict.fromkeys(call.waits_for))}"))
            return made
        identity = call.identity(self.name, self.version)
        manifest = run.store.find(self.name, fingerprint(identity))
        if manifest is not None and run.store.is_whole(manifest):
            run.planned.append(planned(state="hit", why=""))
            return cast(Made, _named(run.store.reference(manifest), call.label))
        run.planned.append(planned(state="miss", why=explain_change(run.last_seen(call.label), identity)))
        return made

    def execute(self, run: Run, call: Call) -> StepRecord:
        """Find the artifact in the store, or make and publish it."""
        started = time.monotonic()
        identity = call.identity(self.name, self.version)
        key = fingerprint(identity)
        scratch = scratch_of(run.runtime, self.name, key)
        with _locked(scratch):
            manifest = run.store.find_whole(self.name, key)
            cached = manifest is not None
            if manifest is None:
                manifest, details = self._make(run, call, key, scratch)
                shutil.rmtree(scratch)
            else:
                details = _read_details(run, manifest)
        run.remember(call.label, identity)
        record = self._record(run, call, manifest, details, cached, time.monotonic() - started)
        run.add(record)
        announce(record.phase, record.label, "cached" if cached else f"{record.seconds:.1f} s")
        if run.lineage is not None:
            run.lineage.record(record, manifest, details)
        return record

    def _make(self, run: Run, call: Call, key: str, scratch: Path) -> tuple[Manifest, StepDetails]:
        started = time.monotonic()
        scratch.mkdir(parents=True, exist_ok=True)
        out = Output(self.name, scratch, run.store, run.resources)
        given = dict(call.arguments)
        given |= {name: value for name, value in (("out", out), ("runtime", run.runtime)) if self._takes(name)}
        try:
            self.inner(**given)
            out.check_conservation(self._rows_in(call, out)) if self._counts(out) else None
            files = out.finish(is_dataset=self.produces is Dataset)
        finally:
            out.close()
        parents = {n: tuple(Parent.model_validate(_parent(a)) for a in group) for n, group in call.inputs.items()}
        manifest = Manifest(
            kind=_KINDS[self.produces],
            name=call.label,
            step=self.name,
            version=self.version,
            sampled=self.sampled,
            fingerprint=key,
            config=canonical(call.config) or {},
            parents=parents,
            files=tuple(files),
            summary=canonical(out.summary),
        )
        cost = out.cost.model_copy(update={"seconds": time.monotonic() - started})
        details = StepDetails(cost=cost, card=render_card(manifest, out.notes, out.curves), curves=out.curves)
        # Before the manifest: once that is there nobody makes the details again.
        run.store.note(_details_note(manifest), details.model_dump_json().encode())
        return run.store.publish(manifest), details

    def _takes(self, name: str) -> bool:
        return name in self._signature.parameters

    def _counts(self, out: Output) -> bool:
        return self.conserves is not None or out.rows_in > 0

    def _rows_in(self, call: Call, out: Output) -> int:
        if self.conserves is None:
            return out.rows_in
        return sum(artifact.rows for artifact in call.inputs[self.conserves] if isinstance(artifact, Dataset))

    def _record(
        self, run: Run, call: Call, manifest: Manifest, details: StepDetails, cached: bool, seconds: float
    ) -> StepRecord:
        artifact = cast(AnyArtifact, _named(run.store.reference(manifest), call.label))
        groups = ([a.rows for a in group if isinstance(a, Dataset)] for group in call.inputs.values())
        rows_in = next((sum(rows) for rows in groups if rows), None)
        funnel = artifact.funnel if isinstance(artifact, Dataset) else {}
        counted = sum(sum(reasons.values()) for reasons in funnel.values())
        return StepRecord(
            label=call.label,
            phase=run.phase,
            step=self.name,
            artifact=artifact,
            cached=cached,
            seconds=seconds,
            rows_in=counted if rows_in is None else rows_in,
            rows_out=artifact.rows if isinstance(artifact, Dataset) else 0,
            cost=details.cost,
            funnel=funnel,
            at=time.time(),
        )


def step(
    *, version: int, produces: type[Made], conserves: str | None = None, sampled: bool = False, retries: int = 0
) -> Callable[[Callable[..., None]], Step[Made]]:
    """Declare a step.

    Args:
        version: bumped with every change of the step's code that changes its result.
        produces: Dataset, Checkpoint, Report or Folder.
        conserves: the parameter whose every query must be kept or dropped.
        sampled: True where sampling from an engine need not repeat.
        retries: tries after a failure; scratch keeps what was done.
    """
    return lambda inner: Step(inner, produces, version, conserves, sampled, retries)


def explain_change(last: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """One phrase: which config field, input or version differs from the last run's call."""
    if last is None:
        return "never run under this recipe's name"
    before, after = _flat(last), _flat(now)
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    if not changed:
        return "unchanged, but the artifact is not in the store"
    shown = [_change(key, before.get(key), after.get(key)) for key in changed[:3]]
    return "; ".join(shown) + (f"; and {len(changed) - 3} more" if len(changed) > 3 else "")


def _change(key: str, before: Any, after: Any) -> str:
    if key.startswith("inputs."):
        return f"input {key.removeprefix('inputs.')} changed"
    return f"{key}: {canonical_json(before)} → {canonical_json(after)}"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items = [_flat(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items()]
        return {key: item for part in items for key, item in part.items()}
    return {prefix: value}


def _named(artifact: Artifact, label: str) -> Artifact:
    """The label is no part of the identity, so the manifest may carry that of an earlier call."""
    return artifact.model_copy(update={"name": label})


def _is_input(value: Any) -> bool:
    return isinstance(value, Artifact) or (
        isinstance(value, tuple | list) and all(isinstance(item, Artifact) for item in value)
    )


def _artifacts(value: Any) -> tuple[Artifact, ...]:
    return (value,) if isinstance(value, Artifact) else tuple(value)


def _parent(artifact: Artifact) -> dict[str, Any]:
    fields = {"kind": artifact.kind, "name": artifact.name, "digest": artifact.digest}
    return fields | {"fingerprint": artifact.fingerprint}


def _details_note(manifest: Manifest) -> str:
    return f"details/{manifest.step}/{manifest.fingerprint}.json"


def _read_details(run: Run, manifest: Manifest) -> StepDetails:
    content = run.store.read_note(_details_note(manifest))
    return StepDetails.model_validate_json(content) if content else StepDetails()


@contextmanager
def _locked(scratch: Path) -> Iterator[None]:
    """One process on this machine works in a scratch folder; the lock goes with the process that holds it."""
    scratch.parent.mkdir(parents=True, exist_ok=True)
    with scratch.with_suffix(".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


class ScratchLock(NamedTuple):
    """A scratch folder and who works in it: a process id, or None."""

    folder: Path
    holder: int | None
    age_s: float


def scratch_locks(scratch_folder: Path) -> Iterator[ScratchLock]:
    """The locks of a scratch folder that are held, or whose folder is still there."""
    for path in sorted(scratch_folder.glob("*.lock")):
        folder = path.with_suffix("")
        with path.open("r") as lock:
            age_s = time.time() - path.stat().st_mtime
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield ScratchLock(folder, int(lock.read() or 0), age_s)
                continue
        if folder.exists():
            yield ScratchLock(folder, None, age_s)


def _as_prefect_task(step: Step[Any], run: Run, call: Call) -> Artifact:
    """Run the step as a Prefect task; a hit ends it in state Cached."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.states import Completed

    # Prefect's types are not followed (pyproject.toml), so its decorator has none.
    @task(  # type: ignore[untyped-decorator]
        name=step.name, task_run_name=call.label, retries=step.retries, cache_policy=NO_CACHE, persist_result=False
    )
    def run_step() -> Any:
        record = step.execute(run, call)
        _show_card(run, record)
        return Completed(name="Cached", data=record.artifact) if record.cached else record.artifact

    cast(Callable[[], Any], run_step)()
    return run.records[-1].artifact


def _show_card(run: Run, record: StepRecord) -> None:
    from prefect.artifacts import create_markdown_artifact

    manifest = run.store.manifest(record.artifact)
    card = _read_details(run, manifest).card or "(no card)"
    told = f"{record.rows_in:,} rows in, {record.rows_out:,} out; run {run.id}" if record.rows_out else f"run {run.id}"
    create_markdown_artifact(key=artifact_key(run.name, record.label), markdown=card, description=told)
