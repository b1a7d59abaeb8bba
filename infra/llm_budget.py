"""A hard budget: the worst case of an attempt is reserved before it is sent, and settled when it is back.

An account is a file of the store that only grows, so that spending outlives the process that spent: whoever runs again
counts what was paid before. Reservations that a killed process left unsettled stay counted in full, since the endpoint
may have charged them.
"""

from __future__ import annotations

import fcntl
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from infra.llm_price import usd


class Fit(StrEnum):
    """Whether an attempt may be sent."""

    NOW = "now"
    LATER = "later"  # what is in flight may cost less than was reserved for it
    NEVER = "never"


class Account:
    """Money that was paid or is reserved: a pure state machine of what the account's file says, in nano-dollars.

    Attributes:
        paid: settled, `assumed` included.
        assumed: part of it for attempts whose real cost is not known, at the most that they can cost.
        pending: reservation → the most that it can cost.
    """

    def __init__(self) -> None:
        self.paid = self.assumed = 0
        self.pending: dict[str, int] = {}

    @property
    def used(self) -> int:
        """The most that can have been spent so far."""
        return self.paid + sum(self.pending.values())

    def fit(self, limit: int, worst: int, mine: frozenset[str] | set[str]) -> Fit:
        """Whether `worst` more stays within the limit; what is `mine` among the pending will be settled for sure."""
        if self.used + worst <= limit:
            return Fit.NOW
        lasting = self.used - sum(nusd for id_, nusd in self.pending.items() if id_ in mine)
        return Fit.LATER if lasting + worst <= limit else Fit.NEVER

    def apply(self, entry: list[Any]) -> None:
        """Take in a line of the file: `["reserve", id, nusd]` or `["settle", id, nusd, assumed]`."""
        kind, id_, nusd, *more = entry
        if kind == "reserve":
            self.pending[id_] = nusd
        elif self.pending.pop(id_, None) is not None:  # settled twice counts once
            self.paid += nusd
            self.assumed += sum(more)


class Spending(NamedTuple):
    """What an account came to, in nano-dollars.

    Attributes:
        name, limit: of the budget.
        paid, assumed: see `Account`.
        pending: reserved and not settled: in flight, or left by a process that was killed.
    """

    name: str
    limit: int
    paid: int
    assumed: int
    pending: int

    @property
    def left(self) -> int:
        """What may still be spent."""
        return max(0, self.limit - self.paid - self.pending)

    def __str__(self) -> str:
        parts = [
            f"{usd(amount)} of it {why}"
            for amount, why in (
                (self.assumed, "for replies that never came whole, at their worst case"),
                (self.pending, "reserved for requests in flight or left by a killed process"),
            )
            if amount
        ]
        told = f"{usd(self.paid + self.pending)} of {usd(self.limit)} used"
        return f"{told} ({', '.join(parts)})" if parts else told


class Budget:
    """An account with a limit. Safe from threads and processes of one machine: one at a time reads on, and writes."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._path = path
        self._account = Account()
        self._mine: set[str] = set()
        self._read_to = 0
        self._lock = threading.Lock()

    def reserve(self, limit: int, worst: int, id_: str = "") -> str | Fit:
        """Reserve `worst`; the reservation's id, or why there is none now."""
        with self._turn() as file:
            fit = self._account.fit(limit, worst, self._mine)
            if fit is not Fit.NOW:
                return fit
            id_ = id_ or uuid.uuid4().hex
            self._write(file, ["reserve", id_, worst])
            self._mine.add(id_)
            return id_

    def settle(self, id_: str, nusd: int, assumed: int = 0) -> None:
        """Put the real cost in the place of the reservation; `assumed` is the part of it that is a worst case."""
        with self._turn() as file:
            self._write(file, ["settle", id_, nusd, assumed])
            self._mine.discard(id_)

    def spending(self, limit: int) -> Spending:
        """What was spent until now, by all."""
        with self._turn():
            account = self._account
            return Spending(self.name, limit, account.paid, account.assumed, sum(account.pending.values()))

    @contextmanager
    def _turn(self) -> Iterator[BinaryIO]:
        """Hold the file, having read what others have written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(self._read_to)
            for line in file.read().split(b"\n"):
                entry = _read(line)
                if entry is not None:
                    self._account.apply(entry)
            self._read_to = file.tell()
            yield file

    def _write(self, file: BinaryIO, entry: list[Any]) -> None:
        # A killed writer may have left half a line: this one begins on its own, and an empty line says nothing.
        file.write(b"\n" + json.dumps(entry).encode() + b"\n")
        file.flush()
        self._read_to = file.tell()
        self._account.apply(entry)


def _read(line: bytes) -> list[Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None  # empty, or half of one: what it reserved was not sent, what it settled stays reserved
    return entry if isinstance(entry, list) and len(entry) in {3, 4} else None
