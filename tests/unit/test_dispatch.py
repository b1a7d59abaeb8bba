"""Phases as flow runs elsewhere: what is asked of Prefect, what comes back, and who ends with whom. No server."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Running

import infra.dispatch
from infra.artifacts import Dataset
from infra.config import Config
from infra.deployed import recipe_name, run_deployed
from infra.dispatch import DispatchError, PoolDispatcher, result_note, while_needed
from infra.phase import RefusedError, phase
from infra.run import Run, read_runs, require_run
from infra.runtime import Runtime
from infra.store import Store
from tests.unit.small_world import World

PARENT = uuid4()
OWN = uuid4()


class Recipe(Config):
    name: str = "recipe"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Store(str(tmp_path / "store"), local=tmp_path), tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("recipe", Runtime(store=str(tmp_path / "store")), id_="a-run", part="post-train")


# The parent's side


class FakeDeployments:
    """Stands where `run_deployment` does: keeps what was asked, and leaves a result as a worker would."""

    def __init__(self, run: Run, state: Any = None, leaves: Any = None) -> None:
        self.run, self.state, self.leaves = run, state or Completed(), leaves
        self.asked: list[dict[str, Any]] = []

    def __call__(self, name: str, **options: Any) -> Any:
        self.asked.append({"name": name} | options)
        if self.leaves is not None:
            ticket = options["parameters"]["ticket"]
            self.run.store.note(result_note(ticket["run"], ticket["part"]), json.dumps(self.leaves).encode())
        return SimpleNamespace(state=self.state, name="brave-otter", id="f1")


@pytest.fixture
def deployments(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeDeployments]:
    def install(**fields: Any) -> FakeDeployments:
        fake = FakeDeployments(run, **fields)
        monkeypatch.setattr("prefect.deployments.run_deployment", fake)
        return fake

    return install


def dispatcher(run: Run, attempt: int = 1) -> PoolDispatcher:
    return PoolDispatcher(run, str(PARENT), attempt, lineage="mlflow-parent")


def test_a_call_asks_for_the_phases_own_deployment_with_encoded_arguments(
    run: Run, world: World, deployments: Callable[..., FakeDeployments]
) -> None:
    fake = deployments(leaves={"answer": 42})
    queries = world.make("queries")
    assert dispatcher(run).call("pass-rate", {"queries": queries, "recipe": Recipe()}) == {"answer": 42}
    (asked,) = fake.asked
    assert asked["name"] == "pass-rate/pass-rate"
    ticket = {"run": "a-run", "part": "pass-rate-1", "lineage": "mlflow-parent", "parent": str(PARENT)}
    text = f"queries@make-queries/{queries.fingerprint}"
    assert asked["parameters"] == {"queries": text, "recipe": {"name": "recipe"}, "ticket": ticket}
    assert json.loads(json.dumps(asked["parameters"])) == asked["parameters"]
    assert asked["tags"] == ["recipe:recipe", "run:a-run"]
    assert asked.get("timeout") is None  # it waits as long as the phase takes


def test_calls_of_one_phase_are_parts_of_their_own(run: Run, deployments: Callable[..., FakeDeployments]) -> None:
    fake = deployments(leaves=1)
    calls = dispatcher(run)
    for name in ("grpo", "benchmark", "grpo"):
        calls.call(name, {})
    parts = [asked["parameters"]["ticket"]["part"] for asked in fake.asked]
    assert parts == ["grpo-1", "benchmark-1", "grpo-2"]


def test_a_resumed_wait_finds_its_flow_run_and_a_retried_parent_asks_anew(
    run: Run, deployments: Callable[..., FakeDeployments]
) -> None:
    fake = deployments(leaves=1)
    for attempt in (1, 1, 2):
        dispatcher(run, attempt).call("sft", {})
    first, resumed, retried = (asked["idempotency_key"] for asked in fake.asked)
    assert first == resumed != retried


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (Failed(message="loss is NaN"), "sft ended Failed: loss is NaN; see flow run brave-otter"),
        (Crashed(message="no heartbeat"), "sft ended Crashed: no heartbeat"),
        (Cancelled(), "sft ended Cancelled: no message"),
        (Cancelled(name="Refused", message="not now"), "sft ended Refused: not now"),
    ],
)
def test_a_flow_run_that_did_not_complete_is_told_with_its_place(
    run: Run, deployments: Callable[..., FakeDeployments], state: Any, told: str
) -> None:
    deployments(state=state)
    with pytest.raises(DispatchError, match=told):
        dispatcher(run).call("sft", {})


def test_a_flow_run_without_a_state_is_told(run: Run, deployments: Callable[..., FakeDeployments]) -> None:
    deployments().state = None
    with pytest.raises(DispatchError, match="sft ended unknown: no message"):
        dispatcher(run).call("sft", {})


def test_a_result_in_another_store_is_told_with_the_remedy(
    run: Run, deployments: Callable[..., FakeDeployments]
) -> None:
    deployments()
    with pytest.raises(DispatchError, match=r"left no result in .*: give all workers the same one"):
        dispatcher(run).call("sft", {})


def test_whether_a_phase_has_a_deployment_is_asked_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class FakeClient(_Client):
        def read_deployment_by_name(self, name: str) -> None:
            asked.append(name)
            if name != "sft/sft":
                raise ObjectNotFound(KeyError(name))

    _install(monkeypatch, FakeClient())
    calls = dispatcher(run)
    assert [calls.serves(name) for name in ("sft", "grpo", "sft", "grpo")] == [True, False, True, False]
    assert asked == ["sft/sft", "grpo/grpo"]


class _Client:
    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...


def _install(monkeypatch: pytest.MonkeyPatch, client: _Client) -> None:
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda sync_client: client)


# The child's watch


class FakeServer(_Client):
    """Tells the parent's states one after another, the last one for ever; an error in their place is raised."""

    def __init__(self, *states: Any) -> None:
        self._states = list(states)
        self.looks = 0
        self.set_states: list[tuple[UUID, Any]] = []
        self.told = threading.Event()

    def read_flow_run(self, flow_run: UUID) -> Any:
        assert flow_run == PARENT
        self.looks += 1
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if isinstance(state, Exception):
            raise state
        return SimpleNamespace(state=state)

    def set_flow_run_state(self, flow_run: UUID, state: Any) -> None:
        self.set_states.append((flow_run, state))
        self.told.set()


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Signals that the watch sends, in the place of sending them; all times are short."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(infra.dispatch, "POLL_S", 0.01)
    monkeypatch.setattr(infra.dispatch, "WORKER_GRACE_S", 0.2)
    monkeypatch.setattr(infra.dispatch.os, "kill", lambda pid, number: sent.append((pid, number)))
    yield sent
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and "_watch" in thread.name:
            thread.join(10)


