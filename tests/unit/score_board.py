"""A store in which tests score checkpoints by hand, for tests of promotion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.artifacts import Artifact, Checkpoint, Dataset, Manifest, Parent, Report
from infra.config import Config
from infra.fingerprint import fingerprint
from infra.output import Cost
from infra.rows import write_shard
from infra.run import RUNS, RunRecord, StepRecord
from infra.store import Store
from tasks.benchmark.scores import ProblemScore

Scores = dict[str, list[float]]
MEASURE = {"run": {"num_samples": 2}, "rewards": {"math": 1}, "policy": {"max_model_len": 64}}


class Board:
    """A store in which a test scores checkpoints by hand."""

    def __init__(self, store: Store, tmp_path: Path) -> None:
        self.store, self.tmp_path = store, tmp_path

    def checkpoint(self, name: str) -> Checkpoint:
        made = self._publish("checkpoint", name, "train", {}, {"train_step": len(name), "base_model": name})
        assert isinstance(made, Checkpoint)
        return made

    def report(self, label: str, on: Checkpoint, scores: Scores, **config: Any) -> Report:
        rows = [
            ProblemScore(benchmark=benchmark, query_id=f"q{number}", mean=mean, k=2, num_unjudged=0)
            for benchmark, means in scores.items()
            for number, mean in enumerate(means)
        ]
        made = self._publish("report", label, "evaluate", MEASURE | config, {}, rows, (on, *map(_benchmark, scores)))
        assert isinstance(made, Report)
        return made

    def _publish(
        self, kind: str, name: str, step: str, config: Any, summary: Any, rows: Any = (), parents: Any = ()
    ) -> Artifact:
        path = self.tmp_path / "problems-00000.parquet"
        if rows:
            write_shard(path, ProblemScore, rows)
        files = [self.store.put_file(path, path.name)] if rows else []
        given = tuple(
            Parent(kind=each.kind, name=each.name, digest=each.digest, fingerprint=each.fingerprint) for each in parents
        )
        key = fingerprint([name, config, [each.digest for each in parents]])
        base = {"kind": kind, "name": name, "step": step, "version": 1, "sampled": True, "config": config}
        rest = {"fingerprint": key, "parents": {"given": given}, "files": files, "summary": summary}
        return self.store.reference(self.store.publish(Manifest.model_validate(base | rest)))

    def run(self, id_: str, *made: Artifact, state: str = "finished", recipe: str = "recipe") -> None:
        steps = [
            StepRecord.model_validate(
                {"label": a.name, "phase": "p", "step": a.step, "artifact": a, "cached": False, "seconds": 0.0}
                | {"cost": Cost(), "at": float(number)}
            )
            for number, a in enumerate(made)
        ]
        fields = {"id": id_, "recipe": recipe, "state": state, "started": float(id_[1:]), "steps": steps}
        self.store.note(f"{RUNS}/{id_}/all.json", RunRecord.model_validate(fields).model_dump_json().encode())


class Trained(Config):
    """A run of two checkpoints, each with its report."""

    base: Checkpoint
    base_report: Report
    policy: Checkpoint
    report: Report


def _benchmark(name: str) -> Dataset:
    return Dataset(
        name=name, digest=fingerprint(name), uri="", step="ingest-benchmark", fingerprint=fingerprint([name])
    )


def train(board: Board, id_: str, base: Scores, policy: Scores, recipe: str = "recipe", **config: Any) -> Trained:
    """Record a run that scored its base model and what it made of it."""
    first, last = board.checkpoint("base"), board.checkpoint(f"policy of {id_}")
    made = Trained(
        base=first,
        base_report=board.report("scores base", first, base, **config),
        policy=last,
        report=board.report("scores sft", last, policy, **config),
    )
    board.run(id_, made.base, made.policy, made.base_report, made.report, recipe=recipe)
    return made
