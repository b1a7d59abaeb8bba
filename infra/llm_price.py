"""What a request costs at most, and what its reply cost: whole billionths of a dollar, whose sums are exact."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

from infra.chat import ChatRequest, usage_of
from infra.runtime import Endpoint

NUSD = 10**9
# What a chat template may add to a turn, and to the dialog: role names, separators, a system prompt of its own.
TEMPLATE_TOKENS = 64


class Tokens(NamedTuple):
    """Tokens of an HTTP request, over all of its samples."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        """Both."""
        return self.prompt + self.completion


class Bill(NamedTuple):
    """What an attempt leaves to be paid.

    Attributes:
        is_due: the endpoint may charge for it.
        tokens: what it says that it used; None where it did not say, or its words did not arrive.
    """

    is_due: bool
    tokens: Tokens | None = None


NOTHING_DUE = Bill(is_due=False)
# Sent, and no reply read: the endpoint may have done all of the work.
WORST_CASE = Bill(is_due=True)


def at_most(request: ChatRequest, num_samples: int) -> Tokens:
    """More tokens than a request can take: no tokenizer makes more of a text than it has bytes.

    The prompt counts once a sample, since some endpoints charge it so.
    """
    sizes = [sum(len(text.encode()) for text in message.values()) for message in request.messages]
    prompt = sum(sizes) + TEMPLATE_TOKENS * (len(sizes) + 1)
    return Tokens(prompt * num_samples, request.sampling.max_tokens * num_samples)


def price_nusd(tokens: Tokens, endpoint: Endpoint, is_batch: bool = False) -> int:
    """Price of tokens, rounded up."""
    # By way of their decimal text: 0.1 is a tenth.
    prompt, completion = (
        Fraction(str(price))
        for price in (endpoint.usd_per_million_prompt_tokens, endpoint.usd_per_million_completion_tokens)
    )
    usd = (prompt * tokens.prompt + completion * tokens.completion) / 10**6
    return math.ceil(usd * (Fraction(str(endpoint.batch_price)) if is_batch else 1) * NUSD)


def limit_nusd(endpoint: Endpoint) -> int:
    """The budget, rounded down."""
    return math.floor(Fraction(str(endpoint.budget_usd or 0)) * NUSD)


def bill_of(body: Any) -> Bill:
    """The bill of a reply that came whole, read or not: by its own count, if it has one."""
    try:
        used = usage_of(body)
    except (AttributeError, TypeError, ValueError):
        return WORST_CASE
    # No server answers without a prompt: zeros are a server that does not count.
    if used["prompt_tokens"] <= 0 or used["completion_tokens"] < 0:
        return WORST_CASE
    return Bill(True, Tokens(used["prompt_tokens"], used["completion_tokens"]))


def usd(nusd: int) -> str:
    """An amount for people; never less than it is by more than the last digit shown.

    >>> usd(4_982_100_000)
    '$4.9821'
    """
    return f"${nusd / NUSD:,.4f}"
