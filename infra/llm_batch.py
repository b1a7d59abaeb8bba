"""Answers by the Batch API: all that is missing goes out in a few files, and comes into the same row cache."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from typing import Any

from infra.chat import Answered, ChatReply, ChatRequest, reply_of
from infra.fingerprint import fingerprint
from infra.llm_answering import Answering, first_run
from infra.llm_batch_journal import BatchJournal, Line, Sent, new_name
from infra.llm_batch_replies import LineReply, read_lines
from infra.llm_batch_wire import BatchWire
from infra.llm_flights import arrival
from infra.llm_http import EndpointError, Trouble, request_body
from infra.llm_paying import Shortfall
from infra.llm_price import at_most


class BatchAnswering:
    """Answers requests within one event loop; what went wrong is remembered by the `Answering` it works for."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._address, self._endpoint = answering.address, answering.address.endpoint
        self._cache, self._flights = answering.cache, answering.flights
        self._till = answering.till.for_batches()
        self._journal = BatchJournal(self._cache, self._endpoint)
        self._wire = BatchWire(self._address)
        self._fresh: set[str] = set()
        self._refused: dict[str, str] = {}
        self._trouble = ""

    async def stream(self, source: Iterable[ChatRequest]) -> AsyncGenerator[Answered, None]:
        """All samples, when the last batch is over.

        Raises:
            EndpointError: the Batch API cannot be used, or requests stayed without a reply.
            BudgetError: the rest does not fit into the budget.
        """
        requests = list(source)
        try:
            await self._go_on_with_open_batches(requests)
            for _ in range(self._endpoint.max_attempts):
                if self._answering.shortfall or not await self._round(requests):
                    break
        finally:
            self._journal.close()
            await self._wire.close()
        num_left = 0
        for request in requests:
            replies = self._replies(request)
            num_left += request.num_samples - len(replies)
            for reply in replies:
                yield Answered(request, reply)
        if num_left and not self._answering.shortfall:
            self._answering.failures.append(self._trouble or "the endpoint gave no reply to some lines of a batch")
        self._answering.check(num_left)

    async def _go_on_with_open_batches(self, requests: Sequence[ChatRequest]) -> None:
        """What an earlier run sent and did not take in."""
        wanted = {key for request in requests for key in self._missing(request).values()}
        await _together(self._take_up(sent) for sent in self._journal.open_batches(wanted))

    async def _take_up(self, sent: Sent) -> None:
        id_ = self._journal.id_of(sent) or await self._wire.find(sent.name)
        if id_ is None:
            self._end(sent, 0)  # that run was killed before it created it
        else:
            await self._take_in(sent, id_)

    async def _round(self, requests: Sequence[ChatRequest]) -> bool:
        """Ask once for all that is missing; False where nothing is."""
        missing = {key for request in requests for key in self._missing(request).values()}
        boarding = self._flights.board(sorted(missing))
        try:
            lines = list(self._lines(requests, boarding.mine))
            await _together(self._ask(chunk) for chunk in self._chunks(lines))
        finally:
            self._flights.land(boarding.mine)
        for flight in boarding.others.values():
            await arrival(flight)
        return bool(missing)

    def _missing(self, request: ChatRequest) -> dict[int, str]:
        """Index → key of samples that are neither in the cache nor refused."""
        keys = enumerate(request.cache_keys(self._address.model))
        return {index: key for index, key in keys if not self._cache.has(key) and key not in self._refused}

    def _lines(self, requests: Sequence[ChatRequest], mine: set[str]) -> Iterator[Line]:
        left = set(mine)  # of equal requests one is asked
        for request in requests:
            keys = {index: key for index, key in self._missing(request).items() if key in left}
            left.difference_update(keys.values())
            indices = list(keys)
            while indices:
                run = first_run(indices)
                indices = indices[len(run) :]
                yield self._line(request, run[0], [keys[index] for index in run])

    def _line(self, request: ChatRequest, first: int, keys: list[str]) -> Line:
        worst = self._till.price(at_most(request, len(keys)))
        return Line(fingerprint(keys)[:32], request, first, keys, worst)

    def _chunks(self, lines: Sequence[Line]) -> Iterator[list[Line]]:
        """Lines by the file that they go in."""
        chunk: list[Line] = []
        size = 0
        for line in lines:
            length = len(self._written(line))
            is_full = len(chunk) == self._endpoint.batch_requests
            if chunk and (is_full or size + length > self._endpoint.batch_megabytes * 1e6):
                yield chunk
                chunk, size = [], 0
            chunk.append(line)
            size += length
        if chunk:
            yield chunk

    def _written(self, line: Line) -> bytes:
        body = request_body(self._address, line.request, line.first, len(line.keys))
        fields = {"custom_id": line.id, "method": "POST", "url": "/v1/chat/completions", "body": body}
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"

    async def _ask(self, lines: Sequence[Line]) -> None:
        """One batch; or halves of it, where the budget does not cover the whole."""
        name = new_name()
        reservation = await self._till.reserve(sum(line.worst_nusd for line in lines), name)
        if not isinstance(reservation, Shortfall):
            await self._send(self._journal.begin(lines, name), b"".join(self._written(line) for line in lines))
        elif len(lines) == 1:
            self._answering.shortfall = str(reservation)
        else:
            middle = len(lines) // 2
            for half in (lines[:middle], lines[middle:]):
                await self._ask(half)

    async def _send(self, sent: Sent, content: bytes) -> None:
        try:
            file = await self._wire.upload(content)
        except EndpointError:
            self._end(sent, 0)
            raise
        made = await self._wire.create(file, sent.name)
        if isinstance(made, Trouble):
            if made.is_final:
                self._end(sent, 0)
            raise EndpointError(
                f"{self._address} creates no batch: {made.text}; run again, or take `batch` out of "
                f"[endpoints.{self._address.role}]"
            )
        self._journal.name_id(sent, made)
        await self._take_in(sent, made)

    async def _take_in(self, sent: Sent, id_: str) -> None:
        """Wait for a batch, and take its replies into the row cache."""
        while not (state := await self._wire.state(id_)).has_ended:
            await asyncio.sleep(self._endpoint.batch_poll_s)
        nusd = 0
        for file in state.files:
            for reply in read_lines(await self._wire.download(file)):
                nusd += self._take_line(sent, reply)
        self._end(sent, nusd)
        if state.status == "failed":
            raise EndpointError(
                f"{self._address}: batch {id_} failed: {state.errors}; correct the recipe's model or sampling values, "
                f"or lower batch_requests in [endpoints.{self._address.role}], then run again"
            )

    def _take_line(self, sent: Sent, reply: LineReply) -> int:
        """Take in one line; what it cost."""
        line = sent.lines.get(reply.id)
        if line is None:
            return 0
        if isinstance(reply.result, Trouble):
            self._trouble = reply.result.text
            if reply.result.is_final:
                self._refused |= dict.fromkeys(line.keys, reply.result.text)
                self._answering.refusals.append(reply.result.text)
        else:
            for key, value in zip(line.keys, reply.result.samples, strict=False):
                self._cache.put(key, value)
                self._fresh.add(key)
        return self._till.count(reply.result.bill, line.worst_nusd)

    def _end(self, sent: Sent, nusd: int) -> None:
        self._till.close(sent.name, nusd)
        self._journal.end(sent)

    def _replies(self, request: ChatRequest) -> list[ChatReply]:
        keys = request.cache_keys(self._address.model)
        replies = [reply for index, key in enumerate(keys) if (reply := self._reply(index, key)) is not None]
        self._answering.delivered += sum(reply.refusal is None for reply in replies)
        self._answering.usage.hit(sum(reply.is_cached for reply in replies))
        return replies

    def _reply(self, index: int, key: str) -> ChatReply | None:
        value = self._cache.get(key)
        if value is not None:
            return reply_of(value, index, is_cached=key not in self._fresh)
        refusal = self._refused.get(key)
        return None if refusal is None else ChatReply(sample_index=index, refusal=refusal)


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first error ends the others, whose batches go on at the endpoint."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
