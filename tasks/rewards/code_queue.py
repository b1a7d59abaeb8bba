"""The bounded queue before the jails of `posttrain sandbox serve`. Lives in one event loop, so it needs no lock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

# Weight of the newest request in the mean that Retry-After is made of.
_NEWEST = 0.1
_LONGEST_RETRY_S = 30


class QueueFullError(Exception):
    """As many requests wait as may; `retry_after_s` is about when a place is free."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s} s, or on another host")
        self.retry_after_s = retry_after_s


class DrainingError(Exception):
    """The host takes nothing more, since it is about to end."""


class JudgeQueue:
    """Who is judged and who waits.

    Args:
        num_slots: requests judged at a time.
        max_waiting: requests that may wait; one more is refused at once, so that its client turns to another host.
    """

    def __init__(self, num_slots: int, max_waiting: int) -> None:
        self.num_slots, self.max_waiting = num_slots, max_waiting
        self.num_inside = self.num_busy = 0
        self.is_draining = False
        self._slots = asyncio.Semaphore(num_slots)
        self._mean_s = 1.0
        self._has_drained = asyncio.Event()

    @property
    def num_waiting(self) -> int:
        """Requests that have a place but no slot yet."""
        return self.num_inside - self.num_busy

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue.

        Raises:
            DrainingError: the host is about to end.
            QueueFullError: there is none.
        """
        if self.is_draining:
            raise DrainingError("this host is about to end; ask another one")
        if self.num_inside >= self.num_slots + self.max_waiting:
            raise QueueFullError(self._retry_after_s())
        self.num_inside += 1
        try:
            yield
        finally:
            self.num_inside -= 1
            self._note_if_drained()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A turn in a jail, for one who has a place."""
        async with self._slots:
            self.num_busy += 1
            started = asyncio.get_running_loop().time()
            try:
                yield
            finally:
                self.num_busy -= 1
                self._mean_s += _NEWEST * (asyncio.get_running_loop().time() - started - self._mean_s)

    def drain(self) -> None:
        """Take nothing more; what has a place is judged still."""
        self.is_draining = True
        self._note_if_drained()

    async def drained(self) -> None:
        """Wait until `drain` was called and nobody is left."""
        await self._has_drained.wait()

    def _note_if_drained(self) -> None:
        if self.is_draining and self.num_inside == 0:
            self._has_drained.set()

    def _retry_after_s(self) -> int:
        """Seconds until half of those who wait have had their turn."""
        return min(_LONGEST_RETRY_S, max(1, math.ceil(self._mean_s * self.num_waiting / self.num_slots / 2)))
