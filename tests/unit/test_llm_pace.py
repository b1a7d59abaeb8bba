"""How fast an endpoint is asked: limits that hold in any minute, concurrency that follows load, what headers say."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.llm_gate import Gate
from infra.llm_headers import pause_s, retry_after_s, span_s
from infra.llm_pace import MINUTE_S, Limits, Load, Pace
from tests.unit.scripted_endpoint import Scripted, ask, echo, new_cache, new_client, serve, texts

Sent = tuple[float, int]


@given(
    requests=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 120)), max_size=60),
    per_minute=st.integers(1, 5),
    tokens_per_minute=st.integers(50, 300),
)
def test_in_any_minute_the_rates_hold(
    requests: list[tuple[float, int]], per_minute: int, tokens_per_minute: int
) -> None:
    pace, now, sent = Pace(Limits(1000, per_minute, tokens_per_minute)), 0.0, list[Sent]()
    for gap_s, tokens in requests:
        now += gap_s
        while (wait_s := pace.wait_s(now, tokens)) > 0:
            assert math.isfinite(wait_s)
            now = math.nextafter(now + wait_s, math.inf)  # the smallest step that the clock can make
        pace.start(now, tokens)
        sent.append((now, tokens))
    for start, _ in sent:
        minute = [tokens for at, tokens in sent if start <= at < start + MINUTE_S - 1e-9]
        assert len(minute) <= per_minute
        assert sum(minute) <= tokens_per_minute or len(minute) == 1  # one that is too large goes alone


def test_tokens_that_were_not_used_are_given_back() -> None:
    pace = Pace(Limits(10, tokens_per_minute=100))
    passage = pace.start(0.0, 90)
    assert pace.wait_s(1.0, 20) == 59.0
    pace.end(passage, 2.0, Load.LIGHT, 30)
    assert pace.wait_s(2.0, 70) == 0.0
    assert pace.wait_s(2.0, 71) == 58.0


def test_concurrency_halves_once_a_round_and_rises_by_one_a_round() -> None:
    pace = Pace(Limits(16))
    started = [pace.start(1.0, 0) for _ in range(16)]
    assert pace.wait_s(1.0, 0) == math.inf
    for passage in started:
        pace.end(passage, 2.0, Load.OVERLOADED, 0)
    assert pace.window == 8.0  # sixteen time-outs of one overload are one sign
    later = [pace.start(3.0, 0) for _ in range(8)]
    pace.end(later[0], 4.0, Load.OVERLOADED, 0)
    assert pace.window == 4.0
    pace = Pace(Limits(16))
    pace.window = 4.0
    for _ in range(4):
        pace.end(pace.start(5.0, 0), 6.0, Load.LIGHT, 0)
    assert 4.8 < pace.window < 5.1
    pace.end(pace.start(7.0, 0), 8.0, Load.SLOW, 0)
    assert 3.8 < pace.window < 4.1
    before = pace.window
    pace.end(pace.start(9.0, 0), 9.5, Load.UNKNOWN, 0)
    assert pace.window == before


@given(st.lists(st.sampled_from(list(Load)), max_size=200), st.integers(1, 40))
def test_the_window_stays_between_one_and_the_most(loads: list[Load], most: int) -> None:
    pace = Pace(Limits(most))
    for number, load in enumerate(loads):
        assert pace.wait_s(float(number), 0) == 0
        pace.end(pace.start(float(number), 0), number + 0.5, load, 0)
        assert 1 <= pace.window <= most
    assert pace.in_flight == 0


def test_a_pause_holds_all_and_the_longest_counts() -> None:
    pace = Pace(Limits(4))
    pace.pause(10.0)
    pace.pause(5.0)
    assert pace.wait_s(4.0, 0) == 6.0
    assert pace.wait_s(10.0, 0) == 0.0


def test_two_roles_at_one_address_have_the_lower_rates() -> None:
    pace = Pace(Limits(4, 60, None))
    pace.tighten(Limits(8, 30, 1000))
    assert pace.limits == Limits(8, 30, 1000)
    assert pace.window == 8.0
    pace.tighten(Limits(2, None, 5000))
    assert pace.limits == Limits(8, 30, 1000)


# The gate


def test_a_gate_holds_its_limit_over_threads_and_loses_nobody() -> None:
    gate, inside, most, passed = Gate(Limits(3)), 0, 0, 0
    lock = threading.Lock()

    async def go(number: int) -> None:
        nonlocal inside, most, passed
        passage = await gate.enter(0)
        with lock:
            inside += 1
            most = max(most, inside)
        await asyncio.sleep(0.001)
        with lock:
            inside -= 1
            passed += 1
        gate.leave(passage, Load.UNKNOWN, 0)

    async def crowd() -> None:
        tasks = [asyncio.create_task(go(number)) for number in range(40)]
        await asyncio.sleep(0.004)
        for task in tasks[::10]:
            task.cancel()  # some go away while they wait
        await asyncio.gather(*tasks, return_exceptions=True)

    started = time.monotonic()
    threads = [threading.Thread(target=lambda: asyncio.run(crowd())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 3
    assert passed >= 3 * 36
    assert time.monotonic() - started < 20


# Headers


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9", "retry-after-ms": "120"}, 0.12),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2020 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_s(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1.0), ("6m0s", 360.0), ("20ms", 0.02), ("1h2m3s", 3723.0), ("2", 2.0), ("s", None)]
)
def test_a_span_is_read(text: str, seconds: float | None) -> None:
    assert span_s(text) == seconds


def limited(what: str, left: int, reset: str, whole: int | None = None) -> dict[str, str]:
    headers = {f"x-ratelimit-remaining-{what}": str(left), f"x-ratelimit-reset-{what}": reset}
    return headers if whole is None else headers | {f"x-ratelimit-limit-{what}": str(whole)}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (limited("requests", 1, "60s"), 0.0),
        (limited("requests", 0, "60s"), 60.0),
        (limited("requests", 0, "60s", 60), 1.0),  # one of sixty is back after a second
        (limited("tokens", 5000, "6m0s", 10_000), 0.0),
        (limited("tokens", 0, "60s", 10_000), 6.0),
        (limited("tokens", 0, "60s", 500), 60.0),  # more than there ever is
        (limited("tokens", 0, "later", 500), 0.0),
    ],
)
def test_an_empty_allowance_is_waited_for(headers: dict[str, str], seconds: float) -> None:
    assert pause_s(headers, 1000) == pytest.approx(seconds)


# A client


def test_after_retry_after_nobody_asks_until_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.llm_http.FIRST_WAIT_S", 0.01)
    asked_at: list[float] = []

    def script(body: dict[str, Any], number: int) -> Scripted:
        asked_at.append(time.monotonic())
        return Scripted(429, b"", {"Retry-After": "0.6"}) if number == 1 else echo(body, number)

    with serve(script) as fake:
        client = new_client(new_cache(tmp_path), fake.url, max_concurrency=1)
        assert len(texts(client.complete_all(ask(q) for q in "abcdef"))) == 6
        assert len(fake.bodies) == 7
    gaps = [after - before for before, after in pairwise(asked_at)]
    assert gaps[1] >= 0.59
    with serve(lambda *_: Scripted(429, b"", {"Retry-After": "3600"})) as fake:
        impatient = new_client(new_cache(tmp_path / "b"), fake.url, max_attempts=1, longest_wait_s=0.0)
        with pytest.raises(RuntimeError, match="gives no reply"):
            list(impatient.complete_all([ask("a")]))


def test_steps_at_one_endpoint_share_its_concurrency(tmp_path: Path) -> None:
    cache = new_cache(tmp_path)
    with serve(lambda body, number: echo(body, number)._replace(delay_s=0.01)) as fake:
        clients = [new_client(cache, fake.url, role, max_concurrency=3) for role in ("teacher", "judge")]
        threads = [
            threading.Thread(target=lambda c=c: list(c.complete_all(ask(f"{c.role}{i}") for i in range(12))))
            for c in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(fake.bodies) == 24
        assert fake.most_in_flight == 3
