"""S1: `posttrain up` until both pages answer, beside the two servers started by hand without all the rest.

Each run brings a stack up and down again in a fresh folder; what the stack holds in memory when idle is told once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from infra.process import ChildProcess, free_port
from infra.runtime import child_environment
from infra.stack.keeper import answers
from tests.benchmarks.__main__ import Contest
from tests.integration.cli import descendants_named, posttrain
from tests.integration.stack import profile_text

MIB = 1024 * 1024


def contest() -> Contest:
    """The contest; both sides give True once two pages answer."""
    tell_memory()
    return Contest(
        "S1 stack up",
        "stacks",
        1,
        up_and_down,
        {},
        servers_by_hand,
        "Prefect and MLflow alone, started by hand",
        runs=3,
    )


def up_and_down() -> bool:
    """A whole stack in a fresh folder: up, both pages, down."""
    with tempfile.TemporaryDirectory() as name:
        profile = Path(name) / "profile.toml"
        profile.write_text(profile_text(Path(name), {}), encoding="utf-8")
        up = posttrain("up", "--profile", str(profile), "--json")
        down = posttrain("down", "--profile", str(profile))
        return up.code == down.code == 0


def servers_by_hand() -> bool:
    """What no stack can be quicker than: its two servers on empty databases."""
    with tempfile.TemporaryDirectory() as name:
        home, ports = Path(name), (free_port(), free_port())
        prefect = [sys.executable, "-m", "prefect", "server", "start", "--port", str(ports[0])]
        mlflow = [sys.executable, "-m", "mlflow", "server", "--port", str(ports[1]), "--workers", "1"]
        mlflow += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", f"{home}/artifacts"]
        env = child_environment(PREFECT_HOME=str(home), MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
        pages = (f"http://127.0.0.1:{ports[0]}/api/health", f"http://127.0.0.1:{ports[1]}/health")
        with (
            ChildProcess(prefect, name="prefect", log=home / "prefect.log", env=env),
            ChildProcess(mlflow, name="mlflow", log=home / "mlflow.log", env=env),
        ):
            while not all(answers(page) for page in pages):
                time.sleep(0.1)
        return True


def tell_memory() -> None:
    """Proportional set size of an idle stack, half a minute after it came up."""
    home = Path(tempfile.mkdtemp())
    profile = home / "profile.toml"
    profile.write_text(profile_text(home, {}), encoding="utf-8")
    try:
        posttrain("up", "--profile", str(profile))
        time.sleep(30.0)
        total = sum(_proportional_bytes(process) for process in _tree(descendants_named(str(home))))
        print(f"idle stack: {total / MIB:,.0f} MiB in memory, shared pages counted once")
    finally:
        posttrain("down", "--profile", str(profile))
        shutil.rmtree(home)


def _tree(roots: list[int]) -> set[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in listed.splitlines()}
    found = set(roots)
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _proportional_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0  # it has ended
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
