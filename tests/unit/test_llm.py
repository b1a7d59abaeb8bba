"""The client of language models against a scripted endpoint on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.chat import ChatRequest, Sampling, reply_of, split_completion
from infra.config import ConfigError
from infra.llm import LlmClient, LlmSession
from infra.llm_http import Address, EndpointError, backoff_s, request_body
from infra.row_cache import RowCache
from infra.runtime import Endpoint
from infra.store import Store
from tests.unit.scripted_endpoint import Scripted, ask, completion, echo, serve, texts


@pytest.fixture
def client_of(tmp_path: Path) -> Iterator[Callable[..., LlmClient]]:
    """Makes clients on one cache folder; each has read it anew, as another process would."""
    caches: list[RowCache] = []

    def make(url: str, model: str = "m", **endpoint: Any) -> LlmClient:
        caches.append(RowCache(Store(str(tmp_path / "store"), tmp_path / "local"), "llm", tmp_path))
        endpoint = {"max_attempts": 3, "max_concurrency": 4} | endpoint
        return LlmClient("teacher", model, Endpoint(base_url=url, **endpoint), caches[-1])

    yield make
    for cache in caches:
        cache.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.llm_http.FIRST_WAIT_S", 0.01)


def test_every_sample_of_every_request_arrives_and_is_counted(client_of: Callable[..., LlmClient]) -> None:
    with serve(echo) as fake:
        client = client_of(fake.url, usd_per_million_prompt_tokens=2.0, usd_per_million_completion_tokens=50.0)
        found = texts(client.complete_all(ask(q, 3) for q in "abcdefgh"))
    assert found == {q: [f"{q}/100", f"{q}/101", f"{q}/102"] for q in "abcdefgh"}
    assert len(fake.bodies) == 8
    assert fake.most_in_flight <= 4
    assert client.usage.prompt_tokens == 80
    assert client.usage.completion_tokens == 32
    assert client.usage.usd == pytest.approx((80 * 2 + 32 * 50) / 1e6)


def test_a_second_run_asks_for_nothing(client_of: Callable[..., LlmClient]) -> None:
    with serve(echo) as fake:
        first = texts(client_of(fake.url).complete_all([ask("a", 2), ask("b", 2)]))
    dead = client_of(fake.url)  # the endpoint is gone
    answers = list(dead.complete_all([ask("a", 2), ask("b", 2)]))
    assert texts(iter(answers)) == first
    assert all(reply.is_cached for _, reply in answers)
    assert dead.usage.cache_hits == 4
    assert dead.usage.prompt_tokens == 0


def test_sixteen_samples_reuse_eight_and_equal_sixteen_at_once(client_of: Callable[..., LlmClient]) -> None:
    with serve(echo) as fake:
        client = client_of(fake.url)
        list(client.complete_all([ask("a", 8)]))
        found = texts(client_of(fake.url).complete_all([ask("a", 16)]))
        other_model = texts(client_of(fake.url, model="other").complete_all([ask("a", 16)]))
    assert [(body["n"], body["seed"]) for body in fake.bodies] == [(8, 100), (8, 108), (16, 100)]
    assert found["a"] == [f"a/{100 + i}" for i in range(16)] == other_model["a"]


@pytest.mark.parametrize(
    "change",
    [{"seed": 7}, {"sampling": Sampling(temperature=0.5, max_tokens=64)}, {"prompt_version": 2}],
    ids=["seed", "sampling", "prompt version"],
)
def test_what_changes_a_sample_is_part_of_its_key(client_of: Callable[..., LlmClient], change: dict[str, Any]) -> None:
    assert ask("a").cache_keys("m") != ask("a", **change).cache_keys("m")
    assert ask("a").cache_keys("m") != ask("a").cache_keys("n")
    assert ask("a").cache_keys("m") == ask("a", 9).cache_keys("m")[:1]


@pytest.mark.parametrize(
    "failure",
    [
        Scripted(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"}),
        Scripted(500, b"oops"),
        Scripted(503, {"error": {"message": "loading"}}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        Scripted(200, b"<html>not JSON</html>"),
        Scripted(200, {"choices": []}),
        Scripted(200, {"choices": [{"message": {"content": None}}]}),
        Scripted(200, b"[1, 2]"),
        Scripted(200, completion("late").body, delay_s=1.3),
    ],
    ids=["429", "500", "503", "no JSON", "no choices", "no text", "a list", "time-out"],
)
def test_passing_failures_are_tried_again_and_never_cached(
    client_of: Callable[..., LlmClient], failure: Scripted
) -> None:
    with serve(lambda body, number: failure if number < 2 else echo(body, number)) as fake:
        client = client_of(fake.url, timeout_s=1.0 if failure.delay_s else 30.0)
        assert texts(client.complete_all([ask("a")])) == {"a": ["a/100"]}
        assert len(fake.bodies) == 3
        assert client.usage.prompt_tokens == 10  # a garbled reply is not charged
    assert texts(client_of(fake.url).complete_all([ask("a")])) == {"a": ["a/100"]}


def test_a_request_that_keeps_failing_does_not_lose_the_others(client_of: Callable[..., LlmClient]) -> None:
    def script(body: dict[str, Any], number: int) -> Scripted:
        return (
            Scripted(500, b"")
            if body["messages"][-1]["content"] == "bad"
            else echo(body, number)._replace(delay_s=0.02)
        )

    asked = [ask("bad"), *(ask(str(i)) for i in range(20))]
    with serve(script) as fake:
        answers = client_of(fake.url).complete_all(asked)
        got = []
        with pytest.raises(EndpointError, match=r"1 requests failed after 3 attempts.*20 samples are kept: run again"):
            got += [answered.request.key for answered in answers]
        fake.script = echo
        again = client_of(fake.url)
        assert len(texts(again.complete_all(asked))) == 21
    assert again.usage.cache_hits == 20


def test_a_refused_request_is_told_and_asked_again_next_time(client_of: Callable[..., LlmClient]) -> None:
    def script(body: dict[str, Any], number: int) -> Scripted:
        is_long = body["messages"][-1]["content"] == "long"
        return Scripted(400, {"error": {"message": "too long"}}) if is_long else echo(body, number)

    with serve(script) as fake:
        for _ in range(2):
            answers = list(client_of(fake.url).complete_all([ask("a"), ask("long", 2)]))
            refusals = [reply.refusal for request, reply in answers if request.key == "long"]
            assert len(refusals) == 2
            assert all(text is not None and "too long" in text for text in refusals)
        assert len(fake.bodies) == 3


def test_an_endpoint_that_refuses_everything_is_an_error(client_of: Callable[..., LlmClient]) -> None:
    with serve(lambda *_: Scripted(400, {"error": {"message": "temperature is not supported"}})) as fake:
        with pytest.raises(EndpointError, match=r"refuses whatever it is asked.*temperature is not supported"):
            list(client_of(fake.url).complete_all(ask(str(i)) for i in range(1000)))
        assert len(fake.bodies) < 30


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "refuses the key"), (403, "refuses the key"), (404, "no such model.*correct base_url")],
)
def test_a_hopeless_endpoint_stops_at_once(client_of: Callable[..., LlmClient], status: int, message: str) -> None:
    body = {"error": {"message": "no such model, key sk-secret"}}
    with serve(lambda *_: Scripted(status, body)) as fake:
        with pytest.raises(EndpointError, match=message) as raised:
            list(client_of(fake.url, max_concurrency=1).complete_all([ask("a"), ask("b")]))
        assert len(fake.bodies) == 1
    assert status == 404 or "sk-secret" not in str(raised.value)


def test_used_up_quota_is_not_waited_for(client_of: Callable[..., LlmClient]) -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    with serve(lambda *_: Scripted(429, body)) as fake, pytest.raises(EndpointError, match="quota is used up"):
        list(client_of(fake.url).complete_all([ask("a")]))


def test_a_dead_endpoint_gives_one_clear_error_and_keeps_what_came(
    client_of: Callable[..., LlmClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(echo) as fake:
        list(client_of(fake.url).complete_all([ask("a")]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with pytest.raises(
        EndpointError, match=r"teacher \(m at http.*\) gives no reply.*\[endpoints.teacher\].*run again"
    ):
        list(client_of(url).complete_all(ask(q) for q in "abc"))
    assert len(texts(client_of(url).complete_all([ask("a")]))) == 1


def test_waits_double_and_stay_below_fifteen_seconds_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.llm_http.FIRST_WAIT_S", 0.5)

    class Longest:
        def uniform(self, low: float, high: float) -> float:
            return high

    waits = [backoff_s(attempt, 0, Longest()) for attempt in range(4)]  # type: ignore[arg-type]
    assert waits == [0.625, 1.25, 2.5, 5.0]
    assert sum(waits) < 15
    assert backoff_s(0, 7.0, Longest()) == 7.0  # type: ignore[arg-type]
    assert backoff_s(0, 9999.0, Longest()) == 30.0  # type: ignore[arg-type]


def test_fewer_choices_than_asked_are_asked_again(client_of: Callable[..., LlmClient]) -> None:
    def two_at_most(body: dict[str, Any], number: int) -> Scripted:
        return echo(body | {"n": min(2, body.get("n", 1))}, number)

    with serve(two_at_most) as fake:
        assert texts(client_of(fake.url).complete_all([ask("a", 5)])) == {"a": [f"a/{100 + i}" for i in range(5)]}
        assert [body.get("n", 1) for body in fake.bodies] == [5, 3, 1]


def test_leaving_early_cancels_the_rest(client_of: Callable[..., LlmClient]) -> None:
    with serve(lambda body, number: echo(body, number)._replace(delay_s=0.02)) as fake:
        answers = client_of(fake.url).complete_all(ask(str(i)) for i in range(500))
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert len(fake.bodies) < 50
    assert not [thread for thread in threading.enumerate() if thread.name == "llm"]


def test_an_error_in_the_requests_reaches_the_caller(client_of: Callable[..., LlmClient]) -> None:
    def broken() -> Iterator[ChatRequest]:
        yield ask("a")
        raise RuntimeError("shard is corrupt")

    with serve(echo) as fake, pytest.raises(RuntimeError, match="shard is corrupt"):
        list(client_of(fake.url).complete_all(broken()))


def test_the_stream_works_inside_an_event_loop(client_of: Callable[..., LlmClient]) -> None:
    async def collect(client: LlmClient) -> list[str]:
        return [answered.reply.text async for answered in client.stream([ask("a", 2)])]

    with serve(echo) as fake:
        assert asyncio.run(collect(client_of(fake.url))) == ["a/100", "a/101"]


def test_a_missing_key_is_told_before_any_work(
    client_of: Callable[..., LlmClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(ConfigError, match="TEACHER_KEY is not set"):
        client_of("http://127.0.0.1:1/v1", api_key_env="TEACHER_KEY")
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    with serve(echo) as fake:
        list(client_of(fake.url, api_key_env="TEACHER_KEY").complete_all([ask("a")]))
    assert fake.headers[0]["authorization"] == "Bearer sk-very-secret"
    stored = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert stored
    assert not any(b"sk-very-secret" in path.read_bytes() for path in stored)


def test_openai_is_told_its_own_name_of_the_limit() -> None:
    request = ask("a", sampling=Sampling(max_tokens=9), seed=None)
    plain = request_body(Address("teacher", "m", Endpoint(base_url="https://api.deepseek.com/v1")), request, 0, 1)
    own = request_body(Address("arbiter", "o4-mini", Endpoint(base_url="https://api.openai.com/v1")), request, 0, 1)
    assert plain["max_tokens"] == own["max_completion_tokens"] == 9
    assert not {"temperature", "top_p", "seed", "n"} & own.keys()


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.integers(0, 1000))
def test_shares_of_usage_add_up(said: list[str], total: int) -> None:
    values = split_completion(completion(*said, completion_tokens=total).body)
    replies = [reply_of(value, index, is_cached=False) for index, value in enumerate(values)]
    assert [reply.text for reply in replies] == said
    shares = [reply.usage["completion_tokens"] for reply in replies]
    assert min(shares) >= 0
    assert sum(shares) == (total if any(said) else 0)


def test_a_session_answers_single_questions_from_many_threads(client_of: Callable[..., LlmClient]) -> None:
    with serve(lambda body, number: echo(body, number)._replace(delay_s=0.01)) as fake:
        with LlmSession(client_of(fake.url)) as session, ThreadPoolExecutor(12) as threads:
            said = list(threads.map(lambda q: session.ask(ask(q, 2)), "abcdefghijkl"))
        assert fake.most_in_flight <= 4
    assert [[reply.text for reply in replies] for replies in said] == [[f"{q}/100", f"{q}/101"] for q in "abcdefghijkl"]


def test_a_session_tells_what_failed_and_goes_on(client_of: Callable[..., LlmClient]) -> None:
    def script(body: dict[str, Any], number: int) -> Scripted:
        return Scripted(500, b"") if 1 <= number <= 3 else echo(body, number)

    with serve(script) as fake, LlmSession(client_of(fake.url)) as session:
        assert session.ask(ask("a"))[0].text == "a/100"
        with pytest.raises(EndpointError, match="HTTP 500"):
            session.ask(ask("b"))
        assert session.ask(ask("b"))[0].text == "b/100"
