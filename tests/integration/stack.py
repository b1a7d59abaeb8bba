"""A stack of a test's own: `posttrain up` on free ports, Prefect's API over HTTP, `posttrain down`."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from flows.recipe import load_recipe
from infra.process import free_port
from infra.runtime import PROFILES
from infra.store import Store
from tests.integration.cli import descendants_named, posttrain

ROOT = Path(__file__).resolve().parents[2]
# The smoke recipe with everything small: all phases, one step of GRPO, next to nothing learned.
TINY: dict[str, Any] = {
    "ingest.corpus.counts.num_arithmetic": 300,
    "ingest.corpus.counts.num_equations": 40,
    "ingest.corpus.counts.num_comparisons": 40,
    "ingest.corpus.counts.num_units": 30,
    "ingest.corpus.counts.num_code": 10,
    "ingest.corpus.counts.num_multiple_choice": 20,
    "ingest.corpus.counts.num_instructions": 20,
    "ingest.corpus.counts.num_chats": 20,
    "ingest.corpus.benchmarks.num_math500_arithmetic": 30,
    "ingest.corpus.benchmarks.num_math500_equations": 5,
    "ingest.corpus.benchmarks.num_gsm8k_test_comparisons": 5,
    "model.small.tokenizer.vocab_size": 512,
    "sft.num_epochs": 1,
    "sft.save_every_steps": 5,
    "pass_rate.max_prompts": 8,
    "pass_rate.num_samples": 2,
    "pass_rate.keep": "all",
    "grpo.0.train.steps": 1,
    "grpo.0.train.prompts_per_batch": 4,
    "grpo.0.train.group_size": 2,
    "benchmark.num_samples": 1,
}
OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def tiny_recipe(**overrides: Any) -> dict[str, Any]:
    """The fields of recipe smoke, made small, as a deployment's form holds them."""
    fields = load_recipe("smoke", TINY | overrides).model_dump(mode="json")
    return fields | {"grpo": fields["grpo"][:1]}


def settings(overrides: Mapping[str, Any]) -> list[str]:
    """The same overrides for the command line."""
    return [part for key, value in overrides.items() for part in ("--set", f"{key}={json.dumps(value)}")]


class AskingAgain(httpx.HTTPTransport):
    """Asks again after a 503, as Prefect's own client does: on SQLite two writes cross now and then."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        for _ in range(10):
            if response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            response.close()
            time.sleep(1.0)
            response = super().handle_request(request)
        return response


class RunningStack:
    """A stack that is up, and its Prefect API."""

    def __init__(self, folder: Path, profile: Path, links: dict[str, Any]) -> None:
        self.folder, self.profile, self.links = folder, profile, links
        self.store_folder = folder / "store"
        self.api = httpx.Client(base_url=f"{links['prefect']}/api", timeout=90.0, transport=AskingAgain())

    @property
    def store(self) -> Store:
        """The store that its flow runs publish to."""
        return Store(str(self.store_folder), self.store_folder)

    def post(self, path: str, **body: Any) -> Any:
        """POST to Prefect's API; the answer."""
        return self._ask("POST", path, json=body)

    def get(self, path: str) -> Any:
        """GET from Prefect's API; the answer."""
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, **content: Any) -> Any:
        response = self.api.request(method, path, **content)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def trigger(self, deployment: str, **parameters: Any) -> str:
        """Run a deployment (`flow/name`) with some fields of its form changed; the flow run's id."""
        found = self.get(f"/deployments/name/{deployment}")
        state = {"type": "SCHEDULED"}
        made = self.post(f"/deployments/{found['id']}/create_flow_run", parameters=parameters, state=state)
        return str(made["id"])

    def flow_run(self, flow_run: str) -> dict[str, Any]:
        """A flow run as the API tells of it."""
        found: dict[str, Any] = self.get(f"/flow_runs/{flow_run}")
        return found

    def wait(self, flow_run: str, timeout_s: float = 600.0) -> dict[str, Any]:
        """Wait until a flow run is over."""
        wait_until(lambda: self.flow_run(flow_run)["state_type"] in OVER, f"flow run {flow_run} to end", timeout_s)
        return self.flow_run(flow_run)

    def complete(self, flow_run: str) -> dict[str, Any]:
        """Wait until a flow run has completed; told with its message when it ends otherwise."""
        found = self.wait(flow_run)
        assert found["state_type"] == "COMPLETED", (found["name"], found["state"]["name"], found["state"]["message"])
        return found

    def children(self, flow_run: str) -> list[dict[str, Any]]:
        """Flow runs that a flow run dispatched, in order."""
        wanted = {"parent_flow_run_id": {"any_": [flow_run]}}
        found: list[dict[str, Any]] = self.post("/flow_runs/filter", flow_runs=wanted, sort="START_TIME_ASC")
        return found

    def tasks(self, flow_run: str) -> dict[str, str]:
        """Steps of a flow run → name of their state."""
        found = self.post("/task_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
        return {task["name"]: task["state_name"] for task in found}

    def cancel(self, flow_run: str) -> None:
        """What the UI's button Cancel sends."""
        self.post(f"/flow_runs/{flow_run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})

    def answer(self, flow_run: str, *, approve: bool, reason: str) -> None:
        """What the UI's form of a paused flow run sends."""
        body = {"approve": approve, "reason": reason}

        def is_accepted() -> bool:  # the form is there a moment after the state
            return bool(self.post(f"/flow_runs/{flow_run}/resume", run_input=body)["status"] == "ACCEPT")

        wait_until(is_accepted, "the answer to be accepted", 30.0)

    def processes(self, marker: str) -> list[int]:
        """Processes with the marker on their command line."""
        return descendants_named(marker)


@contextmanager
def running_stack(folder: Path, **profile: Any) -> Iterator[RunningStack]:
    """A stack with its store in `folder`, taken down at the end; `profile` sets further fields."""
    path = folder / "profile.toml"
    path.write_text(profile_text(folder, profile), encoding="utf-8")
    up = posttrain("up", "--profile", str(path), "--json")
    assert up.code == 0, up.stderr
    try:
        yield RunningStack(folder, path, json.loads(up.stdout))
    finally:
        down = posttrain("down", "--profile", str(path))
        assert down.code == 0, down.stderr


def profile_text(folder: Path, fields: Mapping[str, Any]) -> str:
    """The profile `local` with a store and ports of its own."""
    from infra.config import as_toml
    from infra.runtime import Runtime

    content = tomllib.loads((PROFILES / "local.toml").read_text(encoding="utf-8"))
    ports = {"prefect_port": free_port(), "mlflow_port": free_port()}
    content |= {"store": str(folder / "store"), "stack": ports} | dict(fields)
    return as_toml(Runtime.model_validate(content))


def wait_until(is_so: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.5)
