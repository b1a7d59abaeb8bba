"""Real `posttrain sandbox serve` processes, under load, killed, told to end; verdicts are the local grader's."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.sandbox.limits import SandboxError
from infra.sandbox.sandbox import Sandbox
from tasks.records import Outcome
from tasks.rewards.code import CodeConfig, CodeGrader
from tasks.rewards.code_client import RemoteCodeGrader
from tasks.rewards.code_hosts import SandboxHosts
from tests.integration.judging_hosts import PROGRAMS, TESTS, Judged, JudgingHost, judge_all, judging_hosts

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

# Each program is its own text, so that no cache may answer.
MANY = [f"{PROGRAMS[number % len(PROGRAMS)]}\n# {number}" for number in range(192)]


@pytest.fixture(scope="module")
def expected() -> list[tuple[str, float | None, str]]:
    """What the local grader says of each kind of program."""
    sandbox = Sandbox()
    try:
        _ = sandbox.level
    except SandboxError as error:
        pytest.skip(str(error))
    grader = CodeGrader(CodeConfig(), sandbox)
    said = Judged([grader.judge_program(TESTS, program) for program in PROGRAMS], 0.0).said()
    sandbox.close()
    return [said[number % len(PROGRAMS)] for number in range(len(MANY))]


def grader_of(hosts: list[JudgingHost], **options: Any) -> RemoteCodeGrader:
    return RemoteCodeGrader(CodeConfig(), SandboxHosts(addresses=tuple(host.address for host in hosts), **options))


def test_many_clients_lose_nothing_and_every_verdict_is_the_local_one(
    tmp_path: Path, expected: list[tuple[str, float | None, str]]
) -> None:
    with judging_hosts(tmp_path, 2, "--slots", "2") as hosts, grader_of(hosts) as grader:
        few = judge_all(grader, MANY, 4)
        many = judge_all(grader, MANY, 64)
        metrics = [httpx.get(f"{host.address}/metrics").text for host in hosts]
    assert few.said() == expected
    assert many.said() == expected
    counts = [int(text.split("posttrain_sandbox_seconds_count ")[1].split()[0]) for text in metrics]
    assert sum(counts) == 2 * len(MANY)
    assert min(counts) > len(MANY) / 2, "both hosts had a fair part"
    print(f"4 clients: {len(MANY) / few.seconds:.1f}/s; 64 clients: {len(MANY) / many.seconds:.1f}/s")


def test_a_host_killed_midway_loses_nothing(tmp_path: Path, expected: list[tuple[str, float | None, str]]) -> None:
    with judging_hosts(tmp_path, 2, "--slots", "2") as hosts, grader_of(hosts) as grader:
        judged = judge_all(grader, MANY, 64, stop=hosts[0].kill)
        assert hosts[0].process.returncode == -signal.SIGKILL
    assert judged.said() == expected


def test_a_short_queue_pushes_back_and_loses_nothing(
    tmp_path: Path, expected: list[tuple[str, float | None, str]]
) -> None:
    with judging_hosts(tmp_path, 2, "--slots", "1", "--queue", "4") as hosts, grader_of(hosts) as grader:
        judged = judge_all(grader, MANY[:96], 32)
        metrics = "".join(httpx.get(f"{host.address}/metrics").text for host in hosts)
    assert judged.said() == expected[:96]
    assert 'requests_total{status="429"}' in metrics


def test_all_hosts_dead_is_a_fault_and_one_that_returns_goes_on(tmp_path: Path) -> None:
    with judging_hosts(tmp_path, 1) as (host,), grader_of([host], dead_for_s=1.0, probe_s=0.1) as grader:
        assert grader.judge_program(TESTS, PROGRAMS[0]).outcome is Outcome.PASSED
        host.kill()
        found = grader.judge_program(TESTS, PROGRAMS[0])
        assert (found.outcome, found.score) == (Outcome.SANDBOX_ERROR, None)
        assert host.address in found.detail
        port = host.address.rsplit(":", 1)[1]
        again = JudgingHost(tmp_path / "again.log", "--port", port)
        try:
            deadline = time.monotonic() + 30
            while grader.judge_program(TESTS, PROGRAMS[0]).outcome is not Outcome.PASSED:
                assert time.monotonic() < deadline
        finally:
            again.kill()


def test_sigterm_finishes_what_it_has_and_ends(tmp_path: Path) -> None:
    slow = "import time\ndef f(x):\n    time.sleep(0.5)\n    return x * x"
    asked = {"tests": TESTS, "program": slow}
    with judging_hosts(tmp_path, 1, "--slots", "1") as (host,), httpx.Client(base_url=host.address, timeout=60) as late:
        assert late.get("/health").json()["state"] == "good"
        with ThreadPoolExecutor(3) as threads:
            taken = [threads.submit(httpx.post, f"{host.address}/v1/judge", json=asked, timeout=60) for _ in range(3)]
            while late.get("/health").json()["busy"] + late.get("/health").json()["queue"] < 3:
                time.sleep(0.02)
            host.process.send_signal(signal.SIGTERM)
            while late.get("/health").status_code != 503:
                time.sleep(0.02)
            assert late.post("/v1/judge", json=asked).status_code == 503
            assert [reply.result().json()["outcome"] for reply in taken] == ["passed"] * 3
        assert host.process.wait(30) == 0


def test_sigterm_does_not_wait_for_a_slow_client(tmp_path: Path) -> None:
    with judging_hosts(tmp_path, 1) as (host,):
        port = int(host.address.rsplit(":", 1)[1])
        with (
            socket.create_connection(("127.0.0.1", port)) as slow,
            socket.create_connection(("127.0.0.1", port)) as gone,
        ):
            for connection in (slow, gone):
                connection.sendall(b"POST /v1/judge HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{")
            while httpx.get(f"{host.address}/health").json()["queue"] < 2:
                time.sleep(0.02)
            gone.close()
            started = time.monotonic()
            host.process.terminate()
            assert host.process.wait(30) == 0
            assert time.monotonic() - started < 10
        assert "Traceback" not in host.log.read_text(encoding="utf-8")


def test_a_frozen_host_gives_its_programs_back(tmp_path: Path, expected: list[tuple[str, float | None, str]]) -> None:
    with judging_hosts(tmp_path, 2, "--slots", "1") as hosts, grader_of(hosts, watch_s=1.0) as grader:

        def freeze() -> None:
            os.kill(hosts[0].process.pid, signal.SIGSTOP)

        judged = judge_all(grader, MANY[:48], 16, stop=freeze)
    assert judged.said() == expected[:48]
    assert judged.seconds < 120


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    asked = {"tests": TESTS, "program": "import time\ntime.sleep(5)\ndef f(x): return x * x"}
    with judging_hosts(tmp_path, 1) as (host,):
        waiting = threading.Thread(target=_post_in_vain, args=(host.address, asked))
        waiting.start()
        while httpx.get(f"{host.address}/health").json()["busy"] < 1:
            time.sleep(0.02)
        host.process.terminate()
        while httpx.get(f"{host.address}/health").status_code != 503:
            time.sleep(0.02)
        started = time.monotonic()
        host.process.terminate()
        host.process.wait(30)
        assert time.monotonic() - started < 3
        waiting.join()


def _post_in_vain(address: str, asked: dict[str, object]) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{address}/v1/judge", json=asked, timeout=60)
