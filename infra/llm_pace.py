"""How fast an endpoint is asked: concurrency that follows its load, and rates. A pure state machine; time is handed in.

Concurrency rises by one a round and falls by half (additive increase, multiplicative decrease: Chiu & Jain 1989), as
TCP's does, since the client sees of an endpoint what a sender sees of a network: refusals and delay.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

MINUTE_S = 60.0
# At a refusal or a time-out; and at a reply that was only slow.
CUT, EASE = 0.5, 0.8


class Load(StrEnum):
    """What an attempt said of the endpoint's load."""

    LIGHT = "light"
    SLOW = "slow"
    OVERLOADED = "overloaded"
    UNKNOWN = "unknown"


class Limits(NamedTuple):
    """The most that an endpoint is asked."""

    max_concurrency: int
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def tightened(self, other: Limits) -> Limits:
        """For two roles at one address: the lower rates; each role keeps to its own concurrency by itself."""
        return Limits(
            max(self.max_concurrency, other.max_concurrency),
            _lower(self.requests_per_minute, other.requests_per_minute),
            _lower(self.tokens_per_minute, other.tokens_per_minute),
        )


def _lower(one: int | None, other: int | None) -> int | None:
    return min((rate for rate in (one, other) if rate is not None), default=None)


@dataclass(slots=True)
class Passage:
    """An attempt on its way; `tokens` is a worst case until it is back."""

    at: float
    tokens: int


class Pace:
    """Admits attempts one by one.

    Attributes:
        window: attempts that may be in flight, between 1 and `max_concurrency`.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.window = float(limits.max_concurrency)
        self.in_flight = 0
        self._minute: deque[Passage] = deque()
        self._paused_until = self._cut_at = -math.inf

    def tighten(self, limits: Limits) -> None:
        """Another role shares the endpoint."""
        was_full = self.window >= self.limits.max_concurrency
        self.limits = self.limits.tightened(limits)
        if was_full:
            self.window = float(self.limits.max_concurrency)

    def wait_s(self, now: float, tokens: int) -> float:
        """Seconds until an attempt may start: 0 for at once, infinity for when another one is back."""
        if self.in_flight >= max(1, int(self.window)):
            return math.inf
        while self._minute and self._minute[0].at + MINUTE_S <= now:
            self._minute.popleft()
        return max(0.0, self._paused_until - now, self._wait_for_requests(now), self._wait_for_tokens(now, tokens))

    def _wait_for_requests(self, now: float) -> float:
        most = self.limits.requests_per_minute
        if most is None or len(self._minute) < most:
            return 0.0
        return self._minute[len(self._minute) - most].at + MINUTE_S - now

    def _wait_for_tokens(self, now: float, tokens: int) -> float:
        most = self.limits.tokens_per_minute
        if most is None:
            return 0.0
        over = sum(passage.tokens for passage in self._minute) + tokens - most
        wait_s = 0.0
        for passage in self._minute:
            if over <= 0:
                break
            over -= passage.tokens
            wait_s = passage.at + MINUTE_S - now
        return wait_s  # a request that is over the limit by itself has a minute to itself

    def start(self, now: float, tokens: int) -> Passage:
        """An attempt starts, for which `wait_s` is 0."""
        passage = Passage(now, tokens)
        self._minute.append(passage)
        self.in_flight += 1
        return passage

    def end(self, passage: Passage, now: float, load: Load, tokens: int) -> None:
        """An attempt is back, and used so many tokens."""
        self.in_flight -= 1
        passage.tokens = tokens
        if load is Load.LIGHT:
            self.window = min(float(self.limits.max_concurrency), self.window + 1.0 / self.window)
        elif load in {Load.OVERLOADED, Load.SLOW} and passage.at > self._cut_at:
            # Once a round: all that was in flight when the endpoint was overloaded tells of the same overload.
            self.window = max(1.0, self.window * (CUT if load is Load.OVERLOADED else EASE))
            self._cut_at = now

    def pause(self, until: float) -> None:
        """The endpoint asks not to be asked for a while."""
        self._paused_until = max(self._paused_until, until)
