"""Each thing that may be wrong is seen, with its remedy; and each that is right is called good."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import infra.stack.doctor
from infra.process import free_port
from infra.run import RUNS, RunRecord
from infra.runtime import Endpoint, Runtime, StackRuntime, TrainingRuntime
from infra.sandbox.limits import Level, SandboxError
from infra.stack.doctor import GIB, QUIET_RUN_S, Check, checks_table, examine
from infra.stack.inspection import FlowRunSeen
from infra.stack.keeper import take_lock
from infra.stack.plan import stack_home
from infra.store import Store


class FakeSandbox:
    """In the place of the real one, whose probing takes a while."""

    level = Level.BUBBLEWRAP

    def __init__(self, *, unsafe: bool) -> None:
        assert not unsafe


@pytest.fixture(autouse=True)
def _sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.sandbox.sandbox.Sandbox", FakeSandbox)


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    stack = StackRuntime(prefect_port=free_port(), mlflow_port=free_port())
    return Runtime(store=str(tmp_path / "store"), stack=stack)


@pytest.fixture
def store(runtime: Runtime, tmp_path: Path) -> Store:
    return Store(runtime.store, local=tmp_path)


def found(runtime: Runtime, name: str) -> list[Check]:
    return [check for check in examine(runtime) if check.name == name]


def only(runtime: Runtime, name: str) -> Check:
    (check,) = found(runtime, name)
    assert (check.state == "good") == (check.remedy == ""), "what is not good comes with a remedy"
    return check


def with_fields(runtime: Runtime, **fields: Any) -> Runtime:
    return Runtime.model_validate(runtime.model_dump() | fields)


def test_a_machine_that_is_in_order_has_no_fault(runtime: Runtime) -> None:
    checks = examine(runtime)
    assert [check for check in checks if check.state == "fault"] == []
    names = [check.name for check in checks]
    for name in ("python", "prefect", "mlflow", "compiler", "sandbox", "store", "stale runs", "locks"):
        assert name in names
    assert [name for name in names if name.startswith("port ")] == [
        f"port {runtime.stack.prefect_port}",
        f"port {runtime.stack.mlflow_port}",
    ]


# Versions and tools


def test_another_python_is_a_fault(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeSys:
        version_info = (3, 13, 1, "final", 0)

    assert only(runtime, "python").state == "good"
    monkeypatch.setattr(infra.stack.doctor, "sys", FakeSys)
    check = only(runtime, "python")
    assert (check.state, check.found, check.remedy) == ("fault", "3.13.1", "use Python 3.11 or 3.12")


def test_another_version_of_a_package_is_a_warning(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(package: str) -> str:
        if package == "torch":
            raise metadata.PackageNotFoundError(package)
        return "0.200.0" if package == "fastapi" else real(package)

    monkeypatch.setattr(infra.stack.doctor.metadata, "version", version)
    checks = {check.name: check for check in examine(runtime)}
    assert checks["fastapi"].state == "warning"
    assert checks["fastapi"].found == "0.200.0"
    assert "pip install fastapi==0.1" in checks["fastapi"].remedy
    assert checks["prefect"].state == "good"
    assert "torch" not in checks  # a machine without the extra has nothing to mend


def test_without_the_tested_versions_it_says_so(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infra.stack.doctor, "PROJECT", tmp_path)
    assert only(runtime, "versions").state == "warning"


def test_no_compiler_is_a_fault(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert only(runtime, "compiler").state == "good"
    monkeypatch.setenv("PATH", str(tmp_path))
    check = only(runtime, "compiler")
    assert (check.state, check.found) == ("fault", "none")
    assert "apt-get install g++" in check.remedy


def test_a_gpu_profile_without_a_driver_is_a_fault(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found(runtime, "gpu driver") == []
    on_gpus = with_fields(runtime, training=TrainingRuntime(device="cuda"))
    check = only(on_gpus, "gpu driver")
    assert check.state == "fault"
    assert "install the NVIDIA driver" in check.remedy
    driver = tmp_path / "nvidia-smi"
    driver.touch(mode=0o755)
    assert only(on_gpus, "gpu driver").found == str(driver)


def test_a_weaker_sandbox_is_a_warning_and_none_a_fault(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(runtime, "sandbox").state == "good"
    monkeypatch.setattr(FakeSandbox, "level", Level.OWN_USER)
    assert only(runtime, "sandbox").state == "warning"

    def refuse(*, unsafe: bool) -> None:
        raise SandboxError("no way to jail code")

    monkeypatch.setattr("infra.sandbox.sandbox.Sandbox", refuse)
    check = only(runtime, "sandbox")
    assert (check.state, check.found) == ("fault", "no way to jail code")
    assert "bubblewrap" in check.remedy


# Disk and store


@pytest.mark.parametrize(("gib", "state"), [(1, "fault"), (10, "warning"), (100, "good")])
def test_little_disk(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, gib: int, state: str) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(200 * GIB, 0, gib * GIB))
    for name in ("disk of store", "disk of scratch"):
        check = only(runtime, name)
        assert check.state == state
        assert check.found.startswith(f"{gib}.0 GiB free at /")
        assert state == "good" or "posttrain gc" in check.remedy


def test_a_store_that_cannot_be_written_is_a_fault(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = with_fields(runtime, store=str(tmp_path / "file" / "store"))
    check = only(blocked, "store")
    assert check.state == "fault"
    assert str(tmp_path / "file") in check.found
    assert only(blocked, "stack").state == "fault"  # its home lies there too


def test_a_folder_that_can_be_written_is_good(runtime: Runtime) -> None:
    check = only(runtime, "store")
    assert (check.state, check.found) == ("good", runtime.store)


# Endpoints


def endpoint_at(url: str, **fields: Any) -> dict[str, Any]:
    return {"teacher": Endpoint(base_url=url, **fields)}


def test_the_stand_in_needs_no_endpoint(runtime: Runtime) -> None:
    with_stand_in = with_fields(runtime, endpoints=endpoint_at("stand-in", api_key_env="NOT_SET"))
    assert only(with_stand_in, "endpoint teacher").state == "good"


def test_an_endpoint_that_listens_is_good_and_a_dead_one_a_fault(runtime: Runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        alive = with_fields(runtime, endpoints=endpoint_at(f"http://127.0.0.1:{port}/v1"))
        assert only(alive, "endpoint teacher").state == "good"
    check = only(alive, "endpoint teacher")
    assert (check.state, check.found) == ("fault", f"http://127.0.0.1:{port}/v1")
    assert "refused; start it, or mend base_url of [endpoints.teacher]" in check.remedy


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/v1", "http://no-such-host.invalid/v1"])
def test_an_endpoint_of_a_wrong_address_is_a_fault(runtime: Runtime, url: str) -> None:
    check = only(with_fields(runtime, endpoints=endpoint_at(url)), "endpoint teacher")
    assert check.state == "fault"
    assert "mend base_url" in check.remedy


def test_an_endpoint_without_its_key_is_a_fault_and_is_not_called(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    endpoints = endpoint_at(f"http://127.0.0.1:{free_port()}/v1", api_key_env="TEACHER_KEY")
    check = only(with_fields(runtime, endpoints=endpoints), "endpoint teacher")
    assert check.state == "fault"
    assert check.remedy.startswith("environment variable TEACHER_KEY is not set; export")
    monkeypatch.setenv("TEACHER_KEY", "secret-of-mine")
    check = only(with_fields(runtime, endpoints=endpoints), "endpoint teacher")
    assert "refused" in check.remedy
    assert "secret-of-mine" not in check.model_dump_json()


# The stack


def test_a_port_that_another_program_has_is_a_fault(runtime: Runtime) -> None:
    port = runtime.stack.mlflow_port
    with socket.create_server(("127.0.0.1", port)):
        check = only(runtime, f"port {port}")
    assert (check.state, check.found) == ("fault", "taken, and no stack of ours is up")
    assert "set stack.mlflow_port in the profile" in check.remedy
    assert only(runtime, f"port {port}").state == "good"


@contextmanager
def answering(port: int, status: int = 200, content: bytes = b"[]") -> Iterator[None]:
    """A server that gives the same answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def test_a_stack_that_is_up_is_asked_server_by_server(runtime: Runtime) -> None:
    lock = take_lock(stack_home(runtime))
    assert lock is not None
    with lock, answering(runtime.stack.prefect_port):
        checks = [check for check in examine(runtime) if check.found.endswith(("/api/health", "/health"))]
    assert [(check.name, check.state) for check in checks] == [("prefect", "good"), ("mlflow", "fault")]
    assert "posttrain logs mlflow" in checks[1].remedy


