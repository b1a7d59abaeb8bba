"""MLflow is an index: deleted, it is made again from the store, with the same inputs, models and edges."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.artifacts import Checkpoint
from infra.lineage import MlflowLineage, Tracking
from infra.lineage_sync import UNNAMED, Synced, sync
from infra.run import Run, read_runs
from infra.runtime import Runtime, prepare_environment
from tests.unit.traced_store import new_run, run_pipeline

pytestmark = pytest.mark.integration


class Recorded(NamedTuple):
    """What MLflow knows of a step, without its own ids and times."""

    label: str
    params: dict[str, str]
    datasets: frozenset[tuple[str, str, str]]
    models_in: frozenset[str]
    models_out: frozenset[tuple[str, int]]
    metrics: dict[str, float]
    digest: str


@pytest.fixture(scope="module", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    prepare_environment(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run in `recorded`, and an empty MLflow in `empty`: making its tables takes seconds, a copy none."""
    folder = tmp_path_factory.mktemp("templates")
    (folder / "empty").mkdir()
    Tracking(new_run(folder / "empty").runtime)
    run = new_run(folder / "recorded")
    shutil.copytree(folder / "empty", folder / "recorded")
    run.lineage = MlflowLineage(run)
    run_pipeline(run, folder / "recorded")
    return folder


@pytest.fixture
def run(templates: Path, tmp_path: Path) -> Run:
    """A pipeline run that MLflow knows."""
    shutil.copytree(templates / "recorded", tmp_path, dirs_exist_ok=True)
    run = new_run(tmp_path)
    (record,) = read_runs(run.store)
    run.id, run.started, run.records = record.id, record.started, list(record.steps)
    return run


@pytest.fixture
def again(run: Run, templates: Path, tmp_path: Path) -> Runtime:
    """The run's profile after MLflow was deleted. Another name, since this process has the old database open."""
    shutil.copy(templates / "empty/store/mlflow.db", tmp_path / "again.db")
    return run.runtime.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path / 'again.db'}"})


def steps(tracking: Tracking, run_id: str) -> list[Recorded]:
    parent = tracking.find_parent(run_id)
    assert parent is not None
    children = tracking.runs_with("mlflow.parentRunId", parent)
    # A search leaves model inputs out; a single run has them.
    found = [recorded(tracking, tracking.client.get_run(child.info.run_id)) for child in children]
    return sorted(found, key=lambda step: step.label)


def recorded(tracking: Tracking, child: Any) -> Recorded:
    def digest(model_id: str) -> str:
        return str(tracking.client.get_logged_model(model_id).tags["digest"])

    inputs, outputs = child.inputs, child.outputs
    return Recorded(
        label=child.data.tags["mlflow.runName"],
        params=child.data.params,
        datasets=frozenset((d.dataset.name, d.dataset.digest, d.tags[0].value) for d in inputs.dataset_inputs),
        models_in=frozenset(digest(each.model_id) for each in inputs.model_inputs),
        models_out=frozenset((digest(each.model_id), each.step) for each in outputs.model_outputs if outputs),
        metrics=child.data.metrics,
        digest=child.data.tags["posttrain.digest"],
    )


def parent_of(run: Run, tracking: Tracking) -> Any:
    return tracking.client.get_run(tracking.find_parent(run.id))


def test_a_deleted_mlflow_is_made_again_the_same_and_once(run: Run, again: Runtime) -> None:
    before = steps(Tracking(run.runtime), run.id)
    assert len(before) == 11
    assert sync(again, run.store) == Synced(num_runs=1, num_steps=11)
    tracking = Tracking(again)
    assert steps(tracking, run.id) == before
    models = tracking.client.search_logged_models([tracking.experiment_id])
    assert sorted(model.name for model in models) == ["grpo-1", "sft"]
    assert sync(again, run.store) == Synced()
    assert len(steps(tracking, run.id)) == 11


def test_times_and_states_are_those_of_the_run(run: Run, again: Runtime) -> None:
    sync(again, run.store)
    info = parent_of(run, Tracking(again)).info
    assert (info.status, info.start_time) == ("FINISHED", int(run.started * 1000))
    assert info.end_time == int(run.records[-1].at * 1000)


def test_a_child_that_was_lost_is_added_alone(run: Run) -> None:
    tracking = Tracking(run.runtime)
    children = tracking.runs_with("mlflow.parentRunId", tracking.find_parent(run.id) or "")
    tracking.client.delete_run(children[0].info.run_id)
    assert sync(run.runtime, run.store) == Synced(num_runs=0, num_steps=1)
    assert len(steps(tracking, run.id)) == 11


