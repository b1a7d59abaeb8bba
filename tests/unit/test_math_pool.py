"""The pool's clock and its replacements, with a scripted worker; and a nested power against the real one."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.records import Outcome
from tasks.rewards.math_pool import MathPool, PoolError

# Answers by the gold's text, and tells its process id in the detail.
SCRIPT = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    gold = job["gold"]
    if gold == "hang":
        while True: pass
    if gold == "die": os._exit(1)
    if gold == "slow": time.sleep(0.3)
    if gold == "garble": print("not json", flush=True); continue
    if gold == "stale": job["id"] -= 1
    outcome = "crash" if gold == "odd" else "equal"
    print(json.dumps({"outcome": outcome, "detail": str(os.getpid()), "id": job["id"]}), flush=True)
"""


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MathPool]:
    worker = tmp_path / "worker.py"
    worker.write_text(SCRIPT)
    monkeypatch.setattr("tasks.rewards.math_pool.WORKER", worker)
    with MathPool(num_processes=2, timeout_s=1.0, memory_bytes=2**31, recycle_after=3) as pool:
        yield pool


def test_time_out_kills_one_process_and_the_pool_lives_on(pool: MathPool) -> None:
    before = pool.compare("fine", "").ruling.detail
    compared = pool.compare("hang", "")
    assert compared.ruling.outcome is Outcome.TIME_OUT
    assert compared.ms >= 1000
    after = pool.compare("fine", "").ruling
    assert (after.outcome, after.detail != before) == (Outcome.EQUAL, True)


def test_death_is_a_crash_and_an_exception_costs_no_process(pool: MathPool) -> None:
    assert pool.compare("die", "").ruling.outcome is Outcome.CRASH
    first = pool.compare("fine", "").ruling.detail
    assert pool.compare("odd", "").ruling.outcome is Outcome.CRASH
    assert pool.compare("fine", "").ruling.detail == first


def test_process_that_died_idle_harms_no_pair(pool: MathPool) -> None:
    import os
    import signal

    os.kill(int(pool.compare("fine", "").ruling.detail), signal.SIGKILL)
    assert pool.compare("fine", "").ruling.outcome is Outcome.EQUAL


@pytest.mark.parametrize("gold", ["garble", "stale"])
def test_reply_that_is_none_of_this_pair_is_a_crash(pool: MathPool, gold: str) -> None:
    assert pool.compare(gold, "").ruling.outcome is Outcome.CRASH
    assert pool.compare("fine", "").ruling.outcome is Outcome.EQUAL


def test_interrupted_wait_leaves_no_reply_for_the_next_pair(pool: MathPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    first = pool.compare("fine", "").ruling.detail
    with monkeypatch.context() as patched:
        patched.setattr("tasks.rewards.math_pool._Worker._read_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.compare("slow", "")
    after = pool.compare("fine", "").ruling
    assert (after.outcome, after.detail != first) == (Outcome.EQUAL, True)


def test_may_be_closed_from_two_threads(pool: MathPool) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pool.close(), range(4)))


def test_processes_are_replaced_after_their_share(pool: MathPool) -> None:
    pids = [pool.compare("fine", "").ruling.detail for _ in range(6)]
    assert len(set(pids[:3])) == len(set(pids[3:])) == 1
    assert pids[0] != pids[3]


def test_queueing_is_not_timed(pool: MathPool) -> None:
    # 8 jobs of 0.3 s on 2 processes: the last waits 0.9 s and then takes 0.3, within the 1 s of the clock.
    with ThreadPoolExecutor(8) as threads:
        compared = list(threads.map(lambda _: pool.compare("slow", ""), range(8)))
    assert {c.ruling.outcome for c in compared} == {Outcome.EQUAL}
    assert all(c.ms < 1000 for c in compared)


def test_works_from_an_event_loop(pool: MathPool) -> None:
    async def all_of_them() -> list[Outcome]:
        found = await asyncio.gather(*(asyncio.to_thread(pool.compare, "fine", "") for _ in range(5)))
        return [compared.ruling.outcome for compared in found]

    assert asyncio.run(all_of_them()) == [Outcome.EQUAL] * 5


def test_threads_that_end_take_no_process_along(pool: MathPool) -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(pool.compare("fine", "").ruling.detail))
    thread.start()
    thread.join()
    assert pool.compare("fine", "").ruling.detail == found[0]


def test_closed_pool_refuses(pool: MathPool) -> None:
    pool.close()
    with pytest.raises(PoolError, match="closed"):
        pool.compare("fine", "")


def test_nested_power_is_killed_by_the_clock() -> None:
    with MathPool(num_processes=1, timeout_s=2.0, memory_bytes=2**31, recycle_after=100) as pool:
        assert pool.compare("x+1", "1+x").ruling.outcome is Outcome.EQUAL  # the start is not charged
        started = time.monotonic()
        # Straight to the pool: the guard before it would refuse.
        outcome = pool.compare("7", "9^{9^{9^{9}}}").ruling.outcome
        assert outcome in {Outcome.TIME_OUT, Outcome.CRASH}
        assert time.monotonic() - started < 20
        assert pool.compare("x+1", "1+x").ruling.outcome is Outcome.EQUAL