def test_a_profile_whose_stack_cannot_be_planned_is_a_fault(runtime: Runtime) -> None:
    stack = runtime.stack.model_copy(update={"prefect_database_env": "NO_SUCH_DATABASE"})
    check = only(runtime.model_copy(update={"stack": stack}), "stack")
    assert check.state == "fault"
    assert "NO_SUCH_DATABASE is not set" in check.found


def test_flow_runs_on_a_pool_without_a_worker_are_told(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        FlowRunSeen(id="1", name="brave-otter", state="Pending", pool="gpu-train"),
        FlowRunSeen(id="2", name="calm-crow", state="Running", pool=None),
    ]
    monkeypatch.setattr(infra.stack.doctor, "active_flow_runs", lambda _: runs)
    with answering(runtime.stack.prefect_port, content=b'[{"status": "OFFLINE"}]'):
        check = only(runtime, "flow run")
    assert check.state == "warning"
    assert check.found == "brave-otter is Pending, and pool gpu-train has no worker online"
    assert "prefect worker start --pool gpu-train" in check.remedy
    with answering(runtime.stack.prefect_port, content=b'[{"status": "ONLINE"}]'):
        assert found(runtime, "flow run") == []


def test_another_server_at_prefects_port_is_told(runtime: Runtime) -> None:
    with answering(runtime.stack.prefect_port, content=b"<html>"):
        check = only(runtime, "flow runs")
    assert check.state == "warning"
    assert runtime.stack.prefect_url in check.remedy


