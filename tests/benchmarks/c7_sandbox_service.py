"""C7: programs through two judging hosts, asked by 64 clients, beside 4 clients and beside the grader without HTTP.

Before that, once: 64 clients while one of the two hosts is killed; every verdict has to be there, and the same.
"""

from __future__ import annotations

import atexit
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from infra.sandbox.sandbox import Sandbox
from tasks.rewards.code import CodeConfig, CodeGrader
from tasks.rewards.code_client import RemoteCodeGrader
from tasks.rewards.code_hosts import SandboxHosts
from tests.benchmarks.__main__ import Contest
from tests.integration.judging_hosts import PROGRAMS, TESTS, Judged, JudgingHost, judge_all, judging_hosts

NUM_PROGRAMS = 240
SLOTS = 2
SOURCES = [f"{PROGRAMS[number % len(PROGRAMS)]}\n# {number}" for number in range(NUM_PROGRAMS)]


def contest() -> Contest:
    """The contest; all sides give what the verdicts say."""
    open_ = ExitStack()
    atexit.register(open_.close)
    folder = Path(open_.enter_context(tempfile.TemporaryDirectory()))
    sandbox = Sandbox()
    open_.callback(sandbox.close)
    tell_killed(folder, locally(sandbox))
    hosts = open_.enter_context(judging_hosts(folder, 2, "--slots", str(SLOTS)))
    grader = open_.enter_context(_grader_of(hosts))
    return Contest(
        "C7 sandbox service, 64 clients",
        "programs",
        NUM_PROGRAMS,
        lambda: judge_all(grader, SOURCES, 64).said(),
        {"4 clients": lambda: judge_all(grader, SOURCES, 4).said()},
        lambda: locally(sandbox),
        f"the grader itself, {2 * SLOTS} threads, no HTTP",
        runs=3,
    )


def locally(sandbox: Sandbox) -> object:
    """What no service can be quicker than: the grader in this process."""
    grader = CodeGrader(CodeConfig(), sandbox)
    with ThreadPoolExecutor(2 * SLOTS) as threads:
        return Judged(list(threads.map(lambda source: grader.judge_program(TESTS, source), SOURCES)), 0.0).said()


def tell_killed(folder: Path, expected: object) -> None:
    """One of two hosts is killed when a third is judged."""
    with judging_hosts(folder, 2, "--slots", str(SLOTS)) as hosts, _grader_of(hosts) as grader:
        judged = judge_all(grader, SOURCES, 64, stop=hosts[0].kill)
    assert judged.said() == expected, "a host's death lost or changed a verdict"
    rate = NUM_PROGRAMS / judged.seconds
    print(f"one of two hosts killed midway: {NUM_PROGRAMS} of {NUM_PROGRAMS} verdicts, {rate:.0f} programs/s in all")


def _grader_of(hosts: list[JudgingHost]) -> RemoteCodeGrader:
    return RemoteCodeGrader(CodeConfig(), SandboxHosts(addresses=tuple(host.address for host in hosts)))
