"""Real `posttrain sandbox serve` processes on this machine, and programs of known verdict for them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.runtime import child_environment
from tasks.records import Verdict
from tasks.rewards.code_client import RemoteCodeGrader

STARTUP_S = 60.0
TESTS = {"kind": "assert", "asserts": ["assert f(2) == 4", "assert f(10) == 100"]}
# Right, wrong, broken, and without an end: each verdict is its own, whoever gives it.
PROGRAMS = (
    "def f(x): return x * x",
    "def f(x): return x + x",
    "def f(x): return x / 0",
    "def f(x) return x",
    "import sys; sys.exit(0)",
    "def f(x): return sum(x for _ in range(x))",
)


class Judged(NamedTuple):
    """All verdicts in the order of their programs, and how long they took."""

    verdicts: list[Verdict]
    seconds: float

    def said(self) -> list[tuple[str, float | None, str]]:
        """What the verdicts say; not how long each took."""
        return [(verdict.outcome, verdict.score, verdict.detail) for verdict in self.verdicts]


class JudgingHost:
    """A host in a process group of its own."""

    def __init__(self, log: Path, *options: str) -> None:
        self.log = log
        command = [sys.executable, "-m", "flows.cli", "sandbox", "serve", "--port", "0", *options]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=child_environment()
            )
        self.address = self._await_address()

    def _await_address(self) -> str:
        deadline = time.monotonic() + STARTUP_S
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"judging on (http://\S+):", self.log.read_text(encoding="utf-8"))
            if found:
                return found[1]
            time.sleep(0.05)
        self.kill()
        text = self.log.read_text(encoding="utf-8")
        if "secure sandbox not available" in text:
            pytest.skip(text[-300:])
        raise AssertionError(f"the host did not come up: {text[-2000:]}")

    def kill(self) -> None:
        """SIGKILL, all at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def judging_hosts(folder: Path, number: int, *options: str) -> Iterator[list[JudgingHost]]:
    """So many hosts."""
    with ExitStack() as stack:
        hosts: list[JudgingHost] = []
        for index in range(number):
            hosts.append(JudgingHost(folder / f"host-{index}.log", *options))
            stack.callback(hosts[-1].kill)
        yield hosts


def judge_all(grader: RemoteCodeGrader, programs: Sequence[str], num_clients: int, stop: Any = None) -> Judged:
    """Judge all programs with so many clients at a time; `stop` is called once a third is judged."""
    lock, num_judged = threading.Lock(), 0

    def judge(program: str) -> Verdict:
        nonlocal num_judged
        verdict = grader.judge_program(TESTS, program)
        with lock:
            num_judged += 1
            is_time = num_judged == len(programs) // 3
        if is_time and stop is not None:
            stop()
        return verdict

    started = time.monotonic()
    with ThreadPoolExecutor(num_clients) as threads:
        verdicts = list(threads.map(judge, programs))
    return Judged(verdicts, time.monotonic() - started)
