"""Which judging host to ask next: the least busy of those that answer; a dead one is looked at until it is back."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import Field

from infra.config import Config, ConfigError
from infra.runtime import secret
from infra.sandbox.limits import SandboxError
from tasks.rewards.code_wire import HEALTH_PATH

_CONNECT_S = 5.0
_MOST_SILENT = 3  # looks in a row that a host leaves unanswered before it counts as frozen
_CONNECTED = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})
# A peer that lost its power says nothing; the kernel asks after 15 s of silence, and gives it up after 45 s.
_KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class SandboxHosts(Config):
    """Hosts that run `posttrain sandbox serve`, and how patient we are with them. Changes no verdict."""

    addresses: tuple[str, ...] = Field(min_length=1, description="`http://host:port` of each, or of their balancer")
    token_env: str | None = Field(default=None, description="environment variable that holds the hosts' token")
    waiting_s: float = Field(default=600.0, gt=0, description="in a host's queue, beyond the time of the tests")
    dead_for_s: float = Field(default=120.0, gt=0, description="no host answers for so long: a program is a fault")
    probe_s: float = Field(default=1.0, gt=0, description="between two looks at a host that is down")
    watch_s: float = Field(default=5.0, gt=0, description="between two looks at a host that is judging")
    max_failures: int = Field(default=3, ge=1, description="internal errors on one program before it is a fault")


class NoHostError(SandboxError):
    """No host answers, and none has for a while."""


class Connection:
    """One connection to a host, which another thread may cut while this one waits for an answer."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._socket: socket.socket | None = None

    def post(self, path: str, body: bytes, limit_s: float) -> httpx.Response:
        """The reply to a JSON body within the time."""
        timeout = httpx.Timeout(limit_s, connect=self._client.timeout.connect)
        headers = {"Content-Type": "application/json"}
        return self._client.post(
            path, content=body, headers=headers, timeout=timeout, extensions={"trace": self._note_socket}
        )

    def _note_socket(self, event: str, info: dict[str, Any]) -> None:
        if event in _CONNECTED:
            self._socket = info["return_value"].get_extra_info("socket")

    def cut(self) -> None:
        """Whoever waits for an answer gets a transport error at once."""
        if self._socket is not None:
            with suppress(OSError):  # it has closed itself
                # Not the TLS socket's own, which would free what the other thread reads through.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it."""
        self._client.close()


@dataclass(slots=True, eq=False)
class Host:
    """One host as this process sees it."""

    address: str
    num_outstanding: int = 0
    full_until: float = 0.0
    trouble: str | None = "not asked yet"
    num_silent: int = 0
    looked_at: float = 0.0
    idle: list[Connection] = field(default_factory=list)
    busy: set[Connection] = field(default_factory=set)


