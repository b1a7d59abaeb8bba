"""MLflow under a stack's server, and its file opened by `posttrain run`: both read all of it, whichever was first."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from infra.config import ConfigError
from infra.lineage import EXPERIMENT, Tracking
from infra.process import ChildProcess, free_port
from infra.runtime import Runtime, StackRuntime, child_environment, prepare_environment
from infra.stack.plan import make_plan, worker_profile
from tests.integration.stack import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
Serving = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    prepare_environment(tmp_path / "home")
    return Runtime(store=str(tmp_path / "store"), stack=StackRuntime(mlflow_port=free_port()))


@pytest.fixture
def serving(runtime: Runtime, tmp_path: Path) -> Serving:
    """The MLflow server that `posttrain up` starts for the profile."""
    runtime.scratch_folder.mkdir(parents=True)
    service = make_plan(runtime).servers[1]

    def is_up() -> bool:
        try:
            return httpx.get(service.health or "").is_success
        except httpx.TransportError:
            return False

    @contextmanager
    def serve() -> Iterator[None]:
        env, log = child_environment(**service.env), tmp_path / "mlflow.log"
        with ChildProcess(list(service.command), name="mlflow", log=log, env=env, cwd=tmp_path):
            wait_until(is_up, "MLflow", 180.0)
            yield

    return serve


def as_worker(runtime: Runtime) -> Runtime:
    return Runtime.model_validate(tomllib.loads(worker_profile(runtime)))


def write(tracking: Tracking, name: str) -> str:
    """A run with a card; its id."""
    run = tracking.new_parent(name, name, "smoke", 1.0)
    tracking.client.log_text(run, f"card of {name}", "card.md")
    return run


def read(tracking: Tracking, run: str) -> str:
    return str(tracking.mlflow.artifacts.load_text(f"{tracking.client.get_run(run).info.artifact_uri}/card.md"))


def on_its_page(runtime: Runtime, run: str) -> str:
    """The card as the run's page in a browser asks for it."""
    asked = {"run_uuid": run, "path": "card.md"}
    return httpx.get(f"{runtime.stack.mlflow_url}/get-artifact", params=asked).raise_for_status().text


def test_a_stack_first_then_a_run_without_it(runtime: Runtime, serving: Serving) -> None:
    with serving():
        first = write(Tracking(as_worker(runtime)), "first")
        assert on_its_page(runtime, first) == "card of first"
    tracking = Tracking(runtime)
    assert read(tracking, first) == "card of first"
    assert read(tracking, write(tracking, "second")) == "card of second"


def test_a_run_first_then_a_stack(runtime: Runtime, serving: Serving) -> None:
    first = write(Tracking(runtime), "first")
    with serving():
        tracking = Tracking(as_worker(runtime))
        second = write(tracking, "second")
        assert read(tracking, first) == "card of first"
        assert [on_its_page(runtime, run) for run in (first, second)] == ["card of first", "card of second"]
    assert read(Tracking(runtime), second) == "card of second"


def test_a_store_whose_artifacts_lie_behind_the_server_says_so_and_works_over_http(
    runtime: Runtime, serving: Serving
) -> None:
    """As older stacks made it, whose workers named no place."""
    over_http = runtime.model_copy(update={"tracking_uri": runtime.stack.mlflow_url})
    with serving():
        tracking = Tracking(over_http)
        assert tracking.client.get_experiment_by_name(EXPERIMENT).artifact_location.startswith("mlflow-artifacts:")
        first = write(tracking, "first")
        for later in (as_worker(runtime), as_worker(over_http)):
            assert read(Tracking(later), first) == "card of first"
    with pytest.raises(ConfigError, match=f'posttrain up`, then set tracking_uri = "{runtime.stack.mlflow_url}"'):
        Tracking(runtime)
