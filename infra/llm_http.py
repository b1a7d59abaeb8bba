"""The wire below the client of language models: one HTTP request with its retries, and what its failure means."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from infra.chat import ChatRequest, GarbledReplyError, split_completion
from infra.llm_gate import Gate
from infra.llm_headers import pause_s, retry_after_s
from infra.llm_pace import Load
from infra.llm_paying import Shortfall, Till
from infra.llm_pools import Pools, hide, key_of
from infra.llm_price import NOTHING_DUE, WORST_CASE, Bill, Tokens, at_most, bill_of
from infra.runtime import Endpoint

if TYPE_CHECKING:
    from openai import APIStatusError

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
# A refused connection is no overload: a server that is not there by then is not there.
UNREACHABLE_FOR_S = 8.0
REFUSED_FOR_GOOD = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
# A gateway's words about a server behind it, which may have done its work.
_ANSWER_LOST = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT, 524})
_OVERLOADED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, 529, *_ANSWER_LOST})
# Of httpx's errors, those that come before a request is sent.
_UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "LocalProtocolError"})


class EndpointError(RuntimeError):
    """An endpoint that cannot be used; the message names role, model, address and remedy, never the key."""


class BudgetError(EndpointError):
    """The next request would not fit into the endpoint's budget; what is done is kept."""


class Trouble(NamedTuple):
    """Why an attempt failed.

    Attributes:
        is_final: the endpoint refuses this request every time.
        is_unreachable: no connection was made.
        retry_after_s: what the endpoint asks to wait; 0 where it does not say.
        bill: what the endpoint may charge for the attempt all the same.
        load: what the attempt says of the endpoint's load.
    """

    text: str
    is_final: bool = False
    is_unreachable: bool = False
    retry_after_s: float = 0.0
    bill: Bill = NOTHING_DUE
    load: Load = Load.UNKNOWN


CANCELLED = Trouble("cancelled", bill=WORST_CASE)
UNSENT = Trouble("not sent")


class Completed(NamedTuple):
    """A chat completion that was read: its bill, and the row cache's value of each of its samples."""

    samples: list[dict[str, Any]]
    bill: Bill
    load: Load = Load.LIGHT


class Attempt(NamedTuple):
    """How an attempt ended, and how long the endpoint then wants to be left alone."""

    result: Completed | Trouble
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Address:
    """A model in a role at an endpoint."""

    role: str
    model: str
    endpoint: Endpoint

    def __str__(self) -> str:
        return f"{self.role} ({self.model} at {self.endpoint.base_url})"


class HttpChat:
    """HTTP clients within one event loop. They are opened at first use, so that a full cache needs no endpoint."""

    def __init__(self, address: Address, gate: Gate, till: Till) -> None:
        self._address, self._gate, self._till = address, gate, till
        self._pools = Pools(address.endpoint)
        self._jitter = random.Random()
        self.num_replies = 0

    async def ask(self, request: ChatRequest, first: int, count: int) -> Completed | Trouble:
        """Samples `first`, `first + 1`, … of a request, `count` or as few as the endpoint gives; or why there are none.

        Raises:
            EndpointError: no request can succeed, or none did while this one was tried again and again.
            BudgetError: the next attempt could cost more than the budget has left.
        """
        self._pools.open()  # before the clock starts: importing the package takes seconds
        started, replies_before = time.monotonic(), self.num_replies
        trouble, seconds, attempt = Trouble(""), 0.0, 0
        for attempt in range(self._address.endpoint.max_attempts):
            if attempt:
                await asyncio.sleep(backoff_s(attempt - 1, trouble.retry_after_s, self._jitter))
            result = await self._attempt(request, first, count)
            if isinstance(result, Completed):
                self.num_replies += 1
                return result
            trouble, seconds = result, time.monotonic() - started
            if trouble.is_final:
                return trouble
            if trouble.is_unreachable and seconds > UNREACHABLE_FOR_S:
                break
        if self.num_replies == replies_before:
            raise EndpointError(
                f"{self._address} gives no reply ({attempt + 1} attempts in {seconds:.0f} s, and no other request got "
                f"one meanwhile): {trouble.text}; start it, or correct [endpoints.{self._address.role}] in the "
                "profile, then run again: finished replies are kept"
            )
        return trouble

    async def _attempt(self, request: ChatRequest, first: int, count: int) -> Completed | Trouble:
        """One attempt through the gate, with its worst case reserved."""
        worst = at_most(request, count)
        passage = await self._gate.enter(worst.total)
        done = Attempt(UNSENT)
        try:
            done = await self._attempt_paid(request, first, count, worst)
        finally:
            used = _tokens_used(done.result.bill, worst)
            self._gate.leave(passage, done.result.load, used, min(done.pause_s, self._address.endpoint.longest_wait_s))
        return done.result

    async def _attempt_paid(self, request: ChatRequest, first: int, count: int, worst: Tokens) -> Attempt:
        reservation = await self._till.reserve(self._till.price(worst))
        if isinstance(reservation, Shortfall):
            raise BudgetError(str(reservation))
        done = Attempt(CANCELLED)
        try:
            done = await self._send(request, first, count)
        except EndpointError:
            done = Attempt(UNSENT)  # the key, the model or the quota is refused: nothing was done
            raise
        finally:
            self._till.settle(reservation, done.result.bill)
        return done

    async def _send(self, request: ChatRequest, first: int, count: int) -> Attempt:
        endpoint, started = self._address.endpoint, time.monotonic()
        body = request_body(self._address, request, first, count)
        try:
            # The limit of httpx is one of silence; a reply that trickles needs one of the whole request.
            async with asyncio.timeout(endpoint.timeout_s), self._pools.client() as http:
                reply = await http.chat.completions.with_raw_response.create(**body)
        except Exception as error:
            failure = error
        else:
            result = read_reply(hide(reply.content, self._pools.key), count)
            if isinstance(result, Completed) and time.monotonic() - started > slow_s(endpoint):
                result = result._replace(load=Load.SLOW)
            return Attempt(result, pause_s(reply.headers, _tokens_used(result.bill, Tokens(0, 1))))
        # Outside of the except, so that no error of ours carries one that may quote the key.
        trouble = read_trouble(failure, self._address)
        return Attempt(trouble._replace(text=hide(trouble.text, self._pools.key)[:300]), _pause_of(failure))

    async def close(self) -> None:
        """Close the HTTP clients."""
        await self._pools.close()