# What was left behind


def record(store: Store, id_: str, state: str, hours_ago: float) -> None:
    started = time.time() - hours_ago * 3600
    run = RunRecord.model_validate({"id": id_, "recipe": "smoke", "state": state, "started": started})
    store.note(f"{RUNS}/{id_}/all.json", run.model_dump_json().encode())


def test_a_run_that_says_running_and_is_quiet_for_long_is_told(runtime: Runtime, store: Store) -> None:
    assert QUIET_RUN_S == 3600
    record(store, "quiet", "running", hours_ago=5)
    record(store, "busy", "running", hours_ago=0.5)
    record(store, "done", "finished", hours_ago=90)
    check = only(runtime, "stale run")
    assert check.state == "warning"
    assert check.found == "quiet (smoke) says running, last step 5.0 h ago"
    assert "posttrain run smoke, and it goes on where it was" in check.remedy
    assert found(runtime, "stale runs") == []


def test_runs_that_are_over_or_busy_are_good(runtime: Runtime, store: Store) -> None:
    record(store, "done", "failed", hours_ago=90)
    record(store, "busy", "running", hours_ago=0.5)
    assert only(runtime, "stale runs").state == "good"


def scratch(runtime: Runtime, name: str, hours_ago: float) -> Path:
    folder = runtime.scratch_folder / name
    folder.mkdir(parents=True)
    lock = folder.with_suffix(".lock")
    lock.write_text(str(os.getpid()))
    os.utime(lock, (time.time() - hours_ago * 3600,) * 2)
    return lock


def test_a_held_lock_names_its_process(runtime: Runtime) -> None:
    lock = scratch(runtime, "train-sft-0123", hours_ago=50)
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check = only(runtime, "lock")
    assert (check.state, check.found) == ("good", f"train-sft-0123 is held by process {os.getpid()}")


def test_a_folder_left_in_scratch_is_told_after_a_day(runtime: Runtime) -> None:
    scratch(runtime, "train-sft-0123", hours_ago=72)
    scratch(runtime, "train-grpo-4567", hours_ago=2)
    check = only(runtime, "left in scratch")
    assert check.state == "warning"
    assert check.found == "train-sft-0123, unfinished, untouched for 3 days"
    assert "posttrain gc --delete" in check.remedy


def test_an_empty_scratch_is_good(runtime: Runtime) -> None:
    assert only(runtime, "locks").found == "none held, nothing left behind"


# For a person


def test_the_table_shows_every_check_with_its_remedy() -> None:
    checks = [
        Check(name="store", state="good", found="/store"),
        Check(name="compiler", state="fault", found="none", remedy="install g++"),
    ]
    console = Console(width=140)
    with console.capture() as captured:
        console.print(checks_table(checks))
    for shown in ("store", "good", "/store", "compiler", "fault", "none", "install g++"):
        assert shown in captured.get()


# What is shown and what is left


def test_a_remedy_is_shown_as_it_is() -> None:
    console = Console(width=200)
    check = Check(name="a [/2]", state="fault", found="/b[1]", remedy="mend base_url of [endpoints.teacher]")
    with console.capture() as captured:
        console.print(checks_table([check]))
    for cell in (check.name, check.found, check.remedy):
        assert cell in captured.get()


def test_looking_leaves_nothing_in_the_store(runtime: Runtime, store: Store) -> None:
    assert only(runtime, "store").state == "good"
    assert store.objects("doctor") == []


def test_a_record_that_cannot_be_read_is_a_fault(runtime: Runtime, store: Store) -> None:
    store.note(f"{RUNS}/X/all.json", b"{bad")
    check = only(runtime, "run records")
    assert check.state == "fault"
    assert "runs/by-id/X/all.json: not a run's record" in check.found
    assert found(runtime, "stale runs") == []
