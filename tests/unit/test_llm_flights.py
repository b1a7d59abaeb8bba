"""Single flight: equal questions at the same time are paid once, also from two threads and two steps."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infra.llm import EndpointError, LlmSession
from infra.llm_flights import Flights
from tests.unit.scripted_endpoint import Scripted, ask, echo, new_cache, new_client, serve, texts


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.llm_http.FIRST_WAIT_S", 0.01)


def slow(body: dict[str, Any], number: int) -> Scripted:
    return echo(body, number)._replace(delay_s=0.03)


def test_a_key_is_boarded_by_one_until_it_lands() -> None:
    flights: Flights[str] = Flights()
    first = flights.board(["a", "b", "a"])
    second = flights.board(["b", "c"])
    assert (first.mine, set(first.others)) == ({"a", "b"}, set())
    assert (second.mine, set(second.others)) == ({"c"}, {"b"})
    flights.land(["b"], "too long")
    assert second.others["b"].result(0) == "too long"
    assert flights.board(["b"]).mine == {"b"}


def test_threads_that_ask_the_same_pay_once(tmp_path: Path) -> None:
    cache = new_cache(tmp_path)
    with serve(slow) as fake:
        clients = [new_client(cache, fake.url) for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda c: texts(c.complete_all(ask(q, 2) for q in "abcdefgh")), clients))
        assert Counter(body["messages"][0]["content"] for body in fake.bodies) == Counter("abcdefgh")
    assert found == [found[0]] * 4
    assert found[0]["a"] == ["a/100", "a/101"]
    assert sum(client.usage.prompt_tokens for client in clients) == 80
    assert sum(client.usage.cache_hits for client in clients) == 3 * 16


def test_equal_requests_of_one_call_pay_once(tmp_path: Path) -> None:
    with serve(slow) as fake:
        client = new_client(new_cache(tmp_path), fake.url)
        same = [ask("a", 2, seed=1) for _ in range(6)]
        assert [answered.reply.text for answered in client.complete_all(same)].count("a/1") == 6
        assert len(fake.bodies) == 1


def test_sixteen_samples_wait_for_the_eight_that_are_asked(tmp_path: Path) -> None:
    cache = new_cache(tmp_path)
    with serve(slow) as fake:
        with LlmSession(new_client(cache, fake.url)) as session, ThreadPoolExecutor(2) as threads:
            eight = threads.submit(session.ask, ask("a", 8))
            while not fake.bodies:
                time.sleep(0.001)
            sixteen = session.ask(ask("a", 16))
            assert len(eight.result()) == 8
        assert [(body["n"], body["seed"]) for body in fake.bodies] == [(8, 100), (8, 108)]
    assert [reply.text for reply in sixteen] == [f"a/{100 + i}" for i in range(16)]


def test_when_the_asker_leaves_whoever_waited_asks(tmp_path: Path) -> None:
    cache = new_cache(tmp_path)

    def script(body: dict[str, Any], number: int) -> Scripted:
        is_leavers = body["messages"][0]["content"] == "a" and number < 2
        return echo(body, number)._replace(delay_s=3.0 if is_leavers else 0.0)

    with serve(script) as fake:
        leaver = new_client(cache, fake.url).complete_all([ask("z"), ask("a")])
        next(leaver)
        while len(fake.bodies) < 2:
            time.sleep(0.001)
        got: list[dict[str, list[str]]] = []
        waiter = threading.Thread(
            target=lambda: got.append(texts(new_client(cache, fake.url).complete_all([ask("a")])))
        )
        waiter.start()
        time.sleep(0.05)
        leaver.close()  # type: ignore[attr-defined]
        waiter.join(10)
        assert got == [{"a": ["a/100"]}]
        assert len(fake.bodies) == 3


def test_a_refusal_is_shared_and_a_failure_is_tried_by_each(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Scripted:
        status = {"long": 400, "bad": 500}.get(body["messages"][0]["content"])
        return slow(body, number) if status is None else Scripted(status, b"{}", delay_s=0.05)

    with serve(script) as fake:
        client = new_client(new_cache(tmp_path), fake.url)
        answers = list(client.complete_all([ask("ok"), ask("long", seed=1), ask("long", seed=1)]))
        assert [answered.reply.refusal is not None for answered in answers].count(True) == 2
        assert len(fake.bodies) == 2
        with pytest.raises(EndpointError, match="HTTP 500"):
            list(client.complete_all([ask("ok2"), ask("bad", seed=1), ask("bad", seed=1)]))
        assert len(fake.bodies) == 2 + 1 + 6
