"""Runs the command line as a person does: its own process group, so that a test can kill all of it at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POSTTRAIN = [sys.executable, "-m", "flows.cli"]


@dataclass(frozen=True)
class Ended:
    """A finished command."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def report(self) -> dict[str, Any]:
        """The JSON report of `run --json`."""
        assert self.code == 0, self.stderr[-4000:]
        report: dict[str, Any] = json.loads(self.stdout)
        return report


def posttrain(*arguments: str, timeout_s: float = 1500.0, cwd: Path | None = None) -> Ended:
    """Run a command to its end."""
    started = time.monotonic()
    done = subprocess.run(
        [*POSTTRAIN, *arguments], capture_output=True, text=True, timeout=timeout_s, cwd=cwd, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


def kill_when(is_time: Callable[[], bool], arguments: Sequence[str], log: Path, timeout_s: float = 600.0) -> bool:
    """Start a command and SIGKILL its whole process group once `is_time()`; False when it ended before."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*POSTTRAIN, *arguments], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + timeout_s
    while process.poll() is None:
        if is_time():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        assert time.monotonic() < deadline, f"not killed in {timeout_s} s: {log.read_text()[-2000:]}"
        time.sleep(0.05)
    return False


def descendants_named(marker: str) -> list[int]:
    """Processes whose command line or environment holds `marker`, such as a store's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker in (entry / "cmdline").read_bytes().decode(errors="replace"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
