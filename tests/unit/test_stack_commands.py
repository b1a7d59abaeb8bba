"""up, status, logs, down and doctor where no stack is: each says so clearly and leaves nothing behind."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import flows.commands.stack
from flows.cli import app
from infra.config import ConfigError
from infra.output import write_json
from infra.process import free_port
from infra.runtime import Runtime, StackRuntime
from infra.stack.keeper import StackState, state_path, take_lock
from infra.stack.plan import Plan, make_plan, profile_path, stack_home, worker_profile


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    stack = StackRuntime(prefect_port=free_port(), mlflow_port=free_port())
    return Runtime(store=str(tmp_path / "store"), stack=stack)


@pytest.fixture
def home(runtime: Runtime) -> Path:
    return stack_home(runtime)


@pytest.fixture
def profile(runtime: Runtime, tmp_path: Path) -> str:
    from infra.config import as_toml

    path = tmp_path / "profile.toml"
    path.write_text(as_toml(runtime))
    return str(path)


def posttrain(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def error_of(result: Result) -> str:
    """What `flows.cli.main` would print; any other error than a ConfigError is a bug of the command."""
    assert isinstance(result.exception, ConfigError), result.exception
    return str(result.exception)


def tell(home: Path, **fields: Any) -> None:
    """State as a keeper leaves it."""
    home.mkdir(parents=True, exist_ok=True)
    state = StackState.model_validate({"pid": 1, "state": "up", "started": 1.0} | fields)
    write_json(state_path(home), state.model_dump())


# status


def test_status_without_a_stack_says_down_and_exits_1(profile: str, runtime: Runtime) -> None:
    result = posttrain("status", "--profile", profile)
    assert result.exit_code == 1
    assert "the stack is down" in result.output
    assert runtime.stack.prefect_url in result.output
    as_json = posttrain("status", "--profile", profile, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["state"] == "down"


def test_status_after_the_keeper_was_killed_says_down(profile: str, home: Path) -> None:
    tell(home, state="up")
    result = posttrain("status", "--profile", profile, "--json")
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (1, "down")


def test_status_after_a_failed_start_says_why(profile: str, home: Path) -> None:
    tell(home, state="failed", error="mlflow ended at start; mend what its log says")
    result = posttrain("status", "--profile", profile, "--json")
    assert result.exit_code == 1
    seen = json.loads(result.stdout)
    assert (seen["state"], seen["error"]) == ("failed", "mlflow ended at start; mend what its log says")


def test_status_while_it_starts_shows_the_services(profile: str, home: Path) -> None:
    tell(home, state="starting", services=[{"name": "prefect", "state": "up", "pid": 11, "starts": 1}])
    lock = take_lock(home)
    assert lock is not None
    with lock:
        result = posttrain("status", "--profile", profile)
    assert result.exit_code == 1
    assert "the stack is starting" in result.output
    assert "prefect" in result.output


# logs


def test_logs_without_a_stack_say_so(profile: str) -> None:
    assert "no log of `any service` in" in error_of(posttrain("logs", "--profile", profile))
    assert "there are: none; is the stack up?" in error_of(posttrain("logs", "--profile", profile))


def test_logs_of_an_unknown_service_name_the_known_ones(profile: str, home: Path) -> None:
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "prefect.log").write_text("1\n2\n3\n")
    told = error_of(posttrain("logs", "mlflow", "--profile", profile))
    assert "no log of `mlflow`" in told
    assert "there are: prefect" in told


def test_logs_show_the_last_lines_of_each(profile: str, home: Path) -> None:
    (home / "logs").mkdir(parents=True)
    for name in ("prefect", "mlflow"):
        (home / "logs" / f"{name}.log").write_text("".join(f"{name} {number}\n" for number in range(100)))
    # Its own process, since `tail` writes past the runner's capture.
    command = [sys.executable, "-m", "flows.cli", "logs", "--profile", profile, "--lines", "2"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert [line for line in shown.stdout.splitlines() if line and "==>" not in line] == [
        "mlflow 98",
        "mlflow 99",
        "prefect 98",
        "prefect 99",
    ]


# down


def test_down_without_a_stack_is_no_error_and_kills_nobody(
    profile: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.commands.stack.os, "kill", _never)
    for leave_state in (False, True):  # a killed keeper leaves its state; its process id may be another's by now
        if leave_state:
            tell(home, state="up", pid=1)
        result = posttrain("down", "--profile", profile)
        assert result.exit_code == 0
        assert "no stack is up in" in result.output


def _never(*_: object) -> None:
    raise AssertionError("nobody is to be killed")


# up


@pytest.mark.parametrize("server", ["prefect", "mlflow"])
def test_up_with_a_taken_port_names_the_setting_and_starts_nothing(
    profile: str, runtime: Runtime, home: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.commands.stack.subprocess, "Popen", _never)
    port = getattr(runtime.stack, f"{server}_port")
    with socket.create_server(("127.0.0.1", port)):
        told = error_of(posttrain("up", "--profile", profile))
    assert told == (
        f"port {port} for {server} is taken by another program; end it, or set stack.{server}_port in the profile"
    )
    assert not state_path(home).exists()
    assert not profile_path(home).exists()


def test_up_beside_a_stack_with_other_settings_is_refused(profile: str, runtime: Runtime, home: Path) -> None:
    lock = take_lock(home)
    assert lock is not None
    with lock:
        other = runtime.model_copy(update={"verifier_processes": 9})
        profile_path(home).write_text(worker_profile(other), encoding="utf-8")
        told = error_of(posttrain("up", "--profile", profile))
    assert "a stack with other settings is up" in told
    assert "`posttrain down` first" in told


def test_up_beside_the_same_stack_shows_its_links(profile: str, runtime: Runtime, home: Path) -> None:
    lock = take_lock(home)
    assert lock is not None
    with lock:
        tell(home, state="up")
        profile_path(home).write_text(worker_profile(runtime), encoding="utf-8")
        result = posttrain("up", "--profile", profile, "--json")
    assert result.exit_code == 0
    links = json.loads(result.stdout)
    assert links["prefect"] == runtime.stack.prefect_url
    assert links["mlflow"].startswith(f"{runtime.stack.mlflow_url}/#/experiments")
    assert links["home"] == str(home)


@pytest.fixture
def failing_plan(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """The profile's plan, with a first server that ends at start."""
    plan = make_plan(runtime)
    command = (sys.executable, "-S", "-c", "print('the disk is full')")
    failing = plan.model_copy(update={"servers": (plan.servers[0].model_copy(update={"command": command}),)})
    monkeypatch.setattr("infra.stack.plan.make_plan", lambda _: failing)
    return failing


