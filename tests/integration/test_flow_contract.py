"""Flows under Prefect's embedded API with MLflow: a second run is all hits, and its lineage is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.artifacts import Checkpoint, Dataset, Report, Score
from infra.config import Config
from infra.lineage import EXPERIMENT, MlflowLineage
from infra.output import Output
from infra.phase import phase
from infra.run import Run, active
from infra.runtime import Runtime, prepare_environment
from infra.step import step

pytestmark = pytest.mark.integration


class Item(Config):
    id: str
    source: str = "s"


class SizeConfig(Config):
    num_rows: int = 4


@step(version=1, produces=Dataset)
def contract_rows(config: SizeConfig, out: Output) -> None:
    for number in range(config.num_rows):
        out.keep(Item(id=str(number)))


@step(version=1, produces=Checkpoint)
def contract_model(queries: Dataset, config: SizeConfig, out: Output) -> None:
    folder = out.scratch / "model"
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text("w" * config.num_rows)
    out.add_folder(folder, "model")
    for number in range(3):
        out.log(number, loss=1.0 / (number + 1))
    out.summarize(base_model="base", train_step=3, tokenizer_digest="t")


@step(version=1, produces=Report)
def contract_scores(checkpoint: Checkpoint, queries: Dataset, out: Output) -> None:
    out.summarize(scores={"rows": Score(mean=0.25, low=0.1, high=0.4, k=2, n=4)})


@step(version=1, produces=Dataset, retries=1)
def contract_fails_once(config: SizeConfig, out: Output) -> None:
    mark = out.scratch / "tried"
    if not mark.exists():
        mark.touch()
        raise RuntimeError("first try")
    out.keep(Item(id="1"))


@phase
def contract_data(config: SizeConfig) -> Dataset:
    return contract_rows(config=config, label="rows")


@phase
def contract_training(queries: Dataset, config: SizeConfig) -> Report:
    policy = contract_model(queries, config=config, label="policy")
    return contract_scores(policy, queries, label="scores")


@phase
def contract_whole(config: SizeConfig) -> Report:
    return contract_training(contract_data(config), config)


@phase
def contract_retrying(config: SizeConfig) -> Dataset:
    return contract_fails_once(config=config)


class TaskSeen(NamedTuple):
    """A task run as the Prefect API tells of it."""

    name: str
    state: str
    state_type: str


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One embedded Prefect for all tests here: it starts with the first flow, in half a minute on a small machine."""
    folder = tmp_path_factory.mktemp("home")
    before = dict(os.environ)
    os.environ.pop("PREFECT_API_URL", None)
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    prepare_environment(folder)
    yield folder
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def two_runs(home: Path) -> tuple[Run, Run]:
    """The same flow twice."""
    return run_once(home), run_once(home)


def run_once(home: Path) -> Run:
    with active(Run("contract", Runtime(store=str(home / "store")))) as run:
        run.lineage = MlflowLineage(run)
        contract_whole(SizeConfig())
    return run


