"""A real Docker engine, where one can be started: the sandbox image, and a phase that runs through a Docker pool.

No registry is needed: the base image is made of this machine's own Debian packages (debian_root.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.recipe import load_recipe
from infra.process import ChildProcess, free_port
from infra.runtime import child_environment
from tests.integration.docker_engine import (
    BASE,
    EngineError,
    build_sandbox_image,
    docker_client,
    engine_with_base,
)
from tests.integration.test_resume import SMALL

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
# What `docker run` gets in docker/sandbox.Dockerfile's first lines.
WALLS: dict[str, Any] = {
    "network_mode": "none",
    "read_only": True,
    "tmpfs": {"/tmp": "rw,exec,mode=1777,size=64m"},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "pids_limit": 64,
    "mem_limit": "1g",
    "remove": True,
}
TRIES = """
import errno, json, os, pathlib, socket
def refused(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
print(json.dumps({
    "uid": os.getuid(),
    "network": refused(lambda: socket.create_connection(("192.0.2.1", 80), timeout=2)),
    "root": refused(lambda: pathlib.Path("/usr/mine").write_text("")),
    "answer": sum(range(10)),
}))
"""
SUM_OF_SQUARES = """
#include <bits/stdc++.h>
int main() { long n, sum = 0; while (std::cin >> n) sum += n * n; std::cout << sum << std::endl; }
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of an engine that holds the base image."""
    with ExitStack() as stack:
        try:
            socket = stack.enter_context(engine_with_base(tmp_path_factory.mktemp("docker")))
        except EngineError as error:
            pytest.skip(str(error))
        yield socket


@pytest.fixture(scope="module")
def client(engine: Path) -> Iterator[Any]:
    with docker_client(engine) as connected:
        yield connected


@pytest.fixture(scope="module")
def sandbox(client: Any) -> str:
    """docker/sandbox.Dockerfile, built without a network on the base image."""
    return build_sandbox_image(client)


def test_the_sandbox_runs_python_without_rights_network_or_disk(client: Any, sandbox: str) -> None:
    seen = json.loads(client.containers.run(sandbox, ["python3", "-I", "-c", TRIES], **WALLS))
    assert seen == {"uid": 65534, "network": "ENETUNREACH", "root": "EROFS", "answer": 45}


def test_the_sandbox_compiles_and_runs_cpp(client: Any, sandbox: str) -> None:
    script = 'printf "%s" "$1" > a.cpp && g++ -O1 -o a a.cpp && echo 3 4 12 | ./a'
    printed = client.containers.run(sandbox, ["sh", "-ec", script, "sh", SUM_OF_SQUARES], **WALLS)
    assert printed == b"169\n"


def test_the_sandbox_image_says_how_it_is(client: Any, sandbox: str) -> None:
    config = client.images.get(sandbox).attrs["Config"]
    assert config["User"] == "65534:65534"
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python3"]
    assert config["Labels"]["org.opencontainers.image.title"] == "posttrain sandbox"


def test_bubblewrap_works_in_a_worker_of_compose(engine: Path) -> None:
    """With the workers' rights a jail starts; with Docker's own it does not, and grading would fall back to limits."""
    workers = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    rights = [f"--security-opt={option}" for option in workers["worker-cpu"]["security_opt"]]
    jail = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    run = ["docker", f"--host=unix://{engine}", "run", "--rm", "--network=none", "--user=10001:10001"]
    given = subprocess.run([*run, *rights, BASE, *jail], capture_output=True, text=True, check=False)
    assert given.returncode == 0, given.stderr
    assert subprocess.run([*run, BASE, *jail], capture_output=True, check=False).returncode != 0


class Stack:
    """A Prefect server and a Docker worker of pool `cpu`, whose job template is deployments/pools/docker-cpu.json."""

    def __init__(self, folder: Path, engine: Path, running: ExitStack) -> None:
        self.folder, self._running = folder, running
        port = free_port()
        self.env = child_environment(
            DOCKER_HOST=f"unix://{engine}",
            PREFECT_API_URL=f"http://127.0.0.1:{port}/api",
            PREFECT_HOME=str(folder / "prefect"),
            PREFECT_SERVER_UI_ENABLED="false",
            PREFECT_WORKER_QUERY_SECONDS="2",
            PYTHONPATH=str(ROOT),
        )
        self.api = running.enter_context(httpx.Client(base_url=f"{self.env['PREFECT_API_URL']}/", timeout=30))
        self._server = self._start("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        self._until(lambda: self._healthy(), "the Prefect server is up", 120)
        # What `posttrain up` and compose.yaml do: pools and automations of the profile, then the deployments.
        self._do("infra.stack.setup", str(self._profile()))
        prefect_file = str(ROOT / "deployments" / "prefect.yaml")
        self._do("prefect", "--no-prompt", "deploy", "--name", "ingest", "--prefect-file", prefect_file)
        self._worker = self._start("worker", "prefect", "worker", "start", "--pool", "cpu", "--type", "docker")

    def _profile(self) -> Path:
        """Pool `cpu` of containers; seen in the container at the same path."""
        path = self.folder / "profile.toml"
        path.write_text(
            f'store = "{self.folder}/store"\n'
            "[stack]\n"
            "workers = []\n"
            '[stack.pools.cpu]\ntype = "docker"\ntemplate = "docker-cpu"\nlimit = 8\n'
            "[stack.pools]\nllm = { limit = 2 }\ngpu-rollout = { limit = 2 }\ngpu-train = { limit = 2 }\n",
            encoding="utf-8",
        )
        return path

    def _start(self, name: str, *command: str) -> ChildProcess:
        log = self.folder / f"{name}.log"
        child = ChildProcess([sys.executable, "-m", *command], name=name, log=log, env=self.env, cwd=self.folder)
        return self._running.enter_context(child)

    def _do(self, *command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *command], env=self.env, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    def _healthy(self) -> bool:
        try:
            return self.api.get("health").is_success
        except httpx.TransportError:
            return False

    def _until(self, is_so: Any, what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}\n{self.logs()}"
            time.sleep(0.5)

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))

    def run_to_its_end(self, deployment: str, parameters: dict[str, Any], **variables: Any) -> dict[str, Any]:
        """Trigger a deployment, as the UI does, with job variables; the flow run when it has ended."""
        found = self.api.get(f"deployments/name/{deployment}").raise_for_status().json()
        body = {"parameters": parameters, "job_variables": variables, "state": {"type": "SCHEDULED"}}
        run = self.api.post(f"deployments/{found['id']}/create_flow_run", json=body).raise_for_status().json()
        ended = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

        def read() -> dict[str, Any]:
            latest: dict[str, Any] = self.api.get(f"flow_runs/{run['id']}").raise_for_status().json()
            return latest

        self._until(lambda: read()["state_type"] in ended, "the flow run has ended", 240)
        return read()


@pytest.fixture
def stack(engine: Path, tmp_path: Path) -> Iterator[Stack]:
    with ExitStack() as running:
        yield Stack(tmp_path, engine, running)


def mounts(shared: Path) -> list[str]:
    """The project, its environment and its Python read-only, and one folder to write to; all at their own paths."""
    places = {ROOT, Path(sys.prefix), Path(sys.base_prefix)} - {Path("/usr")}
    return [*(f"{place}:{place}:ro" for place in sorted(places)), f"{shared}:{shared}"]


def test_a_phase_runs_through_a_docker_pool(stack: Stack, client: Any, tmp_path: Path) -> None:
    started = int(time.time())
    small = {key: value for key, value in SMALL.items() if key.startswith("ingest.")}
    recipe = load_recipe("smoke", small).model_dump(mode="json")
    env = {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin", "HOME": "/tmp", "POSTTRAIN_PROFILE": f"{tmp_path}/profile.toml"}

    run = stack.run_to_its_end(
        "ingest/ingest",
        {"recipe": recipe},
        image=BASE,
        volumes=mounts(tmp_path),
        network_mode="host",
        working_dir="/var/tmp",  # empty: Prefect copies the folder that a container starts in
        env=env,
    )

    assert run["state_type"] == "COMPLETED", f"{run['state']}\n{stack.logs()}"
    assert list((tmp_path / "store" / "manifests" / "merge").glob("*.json")), "the phase published its data version"
    container = _container_of(client, run["id"], started)
    assert container["image"] == BASE
    assert container["exitCode"] == "0"
    assert run["infrastructure_pid"].endswith(container["id"]), "Prefect knows the container as the flow run's own"


def _container_of(client: Any, flow_run: str, since: int) -> dict[str, str]:
    """What the engine says when the flow run's container ends, which is a moment after the flow run."""
    filters = {"type": "container", "event": "die", "label": f"io.prefect.flow-run-id={flow_run}"}
    ends = client.events(since=since, until=int(time.time()) + 60, filters=filters, decode=True)
    event = next(ends)
    return {**event["Actor"]["Attributes"], "id": event["Actor"]["ID"]}
