"""posttrain up, status, logs, down and doctor: the stack on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import JsonOption, ProfileOption, RawOption, StoreOption, console, errors, open_runtime
from infra.config import ConfigError

if TYPE_CHECKING:
    from infra.runtime import Runtime
    from infra.stack.keeper import StackState
    from infra.stack.plan import Plan

app = typer.Typer()

UP_TIMEOUT_S = 300.0
DOWN_TIMEOUT_S = 90.0


@app.command(
    epilog="Examples:\n\n  posttrain up\n\n  posttrain up --profile h100 --store s3://bucket/prefix\n\n"
    "  posttrain up --raw FOLDER     (recipes that read raw files)\n\nAgain: shows the links of the one that is up."
)
def up(
    profile: ProfileOption = "local", store: StoreOption = None, raw: RawOption = None, as_json: JsonOption = False
) -> None:
    """Start Prefect, MLflow, work pools, deployments with their schedules, and workers; print both links."""
    from infra.stack.keeper import take_lock
    from infra.stack.plan import make_plan, profile_path, worker_profile

    started = time.monotonic()
    runtime = open_runtime(profile, store, raw)
    plan, wanted = make_plan(runtime), worker_profile(runtime)
    lock = take_lock(plan.home)
    keeper = None
    if lock is None:
        if profile_path(plan.home).read_text(encoding="utf-8") != wanted:
            raise ConfigError(f"a stack with other settings is up in {plan.home}; `posttrain down` first, then up")
    else:
        with lock:
            _check_ports(plan)
            keeper = _start_keeper(plan, runtime, wanted, lock.fileno())
    _wait_until_up(plan, keeper)
    _show_links(plan, time.monotonic() - started, as_json)


def _check_ports(plan: Plan) -> None:
    from urllib.parse import urlsplit

    from infra.process import port_is_free

    for server in plan.servers:
        health = urlsplit(server.health or "")
        port = health.port
        if port is not None and not port_is_free(port, health.hostname or "127.0.0.1"):
            raise ConfigError(
                f"port {port} for {server.name} is taken by another program; end it, or set "
                f"stack.{server.name}_port in the profile"
            )


def _start_keeper(plan: Plan, runtime: Runtime, profile: str, lock: int) -> subprocess.Popen[bytes]:
    from infra.runtime import give_s3_to_mlflow
    from infra.stack.keeper import plan_path, state_path
    from infra.stack.plan import profile_path

    state_path(plan.home).unlink(missing_ok=True)
    _write_private(profile_path(plan.home), profile)
    _write_private(plan_path(plan.home), plan.model_dump_json(indent=1))
    give_s3_to_mlflow(runtime)
    log = plan.log_of("keeper")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "infra.stack.keeper", str(plan.home), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=plan.home,
            pass_fds=(lock,),
            start_new_session=True,  # it outlives this command and its terminal
        )


def _write_private(path: Path, text: str) -> None:
    """Write aside, then rename; for this user alone, since a URL or a key may be in it."""
    aside = path.with_suffix(".tmp")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    aside.replace(path)


def _wait_until_up(plan: Plan, keeper: subprocess.Popen[bytes] | None) -> None:
    """Follow what the keeper tells; `keeper` is its process when it is ours."""
    from infra.progress import progress_bar
    from infra.stack.keeper import is_kept

    deadline = time.monotonic() + UP_TIMEOUT_S
    shown = 0
    with progress_bar("stack", len(plan.services)) as bar:
        while True:
            ended = None if keeper is None else keeper.poll()
            state = _state(plan.home)  # after that look, so that the last word of an ended keeper is seen
            if state is not None and state.state == "failed":
                raise ConfigError(f"the stack did not start: {state.error}")
            if ended is not None:
                raise ConfigError(f"the keeper ended with exit code {ended}; mend what {plan.log_of('keeper')} says")
            if keeper is None and not is_kept(plan.home):
                raise ConfigError("the stack that was up has ended meanwhile; give `posttrain up` again")
            num_up = sum(service.state == "up" for service in state.services) if state else 0
            bar.advance(num_up - shown)
            shown = num_up
            if state is not None and state.state == "up":
                return
            if time.monotonic() > deadline:
                raise ConfigError(f"the stack is not up after {UP_TIMEOUT_S:.0f} s; see {plan.home}/logs")
            time.sleep(0.2)


def _state(home: Path) -> StackState | None:
    from infra.stack.keeper import StackState, state_path

    try:
        return StackState.model_validate_json(state_path(home).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _show_links(plan: Plan, seconds: float, as_json: bool) -> None:
    links = {"prefect": plan.prefect_url, "mlflow": f"{plan.mlflow_url}/#/experiments?workflowType=machine_learning"}
    if as_json:
        print(json.dumps(links | {"home": str(plan.home), "seconds": round(seconds, 1)}))
        return
    console.print(f"[bold]the stack is up[/] ({seconds:.0f} s)")
    lines = {
        "Prefect": f"{links['prefect']}/deployments     trigger a flow: Deployments → post-train → Run",
        "MLflow": f"{links['mlflow']}     lineage and scores",
        "prefect CLI": f"export PREFECT_API_URL={plan.prefect_url}/api",
        "logs": f"{plan.home}/logs, or `posttrain logs`",
        "end it": "posttrain down",
    }
    for name, text in lines.items():
        console.print(f"  {name:<12} {text}", soft_wrap=True, highlight=False)


@app.command(epilog="Examples:\n\n  posttrain status\n\n  posttrain status --json")
def status(profile: ProfileOption = "local", store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show the services, the pools with their workers, and what runs. Exit code 1 when the stack is not up."""
    from infra.stack.inspection import look, status_table
    from infra.stack.keeper import is_kept
    from infra.stack.plan import make_plan

    plan = make_plan(open_runtime(profile, store))
    state = _state(plan.home)
    has_failed = state is not None and state.state == "failed"  # its keeper is gone, and left the reason
    seen = look(plan, state if has_failed or is_kept(plan.home) else None)
    if as_json:
        print(seen.model_dump_json(indent=1))
    else:
        for table in status_table(seen):
            console.print(table)
        console.print(f"Prefect {plan.prefect_url}    MLflow {plan.mlflow_url}", highlight=False)
    if seen.state != "up":
        raise typer.Exit(1)


