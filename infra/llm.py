"""One client for every language model behind an OpenAI-compatible endpoint: row cache, retries, bounded load, cost."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Self

from infra.chat import Answered, ChatReply, ChatRequest
from infra.llm_answering import Answering, LlmUsage
from infra.llm_http import Address, EndpointError
from infra.row_cache import RowCache
from infra.runtime import Endpoint, secret

__all__ = ["EndpointError", "LlmClient", "LlmSession"]
Arrival = Answered | Exception | None


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

    def answering(self) -> Answering:
        """A fresh connection for one event loop; its usage counts here."""
        return Answering(Address(self.role, self.model, self.endpoint), self._cache, self.usage)

    def complete_all(self, requests: Iterable[ChatRequest]) -> Iterator[Answered]:
        """Answer all requests. Those of one request come together, requests as they finish.

        Runs an event loop in a thread of its own: callable from anywhere. Leaving the loop early cancels what is in
        flight.

        Raises:
            EndpointError: the endpoint is dead, refuses the key or the model, or failed some requests after all
                attempts. Samples that did arrive are kept: another run asks only for the rest.
        """
        arrived: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
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
        answering, source = self.answering(), iter(requests)
        arrived: asyncio.Queue[Arrival] = asyncio.Queue()
        num_workers = self.endpoint.max_concurrency
        workers = [asyncio.create_task(_work(answering, source, arrived)) for _ in range(num_workers)]
        try:
            while num_workers:
                item = await arrived.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    num_workers -= 1
                else:
                    yield item
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await answering.close()
        answering.check()


async def _work(answering: Answering, source: Iterator[ChatRequest], arrived: asyncio.Queue[Arrival]) -> None:
    """Answer requests until there are none; then None arrives, or the error that ends the stream."""
    try:
        for request in source:
            for reply in await answering.answer(request):
                arrived.put_nowait(Answered(request, reply))
            await asyncio.sleep(0)  # where the cache answers, nothing else would let the others in
    except Exception as error:
        arrived.put_nowait(error)
    else:
        arrived.put_nowait(None)


class LlmSession:
    """Single questions from any thread, over connections that stay open; at most `max_concurrency` are in flight.

    For callers that need an answer before they can go on, such as a reward model within a rollout. Whoever has all
    questions at hand uses `LlmClient.complete_all`.
    """

    def __init__(self, client: LlmClient) -> None:
        self.client = client
        self._answering = client.answering()
        self._slots = asyncio.Semaphore(client.endpoint.max_concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="llm", daemon=True)

    def ask(self, request: ChatRequest) -> list[ChatReply]:
        """All samples of a request, by index.

        Raises:
            EndpointError: the endpoint cannot be used, or gave no reply to this request.
        """
        replies = asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result()
        if len(replies) < request.num_samples:
            raise EndpointError(f"{self._answering.address}: no reply to {request.key}: {self._answering.failures[-1]}")
        return replies

    async def _answer(self, request: ChatRequest) -> list[ChatReply]:
        async with self._slots:
            return await self._answering.answer(request)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._answering.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Pump:
    """Drains an async stream into a callback, in a thread with its own event loop."""

    def __init__(self, stream: AsyncGenerator[Answered, None], put: Callable[[Arrival], None]) -> None:
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._drain(stream, put))
        self._thread = threading.Thread(target=self._run, name="llm", daemon=True)
        self._thread.start()

    async def _drain(self, stream: AsyncGenerator[Answered, None], put: Callable[[Arrival], None]) -> None:
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
