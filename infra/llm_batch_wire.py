"""The Batch API of an OpenAI-compatible endpoint: a file of requests goes up, within a day one of replies is there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from infra.llm_http import Address, EndpointError, Trouble, backoff_s, read_trouble
from infra.llm_pools import Pools, hide

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

Got = TypeVar("Got")
# The name under which we find a batch of ours again.
LABEL = "posttrain"
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class BatchState(NamedTuple):
    """A batch as the endpoint tells of it."""

    status: str
    files: tuple[str, ...]
    errors: str

    @property
    def has_ended(self) -> bool:
        """Nothing more will come."""
        return self.status in _ENDED


class BatchWire:
    """Calls within one event loop, each tried again while that can help."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pools = Pools(address.endpoint)
        self._jitter = random.Random()

    async def upload(self, content: bytes) -> str:
        """Upload a file of requests; its id. A copy that nobody uses costs nothing."""
        made = await self._retried(lambda http: http.files.create(file=("batch.jsonl", content), purpose="batch"))
        return made.id

    async def create(self, file: str, name: str) -> str | Trouble:
        """Create a batch under a name of ours; its id, or why there is none: a final trouble is for sure.

        Raises:
            EndpointError: the endpoint cannot be used any more, and may have created it before.
        """
        trouble = Trouble("", is_final=True)
        for attempt in range(self._address.endpoint.max_attempts):
            if attempt:
                await self._pause(attempt, trouble)
                # The call before may have created it, though its reply was lost: never twice.
                if (found := await self.find(name)) is not None:
                    return found
            made = await self._create_once(file, name, is_first=attempt == 0)
            if isinstance(made, str) or made.is_final:
                return made
            trouble = made
        found = await self.find(name)
        return trouble if found is None else found

    async def _create_once(self, file: str, name: str, is_first: bool) -> str | Trouble:
        try:
            made = await self._try(
                lambda http: http.batches.create(
                    input_file_id=file,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",  # the only one that there is
                    metadata={LABEL: name},
                )
            )
        except EndpointError as error:
            if not is_first:
                raise
            return Trouble(str(error), is_final=True)
        return made if isinstance(made, Trouble) else str(made.id)

    async def find(self, name: str) -> str | None:
        """The id of the batch that was created under a name, or None."""

        async def search(http: AsyncOpenAI) -> str | None:
            async for batch in http.batches.list(limit=100):
                if (batch.metadata or {}).get(LABEL) == name:
                    return str(batch.id)
            return None

        return await self._retried(search)

    async def state(self, batch: str) -> BatchState:
        """How far a batch is."""
        return _state(await self._retried(lambda http: http.batches.retrieve(batch)))

    async def download(self, file: str) -> bytes:
        """A file of replies."""

        async def fetch(http: AsyncOpenAI) -> bytes:
            return (await http.files.content(file)).content

        return hide(await self._retried(fetch), self._pools.key)

    async def _retried(self, call: Callable[[AsyncOpenAI], Awaitable[Got]]) -> Got:
        trouble = Trouble("")
        for attempt in range(self._address.endpoint.max_attempts):
            if attempt:
                await self._pause(attempt, trouble)
            got = await self._try(call)
            if not isinstance(got, Trouble):
                return got
            trouble = got
            if trouble.is_final:
                break
        raise EndpointError(
            f"{self._address}: the Batch API does not answer: {trouble.text}; run again, and batches that were created "
            f"are gone on with, or take `batch` out of [endpoints.{self._address.role}]"
        )

    async def _try(self, call: Callable[[AsyncOpenAI], Awaitable[Got]]) -> Got | Trouble:
        try:
            async with self._pools.client() as http:
                return await call(http)
        except Exception as error:
            failure = error
        trouble = read_trouble(failure, self._address)
        return trouble._replace(text=hide(trouble.text, self._pools.key)[:300])

    async def _pause(self, attempt: int, trouble: Trouble) -> None:
        await asyncio.sleep(backoff_s(attempt - 1, trouble.retry_after_s, self._jitter))

    async def close(self) -> None:
        """Close the HTTP clients."""
        await self._pools.close()


def _state(batch: Batch) -> BatchState:
    errors = (batch.errors.data or []) if batch.errors else []
    files = tuple(file for file in (batch.output_file_id, batch.error_file_id) if file)
    return BatchState(batch.status, files, "; ".join(str(error.message) for error in errors[:3]))
