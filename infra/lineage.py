"""MLflow as an index over the store's manifests: runs, dataset inputs, models with input and output edges, scores.

One parent run a pipeline run, one child a step; a hit makes a tiny child, so a cached pipeline has whole lineage too.
The parent shows what people look for first: the raw files and data versions in, the last checkpoint out, the scores,
and `lineage.html`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from infra.artifacts import Checkpoint, Dataset, Manifest, Parent, Report
from infra.config import ConfigError
from infra.graph import build_graph
from infra.lineage_page import lineage_page
from infra.lookup import with_ancestors
from infra.run import RUNS, Run, StepDetails, StepRecord, read_run
from infra.runtime import Runtime, give_s3_to_mlflow, without_password

EXPERIMENT = "posttrain"
PAGE = "lineage.html"
# MLflow refuses a dataset digest over 36 characters; 32 hex digits are 128 bits.
DIGEST_CHARS = 32
BATCH = 1000
BEHIND_SERVER = "mlflow-artifacts:"
# How SQLite and PostgreSQL say that somebody else has just inserted the row.
_TAKEN = ("UNIQUE constraint failed", "duplicate key value")


class Tracking:
    """MLflow's server or database of a profile, with our experiment in it."""

    def __init__(self, runtime: Runtime) -> None:
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.mlflow: Any = mlflow
        mlflow.set_tracking_uri(runtime.mlflow_uri)
        self.client: Any = mlflow.MlflowClient(runtime.mlflow_uri)
        give_s3_to_mlflow(runtime)
        self.experiment_id = self._experiment(runtime)

    def _experiment(self, runtime: Runtime) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        location = runtime.mlflow_artifacts
        if found is None:
            try:
                return str(self.client.create_experiment(EXPERIMENT, artifact_location=location))
            except self.mlflow.MlflowException:
                found = self.client.get_experiment_by_name(EXPERIMENT)  # another process of ours was quicker
                if found is None:
                    raise
        check_place(runtime, found.artifact_location)
        return str(found.experiment_id)

    def find_parent(self, run: str) -> str | None:
        """MLflow's run of a pipeline run, or None."""
        found = self.runs_with("posttrain.run", run)
        return str(found[0].info.run_id) if found else None

    def new_parent(self, title: str, run: str, recipe: str, started: float) -> str:
        """A new run for a pipeline run that started then (seconds since 1970)."""
        tags = {"mlflow.runName": title, "posttrain.run": run, "posttrain.recipe": recipe}
        made = self.client.create_run(self.experiment_id, start_time=_ms(started), tags=tags)
        return str(made.info.run_id)

    def runs_with(self, tag: str, value: str) -> list[Any]:
        """MLflow's runs with a tag of that value, newest first."""
        query = f"tags.`{tag}` = '{value}'"
        page = self.client.search_runs([self.experiment_id], filter_string=query)
        found = list(page)
        while page.token:
            page = self.client.search_runs([self.experiment_id], filter_string=query, page_token=page.token)
            found += page
        return found


def check_place(runtime: Runtime, kept_in: str) -> None:
    """Refuse an experiment whose artifacts this process cannot reach, or that keeps them where the profile does not.

    Raises:
        ConfigError: `kept_in`, the experiment's place, is only for a server, or not the profile's artifact_root.
    """
    shown = without_password(runtime.mlflow_uri)
    if kept_in.startswith(BEHIND_SERVER):
        # Made over HTTP without a place of its own: whoever asks the server reaches it, and nobody else.
        if not runtime.has_tracking_server:
            raise ConfigError(
                f"MLflow at {shown} keeps its artifacts behind a server ({kept_in}), so its database alone is not "
                f'enough; `posttrain up`, then set tracking_uri = "{runtime.stack.mlflow_url}" in the profile'
            )
    elif runtime.artifact_root is not None and kept_in != runtime.mlflow_artifacts:
        raise ConfigError(
            f"artifact_root {runtime.mlflow_artifacts}: MLflow at {shown} has kept artifacts in {kept_in} since its "
            "first run; name that, or another tracking_uri"
        )


