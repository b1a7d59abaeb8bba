"""A phase's deployment on a worker: the run that it opens, the result that it leaves, and what ends it. No server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from prefect.states import Completed

from infra.artifacts import Dataset
from infra.config import Config
from infra.deployed import recipe_name, run_deployed
from infra.dispatch import PoolDispatcher, result_note
from infra.phase import phase
from infra.run import RefusedError, Run, read_runs, require_run
from infra.runtime import Runtime
from infra.store import Store
from tests.unit.small_world import World

PARENT = uuid4()


class Recipe(Config):
    name: str = "recipe"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Store(str(tmp_path / "store"), local=tmp_path), tmp_path)


class Made(NamedTuple):
    queries: Dataset
    times: int


@phase
def copy_queries(queries: Dataset, recipe: Recipe, runtime: Runtime, times: int = 2) -> Made:
    """Give back what came in."""
    run = require_run()
    SEEN.update(id=run.id, part=run.part, name=run.name, dispatcher=run.dispatcher, runtime=runtime, phase=run.phase)
    if times == 0:
        raise RefusedError("Copy none? Refused: it is pointless")
    if times < 0:
        raise ValueError("less than nothing")
    return Made(queries, times)


SEEN: dict[str, Any] = {}


class FakeLineage:
    """In the place of MLflow's."""

    opened: list[FakeLineage] = []
    run_id = "mlflow-child"

    def __init__(self, run: Run, parent_id: str | None) -> None:
        self.parent_id, self.failed = parent_id, None
        self.opened.append(self)

    def end(self, failed: bool) -> None:
        self.failed: bool | None = failed


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The surroundings of a flow run on a worker: its profile, its flow run, its lineage."""
    profile = tmp_path / "worker.toml"
    profile.write_text(f'store = "{tmp_path / "store"}"\n')
    monkeypatch.setenv("POSTTRAIN_PROFILE", str(profile))
    flow_run = SimpleNamespace(id=UUID(int=0xABCDEF), run_count=3, expected_start_time=datetime(2026, 5, 4, tzinfo=UTC))
    monkeypatch.setattr("prefect.context.FlowRunContext.get", lambda: SimpleNamespace(flow_run=flow_run))
    monkeypatch.setattr("infra.lineage.MlflowLineage", FakeLineage)
    SEEN.clear()
    FakeLineage.opened.clear()
    return flow_run


def _filled(world: World, **fields: Any) -> dict[str, Any]:
    queries = world.make("queries")
    text = f"merge@make-queries/{queries.fingerprint}"
    return {"queries": text, "recipe": {"name": "recipe"}, "profile": "", "ticket": None} | fields


TICKET = {"run": "a-run", "part": "copy-queries-2", "lineage": "mlflow-parent", "parent": str(PARENT)}


@pytest.fixture
def waited_for(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What is watched, in the place of watching it."""
    watched: list[tuple[Any, Any]] = []

    @contextmanager
    def fake(flow_run: UUID, parent: str | None) -> Iterator[None]:
        watched.append((flow_run, parent))
        yield

    monkeypatch.setattr("infra.deployed.while_needed", fake)
    return watched


def test_a_dispatched_phase_is_a_part_of_its_run_and_leaves_its_result(
    world: World, worker: SimpleNamespace, waited_for: list[tuple[Any, Any]]
) -> None:
    given = _filled(world, ticket=TICKET, times=5)
    result = run_deployed(copy_queries, given)
    assert result == {"queries": given["queries"], "times": 5}
    assert json.loads(world.store.read_note(result_note("a-run", "copy-queries-2")) or b"") == result
    assert {key: SEEN[key] for key in ("id", "part", "name", "phase")} == {
        "id": "a-run",
        "part": "copy-queries-2",
        "name": "recipe",
        "phase": "copy-queries",
    }
    assert waited_for == [(worker.id, str(PARENT))]
    (lineage,) = FakeLineage.opened
    assert (lineage.parent_id, lineage.failed) == ("mlflow-parent", False)


def test_the_dispatcher_finds_what_the_worker_left(
    world: World, tmp_path: Path, worker: SimpleNamespace, waited_for: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides in one: what `PoolDispatcher` asks for is what `run_deployed` takes, and back."""

    def run_deployment(name: str, parameters: Mapping[str, Any], **_: Any) -> Any:
        assert name == "copy-queries/copy-queries"
        run_deployed(copy_queries, json.loads(json.dumps(parameters)))
        return SimpleNamespace(id="f1")

    monkeypatch.setattr("prefect.deployments.run_deployment", run_deployment)
    monkeypatch.setattr("infra.dispatch._wait_for", lambda flow_run: SimpleNamespace(id=flow_run, state=Completed()))
    queries = world.make("queries").model_copy(update={"name": "prompts grpo-1"})
    arguments = {"queries": queries, "recipe": Recipe(), "times": 4}
    run = Run("recipe", Runtime(store=str(tmp_path / "store")), id_="a-run", part="post-train")
    answer = PoolDispatcher(run, str(PARENT), attempt=1, lineage="mlflow-parent").call("copy-queries", arguments)
    assert answer == {"queries": f"prompts grpo-1@make-queries/{queries.fingerprint}", "times": 4}


def test_a_triggered_phase_opens_a_run_named_by_its_flow_run(
    world: World, worker: SimpleNamespace, waited_for: list[tuple[Any, Any]]
) -> None:
    run_deployed(copy_queries, _filled(world))
    first = SEEN["id"]
    run_deployed(copy_queries, _filled(world))
    assert first == SEEN["id"] == "20260504-000000-abcdef"
    assert SEEN["part"] == "copy-queries"
    assert waited_for[0] == (worker.id, None)
    assert FakeLineage.opened[0].parent_id is None
    dispatched: PoolDispatcher = SEEN["dispatcher"]
    assert (dispatched._flow_run, dispatched._attempt, dispatched._lineage) == (str(worker.id), 3, "mlflow-child")


def test_a_refusal_is_a_state_and_not_an_error(
    world: World, worker: SimpleNamespace, waited_for: list[tuple[Any, Any]]
) -> None:
    state = run_deployed(copy_queries, _filled(world, times=0, ticket=TICKET))
    assert (state.name, state.is_cancelled()) == ("Refused", True)
    assert state.message == "Copy none? Refused: it is pointless"
    assert world.store.read_note(result_note("a-run", "copy-queries-2")) is None
    assert FakeLineage.opened[0].failed is True


def test_a_failing_phase_leaves_no_result_and_says_why(
    world: World, worker: SimpleNamespace, waited_for: list[tuple[Any, Any]]
) -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        run_deployed(copy_queries, _filled(world, times=-1, ticket=TICKET))
    assert world.store.read_note(result_note("a-run", "copy-queries-2")) is None
    (record,) = read_runs(world.store)
    assert (record.state, record.reason) == ("failed", "ValueError: less than nothing")
    assert FakeLineage.opened[0].failed is True


def test_a_form_may_name_another_profile_of_the_worker(
    world: World, worker: SimpleNamespace, waited_for: object, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(f'store = "{tmp_path / "store"}"\nverifier_processes = 7\n')
    run_deployed(copy_queries, _filled(world, profile=str(other)))
    assert SEEN["runtime"].verifier_processes == 7


@pytest.mark.parametrize("recipe", [Recipe(name="mine"), {"name": "mine", "more": 1}])
def test_the_recipes_name_is_read_from_a_model_and_from_json(recipe: Any) -> None:
    assert recipe_name({"recipe": recipe}) == "mine"
