"""What a client used: tokens, money, and rows that cost nothing. Safe from threads."""

from __future__ import annotations

import threading

from infra.llm_price import NUSD, Bill, Tokens


class LlmUsage:
    """Counts since the last `take`.

    Attributes:
        prompt_tokens, completion_tokens: as endpoints report them, of every reply that came whole.
        usd: what those cost at the endpoint's prices, and `assumed_usd`.
        assumed_usd: part of `usd` for attempts that the endpoint may charge without our knowing how much (no reply
            within the time, a connection that broke, a reply without a count), at the most that they can cost.
        assumed_replies: how many those were.
        cache_hits: samples that cost nothing: from the row cache, or asked at the same time by somebody else.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.prompt_tokens = self.completion_tokens = self.cache_hits = self.assumed_replies = 0
        self._nusd = self._assumed_nusd = 0

    @property
    def usd(self) -> float:
        """All that was or may have been paid."""
        return self._nusd / NUSD

    @property
    def assumed_usd(self) -> float:
        """The part of it that is a worst case."""
        return self._assumed_nusd / NUSD

    def pay(self, bill: Bill, nusd: int) -> None:
        """Count one attempt that the endpoint may charge."""
        tokens = bill.tokens or Tokens(0, 0)
        with self._lock:
            self.prompt_tokens += tokens.prompt
            self.completion_tokens += tokens.completion
            self._nusd += nusd
            if bill.is_due and bill.tokens is None:
                self.assumed_replies += 1
                self._assumed_nusd += nusd

    def hit(self, num_samples: int) -> None:
        """Count samples that cost nothing."""
        with self._lock:
            self.cache_hits += num_samples

    def take(self) -> dict[str, float]:
        """The counts of `Output.spend`; counting starts again at zero."""
        with self._lock:
            counts: dict[str, float] = {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "usd": self.usd,
                "cache_hits": self.cache_hits,
            }
            self._reset()
        return counts