ServiceArgument = Annotated[str | None, typer.Argument(help="Which service's log; by default a few lines of each.")]


@app.command(
    epilog="Examples:\n\n  posttrain logs\n\n  posttrain logs prefect --lines 200\n\n  posttrain logs mlflow -f"
)
def logs(
    service: ServiceArgument = None,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    lines: Annotated[int, typer.Option(min=1, help="Lines of each log.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
) -> None:
    """Show the ends of the services' logs."""
    from infra.stack.plan import stack_home

    folder = stack_home(open_runtime(profile, store)) / "logs"
    found = sorted(path for path in folder.glob("*.log") if service is None or service in path.stem)
    if not found:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none; is the stack up?"
        raise ConfigError(f"no log of `{service or 'any service'}` in {folder}; there are: {known}")
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *(str(path) for path in found)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command(epilog="Examples:\n\n  posttrain down\n\n  posttrain down --store FOLDER")
def down(profile: ProfileOption = "local", store: StoreOption = None) -> None:
    """Cancel what runs, then end the services that `up` started, and nothing else."""
    import httpx

    from infra.process import end_process
    from infra.stack.inspection import cancel_active
    from infra.stack.keeper import is_kept
    from infra.stack.plan import make_plan

    plan = make_plan(open_runtime(profile, store))
    state = _state(plan.home)
    if not is_kept(plan.home) or state is None:
        console.print(f"no stack is up in {plan.home}", highlight=False)
        return
    try:
        for name in cancel_active(plan.prefect_url):
            told = f"cancelled flow run {name}; run it again and it goes on where it was"
            errors.print(told, highlight=False, markup=False)
    except httpx.HTTPError as error:  # a server that is ill is one more reason to take the stack down
        errors.print(f"flow runs could not be cancelled: {error}", highlight=False, markup=False)
    if not end_process(state.pid, DOWN_TIMEOUT_S):
        raise ConfigError(f"the keeper (process {state.pid}) still runs after {DOWN_TIMEOUT_S:.0f} s; kill it")
    console.print("[bold]the stack is down[/]; what it made stays in the store", highlight=False)


@app.command(epilog="Examples:\n\n  posttrain doctor\n\n  posttrain doctor --profile h100 --json")
def doctor(
    profile: ProfileOption = "local", store: StoreOption = None, raw: RawOption = None, as_json: JsonOption = False
) -> None:
    """Check versions, ports, sandbox, disk, endpoints, stale runs and locks; each fault comes with its remedy."""
    from infra.stack.doctor import checks_table, examine

    found = examine(open_runtime(profile, store, raw))
    if as_json:
        print(json.dumps([check.model_dump() for check in found], indent=1))
    else:
        console.print(checks_table(found))
    num_faults = sum(check.state == "fault" for check in found)
    if num_faults:
        errors.print(f"{num_faults} fault(s); mend them by the remedies above")
        raise typer.Exit(1)
