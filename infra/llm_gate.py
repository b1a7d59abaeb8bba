"""The gate before an endpoint: every attempt of every client goes through it, whichever thread it comes from."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from infra.llm_pace import Limits, Load, Pace, Passage

# Who waits at the gate looks again after so long, though nobody has called.
LOOK_AGAIN_S = 1.0


class _Waiter(NamedTuple):
    loop: asyncio.AbstractEventLoop
    turn: asyncio.Event


class Gate:
    """A `Pace` shared by event loops, on a clock in seconds."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace = Pace(limits)
        self._clock = clock
        self._lock = threading.Lock()
        self._waiters: deque[_Waiter] = deque()

    def join(self, limits: Limits) -> None:
        """Another role goes through this gate."""
        with self._lock:
            self.pace.tighten(limits)

    async def enter(self, tokens: int) -> Passage:
        """Wait until an attempt of so many tokens at most may start."""
        while True:
            waiter = _Waiter(asyncio.get_running_loop(), asyncio.Event())
            with self._lock:
                wait_s = self.pace.wait_s(self._clock(), tokens)
                if wait_s == 0:
                    return self.pace.start(self._clock(), tokens)
                if math.isinf(wait_s):
                    self._waiters.append(waiter)
            if math.isinf(wait_s):
                await self._wait_for_turn(waiter)
            else:
                await asyncio.sleep(min(wait_s, LOOK_AGAIN_S))

    async def _wait_for_turn(self, waiter: _Waiter) -> None:
        try:
            async with asyncio.timeout(LOOK_AGAIN_S):
                await waiter.turn.wait()
        except TimeoutError:
            return
        finally:
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif not waiter.turn.is_set():
                    self._call_next()  # called, but gone by then: the turn is the next one's

    def leave(self, passage: Passage, load: Load, tokens: int, pause_s: float = 0.0) -> None:
        """An attempt is back; the endpoint is not asked for `pause_s` from now."""
        with self._lock:
            now = self._clock()
            self.pace.end(passage, now, load, tokens)
            if pause_s > 0:
                self.pace.pause(now + pause_s)
            for _ in range(max(1, int(self.pace.window)) - self.pace.in_flight):
                self._call_next()

    def _call_next(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.loop.is_closed():
                waiter.loop.call_soon_threadsafe(waiter.turn.set)
                return