def slow_s(endpoint: Endpoint) -> float:
    """Seconds after which a reply counts as slow."""
    return endpoint.timeout_s / 2 if endpoint.slow_s is None else endpoint.slow_s


def read_reply(content: bytes, count: int | None) -> Completed | Trouble:
    """A reply that came whole, no more than `count` samples of it. One that cannot be read may be charged as well."""
    body: Any = None
    try:
        body = json.loads(content)
        return Completed(split_completion(body)[:count], bill_of(body))
    except (GarbledReplyError, ValueError, RecursionError) as error:
        return Trouble(f"garbled reply: {error}", bill=bill_of(body))


def _pause_of(error: Exception) -> float:
    import openai

    return pause_s(error.response.headers, 1) if isinstance(error, openai.APIStatusError) else 0.0


def _tokens_used(bill: Bill, worst: Tokens) -> int:
    if not bill.is_due:
        return 0
    return (bill.tokens or worst).total


def request_body(address: Address, request: ChatRequest, first: int, count: int) -> dict[str, Any]:
    """Arguments of the chat completion for samples `first` … `first + count - 1`."""
    sampling = request.sampling
    # OpenAI's reasoning models refuse `max_tokens`; most other servers know no other name.
    is_openai = (urlsplit(address.endpoint.base_url).hostname or "").endswith("openai.com")
    optional: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": None if request.seed is None else request.seed + first,
        "n": count if count > 1 else None,
    }
    return {
        "model": address.model,
        "messages": [dict(message) for message in request.messages],
        "max_completion_tokens" if is_openai else "max_tokens": sampling.max_tokens,
        **{name: value for name, value in optional.items() if value is not None},
    }


def backoff_s(attempt: int, retry_after_s: float, rng: random.Random) -> float:
    """Seconds to wait after attempt 0, 1, …: 0.5 doubled each time, ± 25 % so that workers do not march in step."""
    wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt) * rng.uniform(0.75, 1.25)
    return max(wait_s, min(LONGEST_WAIT_S, retry_after_s))


def read_trouble(error: Exception, address: Address) -> Trouble:
    """Classify the exception of one attempt.

    Raises:
        EndpointError: no request can succeed (key refused, model unknown, quota used up).
        Exception: the error itself, where it says nothing about the endpoint.
    """
    import openai

    cause = error.__cause__ or error
    bill = NOTHING_DUE if type(cause).__name__ in _UNSENT else WORST_CASE
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        text = f"no reply within timeout_s = {address.endpoint.timeout_s:g}"
        return Trouble(text, bill=bill, load=Load.OVERLOADED)
    if isinstance(error, openai.APIStatusError):
        return _read_status(error, address)
    if isinstance(error, openai.APIConnectionError):
        is_unreachable = type(cause).__name__ == "ConnectError"
        return Trouble(f"{type(cause).__name__}: {cause}", is_unreachable=is_unreachable, bill=bill)
    raise error


def _read_status(error: APIStatusError, address: Address) -> Trouble:
    status = error.status_code
    text = hide(f"HTTP {status}: {error.message}", key_of(address.endpoint))[:300]
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        variable = address.endpoint.api_key_env
        remedy = f"export a valid key in {variable}" if variable else "name the key's variable as `api_key_env`"
        # The endpoint's own words may quote a part of the key.
        raise EndpointError(f"{address} refuses the key (HTTP {status}); {remedy}, then run again")
    if status == HTTPStatus.NOT_FOUND:
        raise EndpointError(f"{address}: {text}; correct base_url in the profile or the model's name in the recipe")
    if error.code == "insufficient_quota":
        raise EndpointError(f"{address}: the quota is used up ({text}); add credit, then run again")
    return Trouble(
        text,
        is_final=status in REFUSED_FOR_GOOD,
        retry_after_s=retry_after_s(error.response.headers),
        bill=WORST_CASE if status in _ANSWER_LOST else NOTHING_DUE,
        load=Load.OVERLOADED if status in _OVERLOADED else Load.UNKNOWN,
    )
