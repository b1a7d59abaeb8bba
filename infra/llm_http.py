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
from infra.runtime import Endpoint, secret

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
# A refused connection is no overload: a server that is not there by then is not there.
UNREACHABLE_FOR_S = 8.0
_REFUSED_FOR_GOOD = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class EndpointError(RuntimeError):
    """An endpoint that cannot be used; the message names role, model, address and remedy, never the key."""


class Trouble(NamedTuple):
    """Why an attempt failed.

    Attributes:
        is_final: the endpoint refuses this request every time.
        is_unreachable: no connection was made.
        retry_after_s: what the endpoint asks to wait; 0 where it does not say.
    """

    text: str
    is_final: bool = False
    is_unreachable: bool = False
    retry_after_s: float = 0.0


class Completed(NamedTuple):
    """A chat completion as it came, and the row cache's value of each of its samples."""

    body: dict[str, Any]
    samples: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Address:
    """A model in a role at an endpoint."""

    role: str
    model: str
    endpoint: Endpoint

    def __str__(self) -> str:
        return f"{self.role} ({self.model} at {self.endpoint.base_url})"


class HttpChat:
    """One HTTP client within one event loop. It is opened at first use, so that a full cache needs no endpoint."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._http: AsyncOpenAI | None = None
        self._jitter = random.Random()
        self.num_replies = 0

    async def ask(self, request: ChatRequest, first: int, count: int) -> Completed | Trouble:
        """Samples `first`, `first + 1`, … of a request, `count` or as few as the endpoint gives; or why there are none.

        Raises:
            EndpointError: no request can succeed, or none did while this one was tried again and again.
        """
        http = self._client()  # before the clock starts: importing the package takes seconds
        started, replies_before = time.monotonic(), self.num_replies
        trouble, seconds, attempt = Trouble(""), 0.0, 0
        for attempt in range(self._address.endpoint.max_attempts):
            if attempt:
                await asyncio.sleep(backoff_s(attempt - 1, trouble.retry_after_s, self._jitter))
            result = await self._attempt(http, request, first, count)
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

    async def _attempt(self, http: AsyncOpenAI, request: ChatRequest, first: int, count: int) -> Completed | Trouble:
        try:
            # The limit of httpx is one of silence; a reply that trickles needs one of the whole request.
            async with asyncio.timeout(self._address.endpoint.timeout_s):
                reply = await http.chat.completions.with_raw_response.create(
                    **request_body(self._address, request, first, count)
                )
            body = json.loads(reply.content)
            return Completed(body, split_completion(body)[:count])
        except Exception as error:
            return read_trouble(error, self._address)

    def _client(self) -> AsyncOpenAI:
        if self._http is None:
            self._http = _open_http(self._address.endpoint)
        return self._http

    async def close(self) -> None:
        """Close the HTTP client."""
        if self._http is not None:
            await self._http.close()


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

    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Trouble(f"no reply within timeout_s = {address.endpoint.timeout_s:g}")
    if isinstance(error, openai.APIStatusError):
        return _read_status(error, address)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return Trouble(f"{type(cause).__name__}: {cause}", is_unreachable=type(cause).__name__ == "ConnectError")
    if isinstance(error, GarbledReplyError | json.JSONDecodeError | UnicodeDecodeError):
        return Trouble(f"garbled reply: {error}")
    raise error


def _read_status(error: APIStatusError, address: Address) -> Trouble:
    status, text = error.status_code, f"HTTP {error.status_code}: {error.message[:300]}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        variable = address.endpoint.api_key_env
        remedy = f"export a valid key in {variable}" if variable else "name the key's variable as `api_key_env`"
        # The endpoint's own words may quote the key.
        raise EndpointError(f"{address} refuses the key (HTTP {status}); {remedy}, then run again")
    if status == HTTPStatus.NOT_FOUND:
        raise EndpointError(f"{address}: {text}; correct base_url in the profile or the model's name in the recipe")
    if error.code == "insufficient_quota":
        raise EndpointError(f"{address}: the quota is used up ({text}); add credit, then run again")
    wait_s = _retry_after_s(error.response.headers.get("retry-after"))
    return Trouble(text, is_final=status in _REFUSED_FOR_GOOD, retry_after_s=wait_s)


def _retry_after_s(header: str | None) -> float:
    try:
        return float(header or 0)
    except ValueError:
        return 0.0  # a date: our own waiting serves as well


def _open_http(endpoint: Endpoint) -> AsyncOpenAI:
    from httpx2 import Limits  # the HTTP library of the openai package
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    limits = Limits(max_connections=endpoint.max_concurrency, max_keepalive_connections=endpoint.max_concurrency)
    # A proxy of the environment must not get between us and a server on this machine.
    is_remote = urlsplit(endpoint.base_url).hostname not in _LOOPBACK
    return AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=secret(endpoint.api_key_env),
        timeout=endpoint.timeout_s,
        max_retries=0,  # retries are ours: they know which failures are worth one
        http_client=DefaultAsyncHttpxClient(limits=limits, trust_env=is_remote, timeout=endpoint.timeout_s),
    )
