"""Data versions in a store of a test's own, and filter steps run on them as the step decorator runs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from infra.artifacts import Dataset, Drop, Manifest
from infra.fingerprint import fingerprint
from infra.output import Output, Resources
from infra.runtime import Runtime
from infra.step import Step
from infra.store import Store
from tasks.records import Domain, Message, Query


class Outcome(NamedTuple):
    """What a step leaves: its data version, the ids that it kept, and its drops by query id."""

    dataset: Dataset
    kept: list[str]
    drops: dict[str, Drop]


class StoredQueries:
    """A store with data versions, and steps run on them."""

    def __init__(self, folder: Path, processes: int = 1) -> None:
        self.folder = folder
        self.store = Store(str(folder / "store"), local=folder / "local")
        self.runtime = Runtime(verifier_processes=processes)
        self._count = 0

    def add(self, rows: Sequence[BaseModel]) -> Dataset:
        """A data version of these rows."""
        out = self._output()
        for row in rows:
            out.keep(row)
        return self._publish(out)

    def run(self, step: Step[Dataset], *inputs: Any, config: BaseModel | None = None, **more: Any) -> Outcome:
        """The outcome of a step; conservation is checked where the step declares it."""
        out = self._output()
        given = {"config": config, "out": out, "runtime": self.runtime}
        step.inner(*inputs, **{name: given[name] for name in given if step._takes(name)}, **more)
        if step.conserves:
            out.check_conservation(inputs[0].rows)
        made = self._publish(out)
        drops = {drop.query_id: drop for drop in self.store.rows(made, Drop, prefix="dropped")}
        kept = [row.id for row in self.store.rows(made, _Identified)]
        return Outcome(made, kept, drops)

    def _output(self) -> Output:
        self._count += 1
        scratch = self.folder / f"scratch-{self._count}"
        scratch.mkdir(parents=True)
        return Output("step", scratch=scratch, store=self.store, resources=Resources())

    def _publish(self, out: Output) -> Dataset:
        files, name = out.finish(is_dataset=True), f"version-{self._count}"
        told: dict[str, Any] = {"kind": "dataset", "name": name, "step": "step", "version": 1, "sampled": False}
        manifest = Manifest(
            fingerprint=fingerprint(name), files=tuple(files), summary=out.summary, config={}, parents={}, **told
        )
        made = self.store.reference(self.store.publish(manifest))
        assert isinstance(made, Dataset)
        return made


class _Identified(BaseModel):
    id: str


def ask(name: str, text: str, **fields: Any) -> Query:
    """A math query whose answer is 5, if nothing else is said."""
    defaults: dict[str, Any] = {"id": name, "domain": Domain.MATH, "source": "toy", "answer": "5"}
    return Query(messages=(Message(role="user", content=text),), **(defaults | fields))
