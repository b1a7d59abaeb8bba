"""One client for every language model behind an OpenAI-compatible endpoint: row cache, retries, bounded load, cost."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from infra.chat import Answered, ChatReply, ChatRequest, reply_of, usage_of
from infra.llm_http import Address, EndpointError, HttpChat, Trouble
from infra.row_cache import RowCache
from infra.runtime import Endpoint, secret

# So many refusals without one reply are a wrong model or parameter, not so many bad prompts.
MAX_REFUSALS = 16


@dataclass
class LlmUsage:
    """What a client used: tokens and money of its HTTP requests, and samples that the row cache gave for nothing."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    cache_hits: int = 0

    def add(self, body: dict[str, Any], endpoint: Endpoint) -> None:
        """Count one chat completion at the endpoint's prices."""
        used = usage_of(body)
        self.prompt_tokens += used["prompt_tokens"]
        self.completion_tokens += used["completion_tokens"]
        self.usd += used["prompt_tokens"] * endpoint.usd_per_million_prompt_tokens / 1e6
        self.usd += used["completion_tokens"] * endpoint.usd_per_million_completion_tokens / 1e6

    def take(self) -> dict[str, float]:
        """All counts by name, for `Output.spend`; counting starts again at zero."""
        counts = asdict(self)
        for name in counts:
            setattr(self, name, type(counts[name])())
        return counts


class LlmClient:
    """A model in a role (teacher, arbiter, judge, reward-model) at an endpoint.

    A sample is in the row cache before it is returned, so a killed step loses only what was in flight. Failures are
    never cached.

    Raises:
        ConfigError: the environment variable that should hold the endpoint's key is not set.
    """

    def __init__(self, role: str, model: str, endpoint: Endpoint, cache: RowCache) -> None:
        self.role, self.model, self.endpoint = role, model, endpoint
        self.usage = LlmUsage()
        self._cache = cache
        secret(endpoint.api_key_env)  # a missing key is told before any work

    def complete_all(self, requests: Iterable[ChatRequest]) -> Iterator[Answered]:
        """Answer all requests; samples come as they finish, so their order is that of the wire.

        Runs an event loop in a thread of its own: callable from anywhere. Leaving the loop early cancels what is in
        flight.

        Raises:
            EndpointError: the endpoint is dead, refuses the key or the model, or failed some requests after all
                attempts. Samples that did arrive are kept: another run asks only for the rest.
        """
        arrived: queue.SimpleQueue[Answered | Exception | None] = queue.SimpleQueue()
        pump = _Pump(self.stream(requests), arrived.put)
        try:
            while (item := arrived.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            pump.stop()

    async def stream(self, requests: Iterable[ChatRequest]) -> AsyncGenerator[Answered, None]:
        """As `complete_all`, within an event loop; at most `max_concurrency` requests are in flight."""
        job = _Job(self, iter(requests))
        workers = [asyncio.create_task(job.work()) for _ in range(self.endpoint.max_concurrency)]
        try:
            running = len(workers)
            while running:
                item = await job.arrived.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    running -= 1
                else:
                    yield item
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await job.http.close()
        job.check()

    def cached(self, key: str) -> Any | None:
        """The cached sample of a key."""
        value = self._cache.get(key)
        self.usage.cache_hits += value is not None
        return value

    def keep(self, key: str, value: dict[str, Any]) -> None:
        """Put a finished sample into the cache."""
        self._cache.put(key, value)


@dataclass
class _Job:
    """One stream of requests: what its workers share."""

    llm: LlmClient
    source: Iterator[ChatRequest]
    arrived: asyncio.Queue[Answered | Exception | None] = field(default_factory=asyncio.Queue)
    delivered: int = 0
    refusals: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.address = Address(self.llm.role, self.llm.model, self.llm.endpoint)
        self.http = HttpChat(self.address)

    async def work(self) -> None:
        """Answer requests until there are none; then None is put, or the error that ends the stream."""
        try:
            for request in self.source:
                await self._answer(request)
                await asyncio.sleep(0)  # where the cache answers, nothing else would let the others in
        except Exception as error:
            self.arrived.put_nowait(error)
        else:
            self.arrived.put_nowait(None)

    async def _answer(self, request: ChatRequest) -> None:
        keys = request.cache_keys(self.llm.model)
        values = [self.llm.cached(key) for key in keys]
        for index, value in enumerate(values):
            if value is not None:
                self._deliver(request, reply_of(value, index, is_cached=True))
        missing = [index for index, value in enumerate(values) if value is None]
        while missing:
            run = _first_run(missing)
            result = await self.http.ask(request, run[0], len(run))
            if isinstance(result, Trouble):
                self._give_up(request, missing, result)
                return
            self.llm.usage.add(result.body, self.llm.endpoint)
            for index, value in zip(run, result.samples, strict=False):
                self.llm.keep(keys[index], value)
                self._deliver(request, reply_of(value, index, is_cached=False))
            # An endpoint may give fewer samples than it was asked for; the rest is asked again.
            missing = missing[len(result.samples) :]

    def _deliver(self, request: ChatRequest, reply: ChatReply) -> None:
        self.delivered += reply.refusal is None
        self.arrived.put_nowait(Answered(request, reply))

    def _give_up(self, request: ChatRequest, missing: list[int], trouble: Trouble) -> None:
        if not trouble.is_final:
            self.failures.append(trouble.text)
            return
        self.refusals.append(trouble.text)
        if len(self.refusals) >= MAX_REFUSALS:
            self._check_refusals()
        for index in missing:
            self._deliver(request, ChatReply(sample_index=index, refusal=trouble.text))

    def check(self) -> None:
        """Raise EndpointError where requests stayed without an answer."""
        self._check_refusals()
        if self.failures:
            raise EndpointError(
                f"{self.address}: {len(self.failures)} requests failed after {self.llm.endpoint.max_attempts} attempts "
                f"each, such as: {self.failures[0]}; {self.delivered} samples are kept: run again for the rest"
            )

    def _check_refusals(self) -> None:
        if self.refusals and not self.delivered:
            raise EndpointError(
                f"{self.address} refuses whatever it is asked ({len(self.refusals)} requests so far): "
                f"{self.refusals[0]}; correct the model or the sampling values in the recipe, then run again"
            )


def _first_run(indices: list[int]) -> list[int]:
    """The first consecutive indices: one HTTP request can draw them with one seed."""
    return [index for offset, index in enumerate(indices) if index == indices[0] + offset]


class _Pump:
    """Drains an async stream into a callback, in a thread with its own event loop."""

    def __init__(
        self, stream: AsyncGenerator[Answered, None], put: Callable[[Answered | Exception | None], None]
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._drain(stream, put))
        self._thread = threading.Thread(target=self._run, name="llm", daemon=True)
        self._thread.start()

    async def _drain(
        self, stream: AsyncGenerator[Answered, None], put: Callable[[Answered | Exception | None], None]
    ) -> None:
        try:
            async with aclosing(stream) as items:
                async for item in items:
                    put(item)
        except Exception as error:
            put(error)
        else:
            put(None)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    def stop(self) -> None:
        """Cancel what is in flight, and end the thread."""
        with suppress(RuntimeError):  # the loop is closed: all is done
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