def _watched(monkeypatch: pytest.MonkeyPatch, *states: Any) -> FakeServer:
    server = FakeServer(*states)
    _install(monkeypatch, server)
    return server


@pytest.mark.parametrize("state", [Cancelled(), Cancelling(), Crashed(), Failed(), Completed()])
def test_a_child_is_cancelled_once_its_parent_is_gone(
    monkeypatch: pytest.MonkeyPatch, kills: list[tuple[int, int]], state: Any
) -> None:
    server = _watched(monkeypatch, None, Running(), state)
    with while_needed(OWN, str(PARENT)):
        assert server.told.wait(10)
    ((flow_run, set_state),) = server.set_states
    assert flow_run == OWN
    assert set_state.is_cancelling()
    assert set_state.message == f"the flow run that waits for this one is {state.name}"
    assert kills == []  # it ended within the worker's grace


def test_a_child_whose_worker_does_not_end_it_ends_itself(
    monkeypatch: pytest.MonkeyPatch, kills: list[tuple[int, int]]
) -> None:
    _watched(monkeypatch, Cancelled())
    with while_needed(OWN, str(PARENT)):
        assert _eventually(lambda: bool(kills))
    assert kills == [(os.getpid(), signal.SIGTERM)]


def _eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    waiter = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return True
        waiter.wait(0.01)
    return condition()


UNAVAILABLE = httpx.HTTPStatusError("503", request=httpx.Request("GET", "http://x"), response=httpx.Response(503))
DEAF = pytest.mark.xfail(strict=True, reason="httpx's errors are no OSError, and end the thread that watches")


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ConnectionRefusedError("away"), id="refused"),
        pytest.param(httpx.ConnectError("away"), id="connect", marks=DEAF),
        pytest.param(httpx.ReadTimeout("slow"), id="timeout", marks=DEAF),
        pytest.param(UNAVAILABLE, id="503", marks=DEAF),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_is_away_for_a_moment_ends_no_watch(
    monkeypatch: pytest.MonkeyPatch, kills: list[tuple[int, int]], error: Exception
) -> None:
    server = _watched(monkeypatch, error, error, Cancelled())
    with while_needed(OWN, str(PARENT)):
        assert server.told.wait(1)


def test_a_parent_that_runs_disturbs_nobody(monkeypatch: pytest.MonkeyPatch, kills: list[tuple[int, int]]) -> None:
    server = _watched(monkeypatch, Running())
    with while_needed(OWN, str(PARENT)):
        assert _eventually(lambda: server.looks >= 3)
    looks = server.looks
    threading.Event().wait(0.1)
    assert server.looks <= looks + 1  # the watch ends with the block
    assert (server.set_states, kills) == ([], [])


def test_a_run_that_nobody_waits_for_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    server = _watched(monkeypatch, Cancelled())
    num_threads = threading.active_count()
    with while_needed(OWN, None):
        assert threading.active_count() == num_threads
    assert server.looks == 0


# The worker's side


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
    world: World, run: Run, worker: SimpleNamespace, waited_for: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides in one: what `PoolDispatcher` asks for is what `run_deployed` takes, and back."""

    def run_deployment(name: str, parameters: Mapping[str, Any], **_: Any) -> Any:
        assert name == "copy-queries/copy-queries"
        run_deployed(copy_queries, json.loads(json.dumps(parameters)))
        return SimpleNamespace(state=Completed())

    monkeypatch.setattr("prefect.deployments.run_deployment", run_deployment)
    queries = world.make("queries").model_copy(update={"name": "prompts grpo-1"})
    arguments = {"queries": queries, "recipe": Recipe(), "times": 4}
    answer = dispatcher(run).call("copy-queries", arguments)
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