def test_up_tells_the_end_of_the_log_of_what_did_not_start(profile: str, failing_plan: Plan) -> None:
    told = error_of(posttrain("up", "--profile", profile))
    assert told.startswith("the stack did not start: prefect ended at start; mend what its log says:\nthe disk is full")
    assert str(failing_plan.log_of("prefect")) in told
    lock = take_lock(failing_plan.home)
    assert lock is not None
    lock.close()
    assert "failed" in posttrain("status", "--profile", profile).output


def test_up_does_not_wait_for_a_keeper_that_is_gone(
    profile: str, failing_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.commands.stack.sys, "executable", "/bin/false")
    told = error_of(posttrain("up", "--profile", profile))
    assert told == f"the keeper ended with exit code 1; mend what {failing_plan.log_of('keeper')} says"


# doctor


def test_doctor_exits_1_with_a_fault_and_0_without(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.stack.doctor import Check

    checks = [Check(name="store", state="good", found="/store"), Check(name="disk", state="warning", found="little")]
    monkeypatch.setattr("infra.stack.doctor.examine", lambda _: checks)
    assert posttrain("doctor", "--profile", profile).exit_code == 0
    checks.append(Check(name="compiler", state="fault", found="none", remedy="install g++"))
    result = posttrain("doctor", "--profile", profile, "--json")
    assert result.exit_code == 1
    assert [check["name"] for check in json.loads(result.stdout)] == ["store", "disk", "compiler"]
    assert "1 fault(s)" in result.stderr
    assert "install g++" in posttrain("doctor", "--profile", profile).output


def test_an_unknown_profile_is_told_by_every_command() -> None:
    for command in ("up", "status", "logs", "down", "doctor"):
        assert "no profile `lokal`" in error_of(posttrain(command, "--profile", "lokal"))