def tasks_of_flow(name: str) -> list[list[TaskSeen]]:
    """Task runs of each run of a flow, oldest first, as the API tells them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort

    runs = []
    with get_client(sync_client=True) as client:
        named = FlowFilter.model_validate({"name": {"any_": [name]}})
        for flow_run in client.read_flow_runs(flow_filter=named, sort=FlowRunSort.START_TIME_ASC):
            only = FlowRunFilter.model_validate({"id": {"any_": [flow_run.id]}})
            tasks = client.read_task_runs(flow_run_filter=only, sort=TaskRunSort.END_TIME_DESC)
            seen = [TaskSeen(t.name, t.state_name or "", t.state_type.value if t.state_type else "") for t in tasks]
            # Calls of subflows are tasks too; here only steps count.
            runs.append([task for task in reversed(seen) if task.name in {"rows", "policy", "scores"}])
    return runs


def children(run: Run) -> dict[str, Any]:
    """MLflow's child runs of a pipeline run, by label."""
    lineage = run.lineage
    assert isinstance(lineage, MlflowLineage)
    found = lineage._client.search_runs(
        [lineage.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{lineage.run_id}'"
    )
    # A search leaves model inputs out; a single run has them.
    return {child.data.tags["mlflow.runName"]: lineage._client.get_run(child.info.run_id) for child in found}


def test_the_second_run_is_all_hits_with_equal_digests(two_runs: tuple[Run, Run]) -> None:
    first, second = two_runs
    assert [(r.label, r.phase, r.cached) for r in first.records] == [
        ("rows", "contract-data", False),
        ("policy", "contract-training", False),
        ("scores", "contract-training", False),
    ]
    assert [record.cached for record in second.records] == [True] * 3
    assert [r.artifact for r in second.records] == [r.artifact for r in first.records]


def test_prefect_shows_a_hit_as_cached(two_runs: tuple[Run, Run]) -> None:
    first, second = tasks_of_flow("contract-training")
    assert {(task.name, task.state) for task in first} == {("policy", "Completed"), ("scores", "Completed")}
    assert {(task.name, task.state) for task in second} == {("policy", "Cached"), ("scores", "Cached")}
    assert {task.state_type for task in first + second} == {"COMPLETED"}


def test_prefect_shows_the_card_of_every_step(two_runs: tuple[Run, Run]) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        cards = {artifact.key: str(artifact.data) for artifact in client.read_artifacts()}
    assert {"contract-rows", "contract-policy", "contract-scores"} <= cards.keys()
    assert "| s | 4 | 4 |" in cards["contract-rows"]


@pytest.mark.parametrize("which", [0, 1])
def test_mlflow_has_a_child_for_each_step_of_each_run(two_runs: tuple[Run, Run], which: int) -> None:
    """A fully cached run has whole lineage too."""
    run = two_runs[which]
    found = children(run)
    assert found.keys() == {"rows", "policy", "scores"}
    for record in run.records:
        tags = found[record.label].data.tags
        assert tags["posttrain.digest"] == record.artifact.digest
        assert tags["posttrain.cached"] == str(record.cached).lower()
        assert found[record.label].info.status == "FINISHED"


@pytest.mark.parametrize("which", [0, 1])
def test_mlflow_shows_datasets_in_and_the_model_between_its_steps(two_runs: tuple[Run, Run], which: int) -> None:
    run = two_runs[which]
    found = children(run)
    rows = run.records[0].artifact
    (dataset,) = found["policy"].inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("rows", rows.digest[:32])
    assert {tag.key: tag.value for tag in dataset.tags} == {"mlflow.data.context": "queries"}
    (made,) = found["policy"].outputs.model_outputs
    (used,) = found["scores"].inputs.model_inputs
    assert made.model_id == used.model_id
    assert made.step == 3


def test_both_runs_speak_of_one_model_with_its_scores(two_runs: tuple[Run, Run]) -> None:
    lineage = two_runs[1].lineage
    assert isinstance(lineage, MlflowLineage)
    client = lineage._client
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert model.name == "policy"
    assert model.tags["digest"] == two_runs[0].records[1].artifact.digest
    assert ("rows.avg_at_2", 0.25) in {(metric.key, metric.value) for metric in model.metrics}


def test_curves_and_card_are_on_the_child(two_runs: tuple[Run, Run]) -> None:
    lineage = two_runs[0].lineage
    assert isinstance(lineage, MlflowLineage)
    policy = children(two_runs[0])["policy"]
    history = lineage._client.get_metric_history(policy.info.run_id, "loss")
    assert [(point.step, round(point.value, 3)) for point in history] == [(0, 1.0), (1, 0.5), (2, 0.333)]
    assert {item.path for item in lineage._client.list_artifacts(policy.info.run_id)} >= {"card.md", "manifest.json"}


def test_a_retry_goes_on_from_scratch(home: Path) -> None:
    with active(Run("contract", Runtime(store=str(home / "store")))) as run:
        contract_retrying(SizeConfig())
    assert [record.cached for record in run.records] == [False]
