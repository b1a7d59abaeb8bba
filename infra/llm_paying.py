"""The till: what attempts cost, in the client's usage and against the endpoint's budget."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from infra.llm_budget import Budget, Fit, Spending
from infra.llm_price import Bill, Tokens, limit_nusd, price_nusd, usd
from infra.llm_usage import LlmUsage
from infra.runtime import Endpoint

# Between two looks whether what was in flight has cost less than was reserved for it.
LOOK_AGAIN_S = 0.05


class Reservation(NamedTuple):
    """Money that is set aside for an attempt; `id` is empty where no budget is kept."""

    id: str
    worst_nusd: int


class Shortfall(NamedTuple):
    """An attempt that the budget does not cover."""

    spending: Spending
    worst_nusd: int

    def __str__(self) -> str:
        return f"{self.spending}, and the next request may cost {usd(self.worst_nusd)}"


class Till:
    """Reserves before an attempt, settles after it."""

    def __init__(self, endpoint: Endpoint, budget: Budget | None, usage: LlmUsage, is_batch: bool = False) -> None:
        self._endpoint, self._budget, self._usage, self._is_batch = endpoint, budget, usage, is_batch

    def for_batches(self) -> Till:
        """The same till at the price of batches."""
        return Till(self._endpoint, self._budget, self._usage, is_batch=True)

    async def reserve(self, worst_nusd: int, id_: str = "") -> Reservation | Shortfall:
        """Set the worst case aside. Waits while what is in flight may turn out cheaper."""
        if self._budget is None:
            return Reservation(id_, worst_nusd)
        limit = limit_nusd(self._endpoint)
        while True:
            found = self._budget.reserve(limit, worst_nusd, id_)
            if found is Fit.NEVER:
                return Shortfall(self._budget.spending(limit), worst_nusd)
            if not isinstance(found, Fit):
                return Reservation(found, worst_nusd)
            await asyncio.sleep(LOOK_AGAIN_S)

    def settle(self, reservation: Reservation, bill: Bill) -> None:
        """Count what an attempt cost: by the endpoint's own count, or at the worst where there is none."""
        nusd = self.count(bill, reservation.worst_nusd)
        self.close(reservation.id, nusd, nusd if bill.is_due and bill.tokens is None else 0)

    def count(self, bill: Bill, worst_nusd: int) -> int:
        """Count a bill in the client's usage alone; what it came to."""
        nusd = self.price(bill.tokens) if bill.tokens else worst_nusd if bill.is_due else 0
        self._usage.pay(bill, nusd)
        return nusd

    def close(self, reservation: str, nusd: int, assumed_nusd: int = 0) -> None:
        """Settle a reservation in the account alone."""
        if self._budget is not None:
            self._budget.settle(reservation, nusd, assumed_nusd)

    def price(self, tokens: Tokens) -> int:
        """Price of tokens here, in nano-dollars."""
        return price_nusd(tokens, self._endpoint, self._is_batch)

    def spending(self) -> Spending | None:
        """How the budget stands; None where there is none."""
        return None if self._budget is None else self._budget.spending(limit_nusd(self._endpoint))