class MlflowLineage:
    """Records one run. Made when the run starts; every failure to record is an error, never silence.

    Args:
        run: the pipeline run. One that MLflow knows already (a retry has the same id) goes on in its MLflow run.
        parent_id: MLflow's run of the pipeline run, where another process began it and will end it.
    """

    def __init__(self, run: Run, parent_id: str | None = None) -> None:
        self._run, self._store = run, run.store
        self.tracking = Tracking(run.runtime)
        self._mlflow, self._client = self.tracking.mlflow, self.tracking.client
        self.experiment_id = self.tracking.experiment_id
        self._ends = parent_id is None
        self.run_id = parent_id or self._parent()
        self._models: dict[str, str] = {}

    def _parent(self) -> str:
        run = self._run
        found = self.tracking.find_parent(run.id)
        if found is None:
            return self.tracking.new_parent(f"{run.name} {run.id}", run.id, run.name, run.started)
        self._client.update_run(found, status="RUNNING")
        return found

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
        ended = record.at or time.time()
        started = _ms(ended - record.seconds)
        child = self._client.create_run(self.experiment_id, start_time=started, tags=tags).info.run_id
        self._log_config(child, manifest)
        self._log_inputs(child, manifest)
        self._log_output(child, record, manifest)
        self._log_numbers(child, record, manifest, details)
        self._client.log_text(child, details.card or "(no card)", "card.md")
        self._client.log_text(child, manifest.model_dump_json(indent=1), "manifest.json")
        self._client.set_terminated(child, end_time=_ms(ended))

    def show(self, name: str, text: str) -> None:
        """Keep a text file with the run."""
        self._client.log_text(self.run_id, text, name)

    def describe(self, markdown: str) -> None:
        """What the run's page says on top."""
        self._client.set_tag(self.run_id, "mlflow.note.content", markdown)

    def _log_config(self, child: str, manifest: Manifest) -> None:
        from mlflow.entities import Param

        params = [Param(key, value[:6000]) for key, value in _flat(manifest.config)]
        for batch in _batches(params, 100):
            self._client.log_batch(child, params=batch)

    def _log_inputs(self, child: str, manifest: Manifest) -> None:
        from mlflow.entities import LoggedModelInput

        given = [(name, parent) for name, group in manifest.parents.items() for parent in group]
        # A model is no dataset: it has an edge of its own.
        datasets = [self._dataset_input(parent, name) for name, parent in given if parent.kind != "checkpoint"]
        checkpoints = [parent for _, parent in given if parent.kind == "checkpoint"]
        models = [LoggedModelInput(found) for p in checkpoints if (found := self._find_model(p.digest)) is not None]
        self._add_inputs(child, datasets=datasets or None, models=models or None)
        # Where people start: the raw files that the run read, and the data versions that its models learned from.
        raw = [self._dataset_input(parent, name) for name, parent in given if parent.kind == "raw"]
        shown = datasets if manifest.kind == "checkpoint" else raw
        if shown:
            self._add_inputs(self.run_id, datasets=shown)

    def _add_inputs(self, run: str, **inputs: Any) -> None:
        """MLflow looks for a dataset, then inserts it; of two processes at that one fails, and finds it next time."""
        for is_last in (False, False, True):
            try:
                self._client.log_inputs(run, **inputs)
                return
            except self._mlflow.MlflowException as error:
                if is_last or not any(sign in str(error) for sign in _TAKEN):
                    raise

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
            name = f"{label}.{benchmark}.avg_at_{score.k}"
            self._client.log_metric(self.run_id, name, score.mean, model_id=model_id, **data)

    # Registry

    def set_alias(self, manifest: Manifest, model_name: str, alias: str) -> None:
        """Register a checkpoint under a name, if it is not, and point the alias at it. Only for milestones.

        Raises:
            ValueError: not a checkpoint.
        """
        if manifest.kind != "checkpoint":
            raise ValueError(f"{manifest.name} is a {manifest.kind}; only a checkpoint can be `{alias}`")
        self._client.set_registered_model_alias(model_name, alias, self._version(manifest, model_name))

    def _version(self, manifest: Manifest, model_name: str) -> str:
        """The checkpoint's version of the registered model; it is told by its tag, since a search leaves its id out."""
        known = self._client.search_model_versions(f"name = '{model_name}'")
        found = next((each for each in known if each.tags.get("digest") == manifest.digest), None)
        if found is None:
            uri = f"models:/{self._model_of(self.run_id, manifest)}"
            found = self._mlflow.register_model(uri, model_name, tags={"digest": manifest.digest})
        return str(found.version)

    # The end

    def end(self, failed: bool) -> None:
        """Close the run's record; one that another process began stays open for it."""
        if self._ends:
            self.close("FAILED" if failed else "FINISHED", time.time())

    def close(self, status: str, ended: float) -> None:
        """Show the outcome on the parent run: the last checkpoint, and the page; then end it."""
        try:
            # Of all processes of the run; those of a replayed run are in memory only.
            recorded = read_run(self._store, self._run.id)
            self._show_outcome(recorded.steps if recorded and recorded.steps else self._run.records)
        finally:
            self._client.set_terminated(self.run_id, status=status, end_time=_ms(ended))

    def _show_outcome(self, steps: Sequence[StepRecord]) -> None:
        from mlflow.entities import LoggedModelOutput

        checkpoints = [step.artifact for step in steps if isinstance(step.artifact, Checkpoint)]
        shown = self._client.get_run(self.run_id).outputs
        known = {model.model_id for model in shown.model_outputs} if shown else set()
        for last in checkpoints[-1:]:
            model_id = self._find_model(last.digest)
            if model_id is not None and model_id not in known:
                self._client.log_outputs(self.run_id, models=[LoggedModelOutput(model_id, step=last.train_step)])
        self._write_page(steps)

    def _write_page(self, steps: Sequence[StepRecord]) -> None:
        found = (self._store.find(step.step, step.artifact.fingerprint or "") for step in steps)
        made = {manifest.fingerprint: manifest for manifest in found if manifest is not None}
        graph = build_graph(with_ancestors(self._store, made.values()))
        page = lineage_page(graph, f"Lineage of {self._run.name}", f"run {self._run.id}")
        self.show(PAGE, page)
        self._store.note(f"{RUNS}/{self._run.id}/{PAGE}", page.encode())

    @property
    def page(self) -> str:
        """Path of the run's page in MLflow, in the model-training view."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}?workflowType=machine_learning"

    @property
    def url(self) -> str:
        """Address of the run's page for a browser."""
        return f"{self._run.runtime.mlflow_shown_at}/{self.page}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


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
