"""Single flight: of equal questions at the same time one is asked, whichever thread or event loop they come from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

Told = TypeVar("Told")


class Boarding(NamedTuple, Generic[Told]):
    """Which keys the caller is to ask for, and which somebody else is asking for just now."""

    mine: set[str]
    others: dict[str, Future[Told | None]]


class Flights(Generic[Told]):
    """Keys that are being asked for. Who boards a key lands it, whatever happens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Future[Told | None]] = {}

    def board(self, keys: Iterable[str]) -> Boarding[Told]:
        """Take on the keys that nobody is asking for."""
        mine: set[str] = set()
        others: dict[str, Future[Told | None]] = {}
        with self._lock:
            for key in keys:
                if key in mine:
                    continue
                if key in self._open:
                    others[key] = self._open[key]
                else:
                    self._open[key] = Future()
                    mine.add(key)
        return Boarding(mine, others)

    def land(self, keys: Iterable[str], told: Told | None = None) -> None:
        """Let those who wait go on: with what was `told`, or None to look for the answer and ask if there is none."""
        for key in keys:
            with self._lock:
                flight = self._open.pop(key)
            flight.set_result(told)


async def arrival(flight: Future[Told | None]) -> Told | None:
    """Wait for a flight. Who stops waiting does not cancel it for the others."""
    return await asyncio.shield(asyncio.wrap_future(flight))
