"""The dispatcher against a small HTTP server that answers as vLLM does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tasks.generation.engine import Dispatcher, EngineError, Prompt, Sample, SamplingParams, sample_seed

PROMPTS = [Prompt(f"q{i}", (10 + i, 11 + i)) for i in range(6)]


class FakeEngine:
    """An OpenAI-style server on loopback; a completion is [seed % 1000, prompt length], so it depends on no batch.

    `script(body, number)` decides the answer of request `number`: None serves it, an int is an HTTP status, "drop"
    closes the connection, "hang" never answers.
    """

    def __init__(self, script: Callable[[dict[str, Any], int], int | str | None] = lambda body, number: None) -> None:
        self.script = script
        self.healthy = True
        self.delay_s = 0.0
        self.requests: list[dict[str, Any]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.url = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeEngine]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length: ")[1].split()[0]) if "content-length" in head else 0
                status, answer = await self._answer(head.split()[1], await reader.readexactly(length))
                content = json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n" % (status, len(content)) + content)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()

    async def _answer(self, path: str, content: bytes) -> tuple[int, dict[str, Any]]:
        if path == "/health":
            return (200 if self.healthy else 503), {}
        body = json.loads(content)
        self.requests.append(body)
        self.in_flight += body["n"]
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            what = self.script(body, len(self.requests))
            await asyncio.sleep(3600 if what == "hang" else self.delay_s)
        finally:
            self.in_flight -= body["n"]
        if what == "drop":
            raise ConnectionError
        if isinstance(what, int):
            return what, {"error": {"message": "as scripted"}}
        return 200, {"choices": [self._choice(body, index) for index in range(body["n"])]}

    @staticmethod
    def _choice(body: dict[str, Any], index: int) -> dict[str, Any]:
        ids = [(body.get("seed", 0) + index) % 1000, len(body["prompt"])]
        logprobs = {"token_logprobs": [-0.5, -1.5]} if "logprobs" in body else None
        return {"index": index, "text": str(ids), "token_ids": ids, "logprobs": logprobs, "finish_reason": "length"}


def _collect(
    engines: Sequence[FakeEngine], params: SamplingParams, prompts: Sequence[Prompt] = PROMPTS, **options: Any
) -> list[Sample]:
    async def run() -> list[Sample]:
        async with AsyncExitStack() as stack:
            for engine in engines:
                await stack.enter_async_context(engine.serve())
            urls = [engine.url for engine in engines]
            dispatcher = await stack.enter_async_context(Dispatcher(urls, backoff_s=0.01, **options))
            return [sample async for sample in dispatcher.stream(prompts, params)]

    return asyncio.run(asyncio.wait_for(run(), 60))


def _params(**options: Any) -> SamplingParams:
    return SamplingParams(max_tokens=2, seed=7, **{"n": 4, **options})


def test_every_sample_comes_once_with_its_prompt_and_logprobs() -> None:
    samples = _collect([FakeEngine()], _params())
    assert sorted((s.key, s.sample_index) for s in samples) == [(p.key, i) for p in PROMPTS for i in range(4)]
    first = next(s for s in samples if s.key == "q3" and s.sample_index == 2)
    assert first.completion.prompt_ids == (13, 14)
    assert first.completion.completion_ids == (sample_seed(7, "q3", 2) % 1000, 2)
    assert first.completion.logprobs == (-0.5, -1.5)
    assert first.completion.finish_reason == "length"


def test_a_sample_is_its_own_request_and_asks_for_the_plain_distribution() -> None:
    engine = FakeEngine()
    _collect([engine], _params(temperature=0.7, logprobs=False, stop_token_ids=(2,)), PROMPTS[:1])
    assert len(engine.requests) == 4
    body = engine.requests[0]
    assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (0.7, 1.0, 0, 0.0)
    assert body["stop_token_ids"] == [2]
    assert "logprobs" not in body


def test_seeds_do_not_depend_on_servers_order_or_samples_per_request() -> None:
    alone = _collect([FakeEngine()], _params())
    grouped = _collect([FakeEngine(), FakeEngine()], _params(), PROMPTS[::-1], samples_per_request=3, max_in_flight=6)
    assert sorted(alone) == sorted(grouped)
    assert len({sample_seed(7, p.key, i) for p in PROMPTS for i in range(4)}) == 24


def test_no_more_samples_are_in_flight_than_allowed() -> None:
    engine = FakeEngine()
    engine.delay_s = 0.02
    _collect([engine], _params(), max_in_flight=5)
    assert engine.most_in_flight == 5
    engine = FakeEngine()
    engine.delay_s = 0.02
    _collect([engine], _params(), max_in_flight=5, samples_per_request=2)
    assert engine.most_in_flight == 4


def test_the_quicker_server_gets_more() -> None:
    quick, slow = FakeEngine(), FakeEngine()
    quick.delay_s, slow.delay_s = 0.01, 0.2
    _collect([quick, slow], _params(n=16), max_in_flight=8)
    assert len(quick.requests) > 2 * len(slow.requests) > 0


@pytest.mark.parametrize("failure", [500, 503, 429, "drop"])
def test_a_failed_request_is_sent_again(failure: int | str) -> None:
    engine = FakeEngine(lambda body, number: failure if number in (2, 5) else None)
    samples = _collect([engine], _params())
    assert len(samples) == 24
    assert len(engine.requests) == 26


def test_a_dead_servers_requests_are_sent_elsewhere() -> None:
    """The second server answers twice, then breaks one connection, hangs on the rest and is unhealthy."""

    def dying(body: dict[str, Any], number: int) -> str | None:
        broken.healthy = number < 3
        return {1: None, 2: None, 3: "drop"}.get(number, "hang")

    broken = FakeEngine(dying)
    good = FakeEngine()
    good.delay_s = 0.05
    samples = _collect([good, broken], _params(n=8), max_in_flight=24)
    assert Counter(s.key for s in samples) == Counter({p.key: 8 for p in PROMPTS})
    assert len(good.requests) == 46
    assert sorted(samples) == sorted(_collect([FakeEngine()], _params(n=8)))


def test_all_servers_dead_is_an_error_that_names_them() -> None:
    engines = [FakeEngine(lambda body, number: "drop"), FakeEngine(lambda body, number: 500)]
    for engine in engines:
        engine.healthy = False
    with pytest.raises(EngineError, match=r"all servers are dead: http://127\S+, http://127\S+; see their logs"):
        _collect(engines, _params())


def test_a_request_that_always_fails_on_a_healthy_server_is_an_error() -> None:
    with pytest.raises(EngineError, match=r"prompt `q0`: 3 attempts failed, the last with: http.* 500 .*as"):
        _collect([FakeEngine(lambda body, number: 500)], _params(), PROMPTS[:1], max_attempts=3)


def test_a_refused_request_is_an_error_at_once() -> None:
    engine = FakeEngine(lambda body, number: 400)
    with pytest.raises(EngineError, match=r"refused prompt `q0` \(2 tokens\): 400 .*as scripted"):
        _collect([engine], _params(n=1), PROMPTS[:1])
    assert len(engine.requests) == 1


def test_closing_the_stream_cancels_what_is_in_flight() -> None:
    async def run() -> list[str]:
        engine = FakeEngine(lambda body, number: None if number == 1 else "hang")
        async with engine.serve(), Dispatcher([engine.url]) as dispatcher:
            stream = dispatcher.stream(PROMPTS, _params())
            await anext(stream)
            await stream.aclose()
            return [str(task) for task in asyncio.all_tasks() if "engine.py" in str(task)]

    assert asyncio.run(asyncio.wait_for(run(), 20)) == []


def test_no_server_is_an_error() -> None:
    with pytest.raises(EngineError, match="give at least one base URL"):
        Dispatcher([])
