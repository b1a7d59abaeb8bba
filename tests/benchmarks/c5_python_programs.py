"""C5: 500 Python programs with five tests on standard input each, against one interpreter started for each test.

Both sides run as many at a time as this machine has cores. The peer has no jail: what ours costs is in its time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import NamedTuple, TypeVar

from infra.sandbox.limits import Ending, Language, Limits, Program
from infra.sandbox.sandbox import Sandbox
from tests.benchmarks.__main__ import Contest

NUM_PROGRAMS = 500
TESTS_PER_PROGRAM = 5
LIMITS = Limits()
HEAD = (
    "import bisect, collections, functools, heapq, itertools, math, operator, random, re, string, sys\n"
    "from typing import *\n"
)
BODIES = (
    "print(sum(x for x in nums if x % {k}))",
    "print(*sorted(nums, key=lambda x: (x % {k}, x))[:5])",
    "c = collections.Counter(x % {k} for x in nums)\nprint(sorted(c.items()))",
    "h = []\nfor x in nums: heapq.heappush(h, (x * {k}) % 1009)\nprint(heapq.nsmallest(3, h))",
    "@functools.cache\ndef f(n): return n if n < 2 else (f(n - 1) + f(n - 2)) % {k}\nprint([f(x % 90) for x in nums])",
    "print(functools.reduce(math.gcd, nums, {k}), max(itertools.accumulate(nums)))",
)

Row = TypeVar("Row")


class Case(NamedTuple):
    """One program with one input."""

    program: str
    stdin: str


def cases() -> list[Case]:
    """Programs as contests have them: the usual imports, one line of numbers."""
    found = []
    for number in range(NUM_PROGRAMS):
        rng = Random(number)
        body = BODIES[number % len(BODIES)].format(k=rng.randrange(3, 999))
        source = f"{HEAD}nums = list(map(int, input().split()))\n{body}\n"
        for _ in range(TESTS_PER_PROGRAM):
            found.append(Case(source, " ".join(str(rng.randrange(10**6)) for _ in range(200)) + "\n"))
    return found


def contest() -> Contest:
    """The contest; both sides give what the programs print."""
    sandbox, rows = Sandbox(), cases()

    def jailed(case: Case) -> str:
        done = sandbox.run(Program(case.program, Language.PYTHON), case.stdin, LIMITS)
        assert done.outcome is Ending.FINISHED, done
        return done.stdout

    def plain(case: Case) -> str:
        command = [sys.executable, "-c", case.program]
        return subprocess.run(command, input=case.stdin, capture_output=True, text=True, check=True).stdout

    return Contest(
        "C5 Python programs, five tests each",
        "tests",
        len(rows),
        lambda: on_all_cores(jailed, rows),
        {"one subprocess a test, no jail": lambda: on_all_cores(plain, rows)},
        lambda: on_all_cores(lambda case: sandbox.run(Program("", Language.PYTHON), "", LIMITS).stdout, rows),
        "empty programs in our jails",
        runs=3,
    )


def on_all_cores(work: Callable[[Row], str], rows: list[Row]) -> list[str]:
    """What `work` gives for each row, in order."""
    # Both sides wait for the kernel at starts and ends; twice the CPUs keeps these busy.
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as threads:
        return list(threads.map(work, rows))
