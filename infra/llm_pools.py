"""Connections to an endpoint: several small pools, and the key that goes with every request and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from infra.config import ConfigError
from infra.runtime import Endpoint, secret

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# The HTTP library walks all connections of a pool at every request: time goes with the square of a pool's size.
POOL_SIZE = 32
# A shorter key is a dummy, and may be part of a word.
SHORTEST_KEY = 8
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
Text = TypeVar("Text", str, bytes)


class Pools:
    """HTTP clients of one event loop; a request takes the one with the fewest in flight."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.key = key_of(endpoint)
        self._clients: list[AsyncOpenAI] = []
        self._in_flight: list[int] = []

    def open(self) -> None:
        """Make the clients, once."""
        if not self._clients:
            size = -(-self._endpoint.max_concurrency // POOL_SIZE)
            self._clients = [_open_http(self._endpoint, self.key) for _ in range(size)]
            self._in_flight = [0] * size

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncOpenAI]:
        """A client for one request."""
        self.open()
        at = self._in_flight.index(min(self._in_flight))
        self._in_flight[at] += 1
        try:
            yield self._clients[at]
        finally:
            self._in_flight[at] -= 1

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.close()


def key_of(endpoint: Endpoint) -> str:
    """The endpoint's key as it is sent. A line break at its end, as files have one, would make an HTTP header of two.

    Raises:
        ConfigError: the environment variable that should hold it is not set, or holds what no header takes.
    """
    key = secret(endpoint.api_key_env).strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"environment variable {endpoint.api_key_env} holds more than a key; export the key alone")
    return key


def hide(text: Text, key: str) -> Text:
    """The text with *** where an endpoint quotes the key back to us: it must not reach a cache, a log or an error."""
    if len(key) < SHORTEST_KEY:
        return text
    return text.replace(key, "***") if isinstance(text, str) else text.replace(key.encode(), b"***")


def _open_http(endpoint: Endpoint, key: str) -> AsyncOpenAI:
    from httpx2 import Limits  # the HTTP library of the openai package
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    limits = Limits(max_connections=POOL_SIZE, max_keepalive_connections=POOL_SIZE)
    # A proxy of the environment must not get between us and a server on this machine.
    is_remote = urlsplit(endpoint.base_url).hostname not in _LOOPBACK
    return AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=key,
        timeout=endpoint.timeout_s,
        max_retries=0,  # retries are ours: they know which failures are worth one
        http_client=DefaultAsyncHttpxClient(limits=limits, trust_env=is_remote, timeout=endpoint.timeout_s),
    )