class HostPool:
    """Leases hosts. Safe from threads.

    Raises:
        NoHostError: not one of the hosts answers at the start.
        ConfigError: an address is none, or the variable of the token is not set.
    """

    def __init__(self, config: SandboxHosts) -> None:
        self._config = config
        token = None if config.token_env is None else secret(config.token_env)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # Made once: it reads all of the machine's certificates, which takes longer than a verdict.
        self._certificates = httpx.create_ssl_context()
        self._hosts = [Host(_checked(address)) for address in config.addresses]
        self._changed = threading.Condition()
        self._dead_since: float | None = None
        self._prober: threading.Thread | None = None
        self._closed = threading.Event()
        self._check_all()

    def _check_all(self) -> None:
        self._probe_all(self._hosts)
        if all(host.trouble for host in self._hosts):
            self.close()
            raise NoHostError(f"no sandbox host answers: {self._troubles()}; start them with `posttrain sandbox serve`")
        with self._changed:
            if any(host.trouble for host in self._hosts):
                self._start_prober()

    @contextmanager
    def lease(self, not_again: Sequence[Host] = ()) -> Iterator[Host]:
        """The least busy host that answers, rather none of `not_again`; waits while all are full or down.

        Raises:
            NoHostError: all have been down for `dead_for_s`.
        """
        with self._changed:
            host = self._pick(not_again)
            host.num_outstanding += 1
            self._start_prober()
        try:
            yield host
        finally:
            with self._changed:
                host.num_outstanding -= 1
                self._changed.notify()

    def _pick(self, not_again: Sequence[Host]) -> Host:
        while True:
            now = time.monotonic()
            up = [host for host in self._hosts if host.trouble is None]
            free = [host for host in up if host.full_until <= now]
            if free:
                return min(free, key=lambda host: (host in not_again, host.num_outstanding, random.random()))
            if up:
                # Not all at the same moment, or the queue that has just emptied is full again at once.
                self._changed.wait((min(host.full_until for host in up) - now) * random.uniform(1.0, 1.5))
            else:
                self._await_host(now)

    def _await_host(self, now: float) -> None:
        if self._dead_since is None:
            self._dead_since = now
        left = self._dead_since + self._config.dead_for_s - now
        if left <= 0 or self._closed.is_set():
            raise NoHostError(f"no sandbox host has answered for {now - self._dead_since:.0f} s: {self._troubles()}")
        self._changed.wait(left)

    def mark_full(self, host: Host, for_s: float) -> None:
        """It takes nothing more for so long."""
        with self._changed:
            host.full_until = max(host.full_until, time.monotonic() + for_s)

    def mark_down(self, host: Host, trouble: str) -> None:
        """It gave no answer; looked at from now on until it does."""
        with self._changed:
            host.trouble = trouble
            self._start_prober()
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait before the next try; not once this is closed."""
        self._closed.wait(seconds)

    def _start_prober(self) -> None:
        if self._prober is None and not self._closed.is_set():
            self._prober = threading.Thread(target=self._watch, daemon=True, name="sandbox-hosts")
            self._prober.start()

    @contextmanager
    def connection(self, host: Host) -> Iterator[Connection]:
        """A connection to the host, kept for the next one unless it breaks.

        One connection a client: a single httpx pool looks through all of its connections for every request.
        """
        with self._changed:
            idle = host.idle.pop() if host.idle else None
        found = idle or Connection(self._connect(host))
        with self._changed:
            host.busy.add(found)
        is_kept = False
        try:
            yield found
            is_kept = True
        finally:
            with self._changed:
                host.busy.discard(found)
                is_kept = is_kept and not self._closed.is_set()
                if is_kept:
                    host.idle.append(found)
            if not is_kept:
                found.close()

    def _connect(self, host: Host) -> httpx.Client:
        transport = httpx.HTTPTransport(
            verify=self._certificates,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=60.0),
            socket_options=_KEEP_ALIVE,
        )
        timeout = httpx.Timeout(min(_CONNECT_S, self._config.watch_s))
        return httpx.Client(base_url=host.address, headers=self._headers, transport=transport, timeout=timeout)

    def _watch(self) -> None:
        while not self._closed.is_set():
            self._probe_all([host for host in self._hosts if self._is_due(host)])
            self._closed.wait(min(self._config.probe_s, self._config.watch_s))

    def _is_due(self, host: Host) -> bool:
        """A host that is down is looked at each time; one that is judging now and then, since it may have frozen."""
        if host.trouble is not None:
            return True
        return host.num_outstanding > 0 and time.monotonic() - host.looked_at >= self._config.watch_s

    def _probe_all(self, hosts: Sequence[Host]) -> None:
        # At the same time: one that says nothing must not keep the others down.
        probes = [threading.Thread(target=self._probe, args=(host,), daemon=True) for host in hosts]
        for probe in probes:
            probe.start()
        for probe in probes:
            probe.join()

    def _probe(self, host: Host) -> None:
        host.looked_at = time.monotonic()
        trouble: str | None
        is_silent = False
        try:
            with self._connect(host) as client:
                status = client.get(HEALTH_PATH).status_code
            trouble = None if status == HTTPStatus.OK else f"/health says {status}"
        # Everything, httpx has more than its HTTPError: a look that is not finished leaves the host down for ever.
        except Exception as error:
            trouble, is_silent = f"{type(error).__name__}: {error}", isinstance(error, httpx.TimeoutException)
        self._note(host, trouble, is_silent)

    def _note(self, host: Host, trouble: str | None, is_silent: bool) -> None:
        """What a look has shown. One that is merely slow to answer may be busy; a frozen one gives its rows back."""
        with self._changed:
            host.num_silent = host.num_silent + 1 if is_silent else 0
            is_frozen = host.num_silent >= _MOST_SILENT
            if trouble is None:
                self._note_up(host)
            elif host.trouble is not None or is_frozen or not is_silent:
                host.trouble = trouble
            for connection in host.busy if is_frozen else ():
                connection.cut()

    def _note_up(self, host: Host) -> None:
        self._dead_since = None
        if host.trouble is not None:
            host.trouble, host.full_until = None, 0.0
            self._changed.notify_all()

    def _troubles(self) -> str:
        return ", ".join(f"{host.address} ({host.trouble})" for host in self._hosts)

    def close(self) -> None:
        """Close all connections; who waits for a host gets NoHostError."""
        self._closed.set()
        with self._changed:
            connections = [connection for host in self._hosts for connection in host.idle]
            for host in self._hosts:
                host.idle = []
            self._changed.notify_all()
        for connection in connections:
            connection.close()


def _checked(address: str) -> str:
    try:
        url = urlsplit(address)
        is_good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
        httpx.URL(address)
    except (ValueError, httpx.InvalidURL):
        is_good = False
    if not is_good or url.query or url.fragment or "@" in url.netloc:
        raise ConfigError(f"{address!r} is no address of a sandbox host; write http://host:port, or https://host:port")
    return address.rstrip("/")
