"""What a running stack says of itself, asked over real HTTP of a small server that answers as Prefect does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

import infra.stack.inspection
from infra.process import free_port
from infra.runtime import Runtime, StackRuntime
from infra.stack.inspection import (
    ACTIVE,
    StackSeen,
    active_flow_runs,
    cancel_active,
    look,
    prefect_client,
    status_table,
)
from infra.stack.keeper import ServiceState, StackState
from infra.stack.plan import Plan, make_plan


class FakePrefect:
    """Pools, workers and flow runs over HTTP. A flow run that is cancelled is over after `looks_until_over` looks."""

    def __init__(self) -> None:
        self.pools: list[dict[str, Any]] = []
        self.workers: dict[str, list[str]] = {}
        self.flow_runs: dict[str, dict[str, Any]] = {}
        self.looks_until_over = 0
        self.set_states: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.healthy = True
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200 if fake.healthy else 503, True)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.asked.append(self.path)
                self._answer(*fake.answer(self.path.removeprefix("/api"), body))

            def _answer(self, status: int, content: Any) -> None:
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def add_run(self, name: str, state: str, pool: str | None = "cpu") -> None:
        fields = {"name": name, "state_type": state, "state_name": state.title(), "start_time": "2026-05-04T03:02:01Z"}
        self.flow_runs[name] = {"id": f"id-{name}", "work_pool_name": pool} | fields

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/work_pools/filter":
            return 200, self.pools
        if path.startswith("/work_pools/"):
            return 200, [{"status": status} for status in self.workers[path.split("/")[2]]]
        if path == "/flow_runs/filter":
            wanted = body["flow_runs"]["state"]["type"]["any_"]
            self._end_cancelled()
            return 200, [run for run in self.flow_runs.values() if run["state_type"] in wanted]
        if path.endswith("/set_state"):
            self.set_states.append({"path": path} | body)
            for run in self.flow_runs.values():
                if run["id"] in path:
                    run["state_type"] = body["state"]["type"]
            return 201, {"status": "ACCEPT"}
        return 404, {"detail": "not found"}

    def _end_cancelled(self) -> None:
        self.looks_until_over -= 1
        for run in self.flow_runs.values():
            if run["state_type"] == "CANCELLING" and self.looks_until_over < 0:
                run["state_type"] = "CANCELLED"


@pytest.fixture
def prefect() -> Iterator[FakePrefect]:
    fake = FakePrefect()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def plan_at(url: str, tmp_path: Path) -> Plan:
    port = int(url.rpartition(":")[2])
    return make_plan(Runtime(store=str(tmp_path / "store"), stack=StackRuntime(prefect_port=port)))


SERVICES = (ServiceState(name="prefect", state="up", pid=11, starts=1), ServiceState(name="mlflow", state="ended"))
UP = StackState(pid=10, state="up", started=1.0, services=SERVICES)


def test_a_stack_without_a_keeper_is_down_whoever_answers_there(prefect: FakePrefect, tmp_path: Path) -> None:
    assert look(plan_at(prefect.url, tmp_path), None) == StackSeen(state="down")
    assert prefect.asked == []


def test_a_stack_that_starts_is_told_by_its_keeper_alone(tmp_path: Path) -> None:
    state = UP.model_copy(update={"state": "starting"})
    seen = look(plan_at(f"http://127.0.0.1:{free_port()}", tmp_path), state)
    assert seen == StackSeen(state="starting", services=SERVICES)


def test_a_stack_that_failed_is_told_with_its_reason(prefect: FakePrefect, tmp_path: Path) -> None:
    state = UP.model_copy(update={"state": "failed", "error": "mlflow ended at start"})
    seen = look(plan_at(prefect.url, tmp_path), state)
    assert (seen.state, seen.error) == ("failed", "mlflow ended at start")
    assert prefect.asked == []  # who answers there is somebody else


def test_a_stack_that_is_up_shows_pools_workers_and_what_runs(prefect: FakePrefect, tmp_path: Path) -> None:
    prefect.pools = [
        {"name": "cpu", "type": "process", "status": "READY", "concurrency_limit": 8},
        {"name": "llm", "type": "docker", "status": None, "concurrency_limit": None},
    ]
    prefect.workers = {"cpu": ["ONLINE", "OFFLINE", "ONLINE"], "llm": []}
    prefect.add_run("a", "RUNNING")
    prefect.add_run("b", "COMPLETED")
    prefect.add_run("c", "PAUSED", pool=None)
    seen = look(plan_at(prefect.url, tmp_path), UP)
    assert [(pool.name, pool.type, pool.status, pool.limit, pool.workers_online) for pool in seen.pools] == [
        ("cpu", "process", "READY", 8, 2),
        ("llm", "docker", "", None, 0),
    ]
    assert [(run.name, run.state, run.pool) for run in seen.flow_runs] == [
        ("a", "Running", "cpu"),
        ("c", "Paused", None),
    ]
    assert (seen.state, seen.services) == ("up", SERVICES)


def test_only_what_is_not_over_is_asked_for() -> None:
    asked = {}

    def answer(request: httpx.Request) -> httpx.Response:
        asked.update(json.loads(request.content), path=request.url.path)
        return httpx.Response(200, json=[])

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://prefect/api") as client:
        assert active_flow_runs(client) == []
    assert asked["path"] == "/api/flow_runs/filter"
    assert asked["flow_runs"] == {"state": {"type": {"any_": list(ACTIVE)}}}
    assert asked["limit"] <= 200  # the most that the server gives at once


def test_the_states_and_the_sort_are_prefects_own() -> None:
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    assert set(ACTIVE) <= {each.value for each in StateType}
    assert FlowRunSort("START_TIME_DESC")


def test_an_error_of_the_server_is_no_empty_list() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(500))
    with (
        httpx.Client(transport=transport, base_url="http://prefect/api") as client,
        pytest.raises(httpx.HTTPStatusError),
    ):
        active_flow_runs(client)


def test_cancelling_asks_for_each_active_run_and_waits_until_all_are_over(prefect: FakePrefect) -> None:
    prefect.add_run("a", "RUNNING")
    prefect.add_run("b", "COMPLETED")
    prefect.add_run("c", "PAUSED")
    prefect.looks_until_over = 2
    assert cancel_active(prefect.url) == ["a", "c"]
    assert [each["path"] for each in prefect.set_states] == ["/flow_runs/id-a/set_state", "/flow_runs/id-c/set_state"]
    assert all(each["force"] and each["state"]["type"] == "CANCELLING" for each in prefect.set_states)
    with prefect_client(prefect.url) as client:
        assert active_flow_runs(client) == []


def test_what_does_not_end_is_not_waited_for_for_ever(prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.stack.inspection, "CANCEL_TIMEOUT_S", 0.1)
    prefect.add_run("a", "RUNNING")
    prefect.looks_until_over = 1000
    assert cancel_active(prefect.url) == ["a"]


def test_with_no_server_there_is_nothing_to_cancel(prefect: FakePrefect) -> None:
    assert cancel_active(f"http://127.0.0.1:{free_port()}") == []
    prefect.healthy = False
    assert cancel_active(prefect.url) == []
    assert prefect.asked == []


def text_of(seen: StackSeen) -> str:
    console = Console(width=140)
    with console.capture() as captured:
        for table in status_table(seen):
            console.print(table)
    return captured.get()


def test_tables_show_what_there_is_and_no_more() -> None:
    assert text_of(StackSeen(state="down")).startswith("Services: the stack is down")
    assert "Pools" not in text_of(StackSeen(state="down"))
    pools = ({"name": "cpu", "type": "process", "status": "READY", "limit": None, "workers_online": 3},)
    runs = ({"id": "1", "name": "brave-otter", "state": "Running", "started": "2026-05-04T03:02:01.123Z"},)
    fields = {"state": "up", "services": SERVICES, "pools": pools, "flow_runs": runs}
    text = text_of(StackSeen.model_validate(fields))
    for shown in ("the stack is up", "prefect", "11", "cpu", "any", "3", "brave-otter", "2026-05-04T03:02:01 "):
        assert shown in text
    assert "services: the stack is failed no disk" in text_of(StackSeen(state="failed", error="no disk")).lower()


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    pools = ({"name": "cpu [bold]", "type": "[red]", "status": "READY", "limit": None, "workers_online": 3},)
    runs = ({"id": "1", "name": "try [/2]", "state": "Running", "pool": "[x]"},)
    service = ServiceState(name="worker [a]", state="up", starts=1)
    fields = {"state": "failed", "error": "mend [stack.pools]", "services": (service,), "pools": pools}
    text = text_of(StackSeen.model_validate(fields | {"flow_runs": runs}))
    for shown in ("[stack.pools]", "worker [a]", "cpu [bold]", "[red]", "try [/2]", "[x]"):
        assert shown in text
