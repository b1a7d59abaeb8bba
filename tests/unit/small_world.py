"""A store with artifacts that tests name by one word, for tests of what is kept and what goes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from infra.artifacts import Artifact, File, Manifest, Parent
from infra.fingerprint import fingerprint
from infra.gc import Collector, GcPolicy
from infra.output import Cost
from infra.run import RUNS, RunRecord, StepRecord
from infra.store import Store

DAY = 86_400.0
LATER = time.time() + 100 * DAY


class World:
    """A store with artifacts that tests name by one word."""

    def __init__(self, store: Store, tmp_path: Path) -> None:
        self.store, self.tmp_path = store, tmp_path
        self.scratch = tmp_path / "local/scratch"

    def put(self, text: str) -> File:
        source = self.tmp_path / "source.txt"
        source.write_text(text)
        return self.store.put_file(source, f"{text}.txt")

    def make(self, name: str, *parents: Artifact | Parent, files: tuple[str, ...] = (), **fields: Any) -> Artifact:
        texts = files or (name,)
        given = tuple(p if isinstance(p, Parent) else parent_of(p) for p in parents)
        base = {"kind": "dataset", "name": name, "step": f"make-{name}", "version": 1, "sampled": False, "config": {}}
        rest = {"fingerprint": key(name), "parents": {"given": given}, "files": tuple(self.put(t) for t in texts)}
        manifest = Manifest.model_validate(base | rest | {"summary": {}} | fields)
        self.store.note(f"details/{manifest.step}/{manifest.fingerprint}.json", b"{}")
        return self.store.reference(self.store.publish(manifest))

    def collector(self, now: float = LATER, **policy: float) -> Collector:
        return Collector(self.store, self.scratch, GcPolicy.model_validate(policy), now=now)

    def record_run(self, *made: Artifact, started: float, state: str = "finished", id_: str = "r") -> None:
        steps = [
            StepRecord.model_validate(
                {"label": a.name, "phase": "p", "step": a.step, "artifact": a, "cached": False, "seconds": 0.0}
                | {"cost": Cost(), "at": started}
            )
            for a in made
        ]
        record = RunRecord.model_validate(
            {"id": id_, "recipe": "recipe", "state": state, "started": started, "steps": steps}
        )
        self.store.note(f"{RUNS}/{id_}/all.json", record.model_dump_json().encode())

    def names(self) -> set[str]:
        return {manifest.name for manifest in self.store.manifests()}

    def objects(self) -> set[str]:
        return {each.name for folder in ("manifests", "details", "blobs") for each in self.store.objects(folder)}


def key(name: str) -> str:
    return fingerprint(name)


def parent_of(artifact: Artifact) -> Parent:
    fields = {"kind": artifact.kind, "name": artifact.name, "digest": artifact.digest}
    return Parent.model_validate(fields | {"fingerprint": artifact.fingerprint})


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""
