"""Killable processes for math_verify: the parent holds the clock, and a process that misses it is killed and replaced.

Plain programs with a pipe each rather than `multiprocessing`: its children would import the parent's main module, which
may be a whole flow.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from infra.runtime import child_environment
from tasks.records import Outcome
from tasks.rewards.math_parts import Ruling

WORKER = Path(__file__).with_name("math_worker.py")
_START_S = 120.0  # importing sympy takes a second; on a machine that is very busy, many
_CHUNK = 65_536
_ATTEMPTS = 2  # a process may have died before this pair came; a pair that kills two is to blame itself
METHOD = "math_verify"


class Compared(NamedTuple):
    """A ruling, and the milliseconds that it took a process: no queueing, no start. `is_spent`: it cost the process."""

    ruling: Ruling
    ms: float
    is_spent: bool = False


class PoolError(RuntimeError):
    """The pool cannot work at all."""


class _Worker:
    """One process, with the number of jobs it has done."""

    def __init__(self, memory_bytes: int) -> None:
        # -P: the folder of the worker holds a `math.py`, which must not stand for the standard library's.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,
            bufsize=0,
        )
        self.num_jobs = 0
        self._rest = b""
        if self._read_line(time.monotonic() + _START_S) is None:
            self.kill()
            raise PoolError("a math process did not start; is math-verify installed? (`pip install posttrain[stack]`)")

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, job: dict[str, object], timeout_s: float) -> bytes | None:
        """The reply to a job; None when time is over.

        Raises:
            BrokenPipeError: the process died.
        """
        self.num_jobs += 1
        assert self._process.stdin is not None
        deadline = time.monotonic() + timeout_s
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        return self._read_line(deadline)

    def _read_line(self, deadline: float) -> bytes | None:
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return None
            content = os.read(self._process.stdout.fileno(), _CHUNK)
            if not content:
                raise BrokenPipeError("the process died")
            self._rest += content
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


class MathPool:
    """Compares answers with math_verify in its own processes. Safe from threads: a call waits for a free process.

    Processes start at their first job. The clock of a job starts when a process takes it, not while it queues.

    Args:
        num_processes: how many run at a time.
        timeout_s: for one pair.
        memory_bytes: address space of a process.
        recycle_after: jobs after which a process is replaced, since its caches grow.
    """

    def __init__(self, num_processes: int, timeout_s: float, memory_bytes: int, recycle_after: int) -> None:
        self.num_processes = num_processes
        self._timeout_s, self._memory_bytes, self._recycle_after = timeout_s, memory_bytes, recycle_after
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(num_processes):
            self._slots.put(None)
        self._is_closed = False
        self._closing = threading.Lock()
        self._ids = itertools.count()

    def __enter__(self) -> MathPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def compare(self, gold: str, answer: str, min_digits: int | None = None) -> Compared:
        """What math_verify says; TIME_OUT and CRASH are about the pool, never about the answer.

        `min_digits`: from how many significant digits a decimal may round the exact value; None: never.

        Raises:
            PoolError: no process starts, or the pool is closed.
        """
        job: dict[str, object] = {"gold": gold, "answer": answer, "min_digits": min_digits}
        worker = self._slots.get()
        try:
            if self._is_closed:
                raise PoolError("the pool is closed; compare inside its `with` block")
            for _ in range(_ATTEMPTS):
                worker = worker or _Worker(self._memory_bytes)
                compared = self._ask(worker, job)
                if compared.is_spent or worker.num_jobs >= self._recycle_after:
                    worker.kill()
                    worker = None
                if compared.ruling.outcome is not Outcome.CRASH or not compared.is_spent:
                    break
            return compared
        except BaseException:
            # Interrupted between a job and its reply: the next job must not get this one's.
            if worker is not None:
                worker.kill()
                worker = None
            raise
        finally:
            self._slots.put(worker)

    def _ask(self, worker: _Worker, job: dict[str, object]) -> Compared:
        job = job | {"id": next(self._ids), "orphan_s": int(self._timeout_s) + 5}
        started = time.perf_counter()
        try:
            reply = worker.ask(job, self._timeout_s)
            content = None if reply is None else json.loads(reply)
        except (OSError, ValueError) as error:
            return Compared(Ruling(Outcome.CRASH, METHOD, f"math process died: {error}"), 0.0, is_spent=True)
        ms = (time.perf_counter() - started) * 1000
        if content is None:
            return Compared(Ruling(Outcome.TIME_OUT, METHOD, f"no answer in {self._timeout_s} s"), ms, is_spent=True)
        if content["id"] != job["id"]:
            return Compared(Ruling(Outcome.CRASH, METHOD, "a reply to another pair"), ms, is_spent=True)
        method, detail = content.get("method", METHOD), content.get("detail", "")
        return Compared(Ruling(Outcome(content["outcome"]), method, detail), ms)

    def close(self) -> None:
        """Wait for running jobs and end all processes."""
        with self._closing:
            self._is_closed = True
            workers = [self._slots.get() for _ in range(self.num_processes)]
            for worker in workers:
                if worker is not None:
                    worker.kill()
                self._slots.put(None)
