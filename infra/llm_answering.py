"""Between the row cache and the wire: which samples of a request are there, which are asked for, what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from infra.chat import ChatReply, ChatRequest, reply_of
from infra.llm_flights import arrival
from infra.llm_http import Address, BudgetError, EndpointError, HttpChat, Trouble
from infra.llm_paying import Till
from infra.llm_sharing import shared_by
from infra.llm_usage import LlmUsage
from infra.row_cache import RowCache

# So many refusals without one reply are a wrong model or parameter, not so many bad prompts.
MAX_REFUSALS = 16


@dataclass
class Sought:
    """The samples of a request, as far as they have come."""

    request: ChatRequest
    keys: list[str]
    replies: dict[int, ChatReply] = field(default_factory=dict)

    @property
    def missing(self) -> list[int]:
        """Indices of samples that have not come."""
        return [index for index in range(len(self.keys)) if index not in self.replies]


@dataclass
class Answering:
    """Answers requests within one event loop, and remembers what went wrong.

    Attributes:
        shortfall: why the budget did not cover a request; empty while it covers all.
    """

    address: Address
    cache: RowCache
    usage: LlmUsage
    delivered: int = 0
    refusals: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    shortfall: str = ""

    def __post_init__(self) -> None:
        shared = shared_by(self.cache)
        role, endpoint = self.address.role, self.address.endpoint
        self.till = Till(endpoint, shared.budget(role, endpoint), self.usage)
        self.flights = shared.flights
        self._http = HttpChat(self.address, shared.gate(endpoint), self.till)

    async def answer(self, request: ChatRequest) -> list[ChatReply]:
        """All samples, by index; those that failures or the budget kept from coming are missing.

        Raises:
            EndpointError: no request can succeed.
        """
        sought = Sought(request, request.cache_keys(self.address.model))
        if self.shortfall:
            self._find(sought, sought.missing)
        while sought.missing and not self.shortfall:
            boarding = self.flights.board(sought.keys[index] for index in sought.missing)
            trouble = await self._fly(sought, boarding.mine)
            if trouble is not None and not trouble.is_final:
                break
            await self._wait_for(sought, boarding.others)
        return [sought.replies[index] for index in sorted(sought.replies)]

    async def _fly(self, sought: Sought, mine: set[str]) -> Trouble | None:
        """Find or ask for the samples that are ours to ask for; why some did not come, or None."""
        told = None
        try:
            # Only now, and not before boarding: whoever landed a key in between had put its answer there first.
            self._find(sought, [index for index in sought.missing if sought.keys[index] in mine])
            asked = [index for index in sought.missing if sought.keys[index] in mine]
            trouble = await self._ask(sought, asked)
            if trouble is not None:
                told = trouble.text if trouble.is_final else None
                self._give_up(sought, [index for index in asked if index not in sought.replies], trouble)
            return trouble
        finally:
            self.flights.land(mine, told)

    def _find(self, sought: Sought, indices: Sequence[int]) -> None:
        """Take samples from the row cache."""
        values = {index: value for index in indices if (value := self.cache.get(sought.keys[index])) is not None}
        self.usage.hit(len(values))
        self.delivered += len(values)
        sought.replies |= {index: reply_of(value, index, is_cached=True) for index, value in values.items()}

    async def _ask(self, sought: Sought, asked: Sequence[int]) -> Trouble | None:
        """Ask for samples and take them into the row cache; why some did not come, or None."""
        missing = list(asked)
        while missing and not self.shortfall:
            run = first_run(missing)
            try:
                result = await self._http.ask(sought.request, run[0], len(run))
            except BudgetError as error:
                self.shortfall = str(error)
                return None
            if isinstance(result, Trouble):
                return result
            for index, value in zip(run, result.samples, strict=False):
                self.cache.put(sought.keys[index], value)
                sought.replies[index] = reply_of(value, index, is_cached=False)
            self.delivered += len(result.samples)
            # An endpoint may give fewer samples than it was asked for; the rest is asked again.
            missing = missing[len(result.samples) :]
        return None

    async def _wait_for(self, sought: Sought, others: Mapping[str, Future[str | None]]) -> None:
        """Samples that somebody else is asking for: in the cache by then, refused for good, or ours to ask for."""
        told = {key: await arrival(flight) for key, flight in others.items()}
        self._find(sought, [index for index in sought.missing if sought.keys[index] in others])
        refused = [index for index in sought.missing if told.get(sought.keys[index])]
        if refused:
            self._give_up(sought, refused, Trouble(told[sought.keys[refused[0]]] or "", is_final=True))

    def _give_up(self, sought: Sought, indices: Sequence[int], trouble: Trouble) -> None:
        if not trouble.is_final:
            self.failures.append(trouble.text)
            return
        self.refusals.append(trouble.text)
        if len(self.refusals) >= MAX_REFUSALS:
            self._check_refusals()
        sought.replies |= {index: ChatReply(sample_index=index, refusal=trouble.text) for index in indices}

    def check(self, num_left: int = 0) -> None:
        """Look back when all is asked; `num_left` samples were not.

        Raises:
            BudgetError: the budget is used up.
            EndpointError: requests stayed without a reply, or nothing but refusals came.
        """
        self._check_refusals()
        if self.shortfall:
            raise self.budget_error(num_left)
        if self.failures:
            raise EndpointError(
                f"{self.address}: {len(self.failures)} requests failed after {self.address.endpoint.max_attempts} "
                f"attempts each, such as: {self.failures[0]}; {self.delivered} samples are kept: run again for the rest"
            )

    def budget_error(self, num_left: int) -> BudgetError:
        """The budget is used up: which, what was done, what is left, and how to go on."""
        endpoint, role = self.address.endpoint, self.address.role
        account = endpoint.budget_account or role
        return BudgetError(
            f"{self.address}: the budget of {endpoint.budget_usd:g} USD (account `{account}`) does not cover the rest: "
            f"{self.shortfall}; {self.delivered} samples are done and kept, {num_left} are left; raise budget_usd in "
            f"[endpoints.{role}], or name another budget_account, then run again: what is done is not paid again"
        )

    def _check_refusals(self) -> None:
        if self.refusals and not self.delivered:
            raise EndpointError(
                f"{self.address} refuses whatever it is asked ({len(self.refusals)} requests so far): "
                f"{self.refusals[0]}; correct the model or the sampling values in the recipe, then run again"
            )

    async def close(self) -> None:
        """Close the HTTP clients."""
        await self._http.close()


def first_run(indices: Sequence[int]) -> list[int]:
    """The first consecutive indices: one HTTP request can draw them with one seed."""
    return [index for offset, index in enumerate(indices) if index == indices[0] + offset]
