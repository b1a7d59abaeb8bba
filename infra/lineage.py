"""MLflow as an index over the store's manifests: runs, dataset inputs, models with input and output edges, scores.

One parent run a pipeline run, one child a step; a hit makes a tiny child, so a cached pipeline has whole lineage too.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from infra.artifacts import Checkpoint, Dataset, Manifest, Parent, Report
from infra.run import Run, StepDetails, StepRecord

EXPERIMENT = "posttrain"
# MLflow refuses a dataset digest over 36 characters; 32 hex digits are 128 bits.
DIGEST_CHARS = 32
BATCH = 1000


class MlflowLineage:
    """Records one run. Made when the run starts; every failure to record is an error, never silence."""

    def __init__(self, run: Run) -> None:
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self._mlflow: Any = mlflow
        self.uri = run.runtime.mlflow_uri
        mlflow.set_tracking_uri(self.uri)
        self._client: Any = mlflow.MlflowClient(self.uri)
        self._store = run.store
        self.experiment_id = self._experiment(run)
        tags = {"mlflow.runName": f"{run.name} {run.id}", "posttrain.run": run.id, "posttrain.recipe": run.name}
        self.run_id: str = self._client.create_run(self.experiment_id, tags=tags).info.run_id
        self._models: dict[str, str] = {}
        self._metrics: dict[str, float] = {}

    def _experiment(self, run: Run) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        location = None if run.runtime.tracking_uri else (run.runtime.scratch_folder.parent / "mlartifacts").as_uri()
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=location))

    # Steps

    def record(self, record: StepRecord, manifest: Manifest, details: StepDetails) -> None:
        """A child run with parameters, dataset inputs, model edges, curves, scores and the card."""
        tags = {
            "mlflow.runName": record.label,
            "mlflow.parentRunId": self.run_id,
            "posttrain.phase": record.phase,
            "posttrain.step": record.step,
            "posttrain.cached": str(record.cached).lower(),
            "posttrain.fingerprint": manifest.fingerprint,
            "posttrain.digest": manifest.digest,
            "posttrain.uri": record.artifact.uri,
        }
        child = self._client.create_run(self.experiment_id, tags=tags).info.run_id
        self._log_config(child, manifest)
        self._log_inputs(child, manifest)
        self._log_output(child, record, manifest)
        self._log_numbers(child, record, manifest, details)
        self._client.log_text(child, details.card or "(no card)", "card.md")
        self._client.log_text(child, manifest.model_dump_json(indent=1), "manifest.json")
        self._client.set_terminated(child)

    def _log_config(self, child: str, manifest: Manifest) -> None:
        from mlflow.entities import Param

        params = [Param(key, value[:6000]) for key, value in _flat(manifest.config)]
        for batch in _batches(params, 100):
            self._client.log_batch(child, params=batch)

    def _log_inputs(self, child: str, manifest: Manifest) -> None:
        from mlflow.entities import LoggedModelInput

        datasets = [self._dataset_input(p, name) for name, group in manifest.parents.items() for p in group]
        checkpoints = [p for group in manifest.parents.values() for p in group if p.kind == "checkpoint"]
        models = [LoggedModelInput(found) for p in checkpoints if (found := self._find_model(p.digest)) is not None]
        self._client.log_inputs(child, datasets=datasets or None, models=models or None)
        # The first step of a run reads raw files: show them on the parent too, where people start.
        raw = [self._dataset_input(p, n) for n, group in manifest.parents.items() for p in group if p.kind == "raw"]
        if raw:
            self._client.log_inputs(self.run_id, datasets=raw)

    def _dataset_input(self, parent: Parent, context: str) -> Any:
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag

        source = json.dumps({"kind": parent.kind, "digest": parent.digest, "fingerprint": parent.fingerprint})
        dataset = MlflowDataset(
            name=parent.name,
            digest=parent.digest[:DIGEST_CHARS],
            source_type="posttrain",
            source=source,
            schema=None,
            profile=None,
        )
        return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context)])

    def _log_output(self, child: str, record: StepRecord, manifest: Manifest) -> None:
        artifact = record.artifact
        if isinstance(artifact, Checkpoint):
            from mlflow.entities import LoggedModelOutput

            model_id = self._model_of(child, manifest)
            self._client.log_outputs(child, models=[LoggedModelOutput(model_id, step=artifact.train_step)])
        if isinstance(artifact, Dataset):
            self._client.set_tag(child, "posttrain.rows", str(artifact.rows))

    def _model_of(self, child: str, manifest: Manifest) -> str:
        """The LoggedModel that stands for a checkpoint's digest; made once, found again on a hit."""
        found = self._find_model(manifest.digest)
        if found is None:
            found = self._models[manifest.digest] = self._new_model(child, manifest)
        return found

    def _find_model(self, digest: str) -> str | None:
        """A checkpoint's LoggedModel, of this run or of an earlier one."""
        if digest not in self._models:
            query = f"tags.digest = '{digest}'"
            found = self._client.search_logged_models([self.experiment_id], filter_string=query, max_results=1)
            if not found:
                return None
            self._models[digest] = str(found[0].model_id)
        return self._models[digest]

    def _new_model(self, child: str, manifest: Manifest) -> str:
        model = self._mlflow.create_external_model(
            name=manifest.name,
            source_run_id=child,
            experiment_id=self.experiment_id,
            tags={"digest": manifest.digest, "fingerprint": manifest.fingerprint, "step": manifest.step},
            params=dict(_flat(manifest.config)),
        )
        self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _log_numbers(self, child: str, record: StepRecord, manifest: Manifest, details: StepDetails) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(k, v, now, s) for k, curve in details.curves.items() for s, v in curve]
        cost = {f"cost.{k}": float(v) for k, v in details.cost.model_dump().items()}
        cost |= {"rows_in": float(record.rows_in), "rows_out": float(record.rows_out), "run_seconds": record.seconds}
        points += [Metric(key, value, now, 0) for key, value in cost.items()]
        for batch in _batches(points, BATCH):
            self._client.log_batch(child, metrics=batch)
        if isinstance(record.artifact, Report):
            self._log_scores(child, record.artifact, manifest, record.label)

    def _log_scores(self, child: str, report: Report, manifest: Manifest, label: str) -> None:
        """Scores on the child, on the model's page (with model and dataset), and on the parent under the label."""
        checkpoints = [p.digest for group in manifest.parents.values() for p in group if p.kind == "checkpoint"]
        model_id = self._find_model(checkpoints[0]) if checkpoints else None
        for benchmark, score in report.scores.items():
            digest = next((p.digest for g in manifest.parents.values() for p in g if p.name.endswith(benchmark)), "")
            data = {"dataset_name": benchmark, "dataset_digest": digest[:DIGEST_CHARS]} if digest else {}
            self._client.log_metric(child, f"{benchmark}.avg_at_{score.k}", score.mean, model_id=model_id, **data)
            self._client.log_metric(self.run_id, f"{label}.{benchmark}.avg_at_{score.k}", score.mean)

    def end(self, failed: bool) -> None:
        """Close the parent run."""
        self._client.set_terminated(self.run_id, status="FAILED" if failed else "FINISHED")

    @property
    def page(self) -> str:
        """Path of the run's page in MLflow, in the model-training view."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}?workflowType=machine_learning"


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    elif prefix:
        yield prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
