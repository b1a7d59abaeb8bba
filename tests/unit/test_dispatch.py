"""Phases as flow runs elsewhere: what is asked of Prefect, what comes back, and which child ends with its parent."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Running

import infra.dispatch
from infra.config import Config
from infra.dispatch import DispatchError, PoolDispatcher, result_note, while_needed
from infra.run import Run
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
        return SimpleNamespace(id="f1")

    def wait_for(self, flow_run: str) -> Any:
        return SimpleNamespace(state=self.state, name="brave-otter", id=flow_run)


@pytest.fixture
def deployments(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeDeployments]:
    def install(**fields: Any) -> FakeDeployments:
        fake = FakeDeployments(run, **fields)
        monkeypatch.setattr("prefect.deployments.run_deployment", fake)
        monkeypatch.setattr(infra.dispatch, "_wait_for", fake.wait_for)
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
    assert asked["timeout"] == 0  # asking and waiting are two things


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


def test_a_child_is_cancelled_when_its_parent_was_deleted(
    monkeypatch: pytest.MonkeyPatch, kills: list[tuple[int, int]]
) -> None:
    server = _watched(monkeypatch, Running(), ObjectNotFound(http_exc=None))
    with while_needed(OWN, str(PARENT)):
        assert server.told.wait(10)
    ((_, state),) = server.set_states
    assert state.message == "the flow run that waits for this one was deleted"


def test_a_child_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch, kills: list[tuple[int, int]]) -> None:
    monkeypatch.setattr(infra.dispatch, "SIGTERM_GRACE_S", 0.2)
    _watched(monkeypatch, Cancelled())
    with while_needed(OWN, str(PARENT)):
        assert _eventually(lambda: len(kills) == 2)
    assert [number for _, number in kills] == [signal.SIGTERM, signal.SIGKILL]


def test_a_server_that_refuses_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = httpx.Response(403)
    _watched(monkeypatch, httpx.HTTPStatusError("no", request=httpx.Request("GET", "http://x"), response=answer))
    with pytest.raises(DispatchError, match="cannot be followed"):
        infra.dispatch._wait_for(PARENT)


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


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ConnectionRefusedError("away"), id="refused"),
        pytest.param(httpx.ConnectError("away"), id="connect"),
        pytest.param(httpx.ReadTimeout("slow"), id="timeout"),
        pytest.param(UNAVAILABLE, id="503"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_is_away_for_a_moment_ends_no_watch(
    monkeypatch: pytest.MonkeyPatch, kills: list[tuple[int, int]], error: Exception
) -> None:
    server = _watched(monkeypatch, error, error, Cancelled())
    with while_needed(OWN, str(PARENT)):
        assert server.told.wait(1)


@pytest.mark.parametrize("error", [ConnectionRefusedError("away"), httpx.ConnectError("away"), UNAVAILABLE])
def test_a_server_that_is_away_for_a_moment_ends_no_wait(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(infra.dispatch, "POLL_S", 0.01)
    server = _watched(monkeypatch, Running(), error, error, Completed())
    assert infra.dispatch._wait_for(PARENT).state.is_completed()
    assert server.looks == 4


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