def test_manifests_that_no_run_names_go_under_one_parent(run: Run, again: Runtime) -> None:
    before = {step.label: step for step in steps(Tracking(run.runtime), run.id)}
    note = f"runs/by-id/{run.id}/all.json"
    record = json.loads(run.store.read_note(note) or b"")
    # No run names the step of a model that another was made from, nor the last step.
    record["steps"] = [step for step in record["steps"] if step["label"] not in {"sft", "scores grpo-1"}]
    run.store.note(note, json.dumps(record).encode())
    assert sync(again, run.store) == Synced(num_runs=2, num_steps=11)
    tracking = Tracking(again)
    unnamed = {step.label: step for step in steps(tracking, UNNAMED)}
    assert unnamed.keys() == {"sft", "scores grpo-1"}
    for step in (*unnamed.values(), *steps(tracking, run.id)):
        assert (step.datasets, step.models_in, step.models_out) == before[step.label][2:5], step.label
    assert sync(again, run.store) == Synced()


def test_a_run_that_goes_on_is_left_to_its_process(run: Run) -> None:
    tracking = Tracking(run.runtime)
    run.write_record("running")
    children = tracking.runs_with("mlflow.parentRunId", tracking.find_parent(run.id) or "")
    tracking.client.delete_run(children[0].info.run_id)
    assert sync(run.runtime, run.store) == Synced()


# The parent run


def test_the_parent_shows_data_model_and_scores(run: Run) -> None:
    tracking = Tracking(run.runtime)
    parent = parent_of(run, tracking)
    names = {item.dataset.name for item in parent.inputs.dataset_inputs}
    assert names == {"raw/a.txt", "raw/made.txt", "samples", "prompts grpo-1"}
    (made,) = parent.outputs.model_outputs
    assert tracking.client.get_logged_model(made.model_id).name == "grpo-1"
    assert parent.data.metrics["scores grpo-1.bench.avg_at_2"] == 0.25


def test_the_page_is_on_the_parent_and_in_the_store(run: Run) -> None:
    tracking = Tracking(run.runtime)
    parent = parent_of(run, tracking).info.run_id
    assert [item.path for item in tracking.client.list_artifacts(parent)] == ["lineage.html"]
    page = run.store.read_note(f"runs/by-id/{run.id}/lineage.html") or b""
    assert page.count(b'class="node"') == 13


def test_a_part_of_a_run_records_below_the_parent_and_leaves_it_open(templates: Path, tmp_path: Path) -> None:
    shutil.copytree(templates / "empty", tmp_path, dirs_exist_ok=True)
    whole = new_run(tmp_path)
    parent = MlflowLineage(whole)
    part = new_run(tmp_path)
    part.id, part.part = whole.id, "sft-1"
    part.lineage = MlflowLineage(part, parent_id=parent.run_id)
    run_pipeline(part, tmp_path)
    assert len(steps(parent.tracking, whole.id)) == 11
    assert parent_of(whole, parent.tracking).info.status == "RUNNING"
    parent.end(failed=False)
    after = parent_of(whole, parent.tracking)
    assert after.info.status == "FINISHED"
    assert len(after.outputs.model_outputs) == 1


def test_a_retry_of_a_run_goes_on_in_its_mlflow_run(run: Run, tmp_path: Path) -> None:
    before = parent_of(run, Tracking(run.runtime)).info.run_id
    retry = new_run(tmp_path)
    retry.id = run.id
    retry.lineage = MlflowLineage(retry)
    assert parent_of(run, Tracking(run.runtime)).info.status == "RUNNING"
    run_pipeline(retry, tmp_path)
    after = parent_of(run, Tracking(run.runtime))
    assert (after.info.run_id, after.info.status) == (before, "FINISHED")
    assert len(after.outputs.model_outputs) == 1


# The registry


def test_an_alias_moves_and_a_checkpoint_is_registered_once(run: Run) -> None:
    lineage = MlflowLineage(run)
    sft, grpo = (
        run.store.manifest(record.artifact) for record in run.records if isinstance(record.artifact, Checkpoint)
    )
    for manifest in (sft, sft, grpo, grpo):
        lineage.set_alias(manifest, "traced", "candidate")
    lineage.set_alias(sft, "traced", "champion")
    client = lineage.tracking.client
    versions = client.search_model_versions("name = 'traced'")
    assert len(versions) == 2
    aliases = {alias: client.get_model_version_by_alias("traced", alias) for alias in ("candidate", "champion")}
    digests = {alias: version.tags["digest"] for alias, version in aliases.items()}
    assert digests == {"candidate": grpo.digest, "champion": sft.digest}
    with pytest.raises(ValueError, match="only a checkpoint can be `champion`"):
        lineage.set_alias(run.store.manifest(run.records[0].artifact), "traced", "champion")
