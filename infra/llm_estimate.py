"""What asking would cost at most, told before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from infra.chat import ChatRequest
from infra.llm_answering import Answering
from infra.llm_price import NUSD, Tokens, at_most, usd


class Estimate(NamedTuple):
    """An upper bound, but for attempts that have to be repeated.

    Attributes:
        who: role, model and address.
        cached: samples that the row cache has, or that equal others of the same call.
        to_ask: samples that would be paid.
        tokens: at most, over all of them.
        usd: at most.
        left_usd: what the budget has left; None where there is none.
    """

    who: str
    cached: int
    to_ask: int
    tokens: Tokens
    usd: float
    left_usd: float | None = None

    @property
    def fits(self) -> bool:
        """False where the budget may not cover all: then what it covers is done, and the rest refused."""
        return self.left_usd is None or self.usd <= self.left_usd

    def __str__(self) -> str:
        told = f"{self.who}: {self.cached:,} samples are there, {self.to_ask:,} to ask"
        if not self.to_ask:
            return told
        told += (
            f", at most {self.tokens.prompt:,} + {self.tokens.completion:,} tokens and {usd(round(self.usd * NUSD))}"
        )
        if self.left_usd is None:
            return told
        return f"{told}; the budget has {usd(round(self.left_usd * NUSD))} left" + ("" if self.fits else ": too little")


class _Part(NamedTuple):
    """Samples of one request that an HTTP request would ask for."""

    request: ChatRequest
    num_samples: int


def estimate(answering: Answering, requests: Iterable[ChatRequest]) -> Estimate:
    """Count what is cached and price the rest at its worst case."""
    endpoint = answering.address.endpoint
    till = answering.till.for_batches() if endpoint.batch else answering.till
    seen: set[str] = set()
    wanted, to_ask, prompt, completion, nusd = 0, 0, 0, 0, 0
    for request in requests:
        wanted += request.num_samples
        for part in _parts(answering, request, seen):
            worst = at_most(part.request, part.num_samples)
            to_ask += part.num_samples
            prompt, completion = prompt + worst.prompt, completion + worst.completion
            nusd += till.price(worst)
    spending = answering.till.spending()
    left = None if spending is None else spending.left / NUSD
    return Estimate(str(answering.address), wanted - to_ask, to_ask, Tokens(prompt, completion), nusd / NUSD, left)


def _parts(answering: Answering, request: ChatRequest, seen: set[str]) -> Iterator[_Part]:
    keys = request.cache_keys(answering.address.model)
    missing = [index for index, key in enumerate(keys) if key not in seen and not answering.cache.has(key)]
    seen.update(keys)
    # Consecutive samples are one HTTP request.
    for _, run in groupby(enumerate(missing), key=lambda pair: pair[1] - pair[0]):
        yield _Part(request, len(list(run)))
