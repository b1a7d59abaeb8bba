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
from infra.llm_answering import Answering
from infra.llm_batch import BatchAnswering
from infra.llm_estimate import Estimate, estimate
from infra.llm_http import Address, BudgetError, EndpointError
from infra.llm_pools import key_of
from infra.llm_sharing import shared_by
from infra.llm_usage import LlmUsage
from infra.row_cache import RowCache
from infra.runtime import Endpoint

__all__ = ["BudgetError", "EndpointError", "Estimate", "LlmClient", "LlmSession"]
Arrival = Answered | Exception | None


class LlmClient:
    """A model in a role (teacher, arbiter, judge, reward-model) at an endpoint.

    A sample is in the row cache before it is returned, so a killed step loses only what was in flight. Failures are
    never cached. Clients with one cache share what is in flight, their endpoints' limits, and budgets.

    Raises:
        ConfigError: the environment variable that should hold the endpoint's key is not set, or holds more than it; or
            the endpoint has a budget, and the store is no folder.
    """

    def __init__(self, role: str, model: str, endpoint: Endpoint, cache: RowCache) -> None:
        self.role, self.model, self.endpoint = role, model, endpoint
        self.usage = LlmUsage()
        self._cache = cache
        # A missing key, or a budget that cannot be kept, is told before any work.
        key_of(endpoint)
        shared_by(cache).budget(role, endpoint)

    def answering(self) -> Answering:
        """A fresh connection for one event loop; its usage counts here."""
        return Answering(Address(self.role, self.model, self.endpoint), self._cache, self.usage)

    def estimate(self, requests: Iterable[ChatRequest]) -> Estimate:
        """What asking would cost at most; asks nothing."""
        return estimate(self.answering(), requests)

    def complete_all(self, requests: Iterable[ChatRequest]) -> Iterator[Answered]:
        """Answer all requests. Those of one request come together, requests as they finish.

        Runs an event loop in a thread of its own: callable from anywhere. Leaving the loop early cancels what is in
        flight.

        Raises:
            EndpointError: the endpoint is dead, refuses the key or the model, or failed some requests after all
                attempts. Samples that did arrive are kept: another run asks only for the rest.
            BudgetError: the rest does not fit into the endpoint's budget; what was in flight came before.
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
        if self.endpoint.batch:
            async with aclosing(BatchAnswering(answering).stream(source)) as answers:
                async for answered in answers:
                    yield answered
            return
        workers = _Workers(answering, source)
        try:
            async with aclosing(workers.arriving()) as answers:
                async for answered in answers:
                    yield answered
        finally:
            await workers.stop()
            await answering.close()
        answering.check(workers.num_left)


class _Workers:
    """As many questions at a time as the endpoint may have in flight; `num_left` samples did not come."""

    def __init__(self, answering: Answering, source: Iterator[ChatRequest]) -> None:
        self._answering, self._source = answering, source
        self._arrived: asyncio.Queue[Arrival] = asyncio.Queue()
        self.num_left = 0
        self._tasks = [asyncio.create_task(self._work()) for _ in range(answering.address.endpoint.max_concurrency)]

    async def arriving(self) -> AsyncGenerator[Answered, None]:
        """Samples as they arrive, until all workers are done."""
        num_working = len(self._tasks)
        while num_working:
            item = await self._arrived.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                num_working -= 1
            else:
                yield item

    async def _work(self) -> None:
        """Answer requests until there are none; then None arrives, or the error that ends the stream."""
        try:
            # Without budget nothing new is sent; what is in the cache comes, and so does what is in flight.
            for request in self._source:
                replies = await self._answering.answer(request)
                for reply in replies:
                    self._arrived.put_nowait(Answered(request, reply))
                self.num_left += request.num_samples - len(replies)
                await asyncio.sleep(0)  # where the cache answers, nothing else would let the others in
        except Exception as error:
            self._arrived.put_nowait(error)
        else:
            self._arrived.put_nowait(None)

    async def stop(self) -> None:
        """Cancel what is in flight."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


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
            BudgetError: the request does not fit into the endpoint's budget.
        """
        replies = asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result()
        if len(replies) < request.num_samples:
            raise EndpointError(f"{self._answering.address}: no reply to {request.key}: {self._answering.failures[-1]}")
        return replies

    async def _answer(self, request: ChatRequest) -> list[ChatReply]:
        async with self._slots:
            replies = await self._answering.answer(request)
        if self._answering.shortfall and len(replies) < request.num_samples:
            error = self._answering.budget_error(request.num_samples - len(replies))
            self._answering.shortfall = ""  # the next question may be a shorter one, or in the cache
            raise error
        return replies

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
