"""Which judging host to ask next: the least busy of those that answer; a dead one is looked at until it is back."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx
from pydantic import Field

from infra.config import Config
from infra.runtime import secret
from infra.sandbox.limits import SandboxError
from tasks.rewards.code_wire import HEALTH_PATH

_CONNECT_S = 5.0
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
    max_failures: int = Field(default=3, ge=1, description="internal errors on one program before it is a fault")


class NoHostError(SandboxError):
    """No host answers, and none has for a while."""


@dataclass(slots=True, eq=False)
class Host:
    """One host as this process sees it."""

    address: str
    num_outstanding: int = 0
    full_until: float = 0.0
    trouble: str | None = None
    idle: list[httpx.Client] = field(default_factory=list)


class HostPool:
    """Leases hosts. Safe from threads.

    Raises:
        NoHostError: not one of the hosts answers at the start.
        ConfigError: the variable of the token is not set.
    """

    def __init__(self, config: SandboxHosts) -> None:
        self._config = config
        token = None if config.token_env is None else secret(config.token_env)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # Made once: it reads all of the machine's certificates, which takes longer than a verdict.
        self._certificates = httpx.create_ssl_context()
        self._hosts = [Host(address.rstrip("/")) for address in config.addresses]
        self._changed = threading.Condition()
        self._dead_since: float | None = None
        self._prober: threading.Thread | None = None
        self._closed = threading.Event()
        self._check_all()

    def _check_all(self) -> None:
        probes = [threading.Thread(target=self._probe, args=(host,), daemon=True) for host in self._hosts]
        for probe in probes:
            probe.start()
        for probe in probes:
            probe.join()
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

    def _start_prober(self) -> None:
        if self._prober is None and not self._closed.is_set():
            self._prober = threading.Thread(target=self._probe_until_up, daemon=True, name="sandbox-hosts")
            self._prober.start()

    @contextmanager
    def client(self, host: Host) -> Iterator[httpx.Client]:
        """A connection to the host, kept for the next one unless it breaks.

        One connection a client: a single httpx pool looks through all of its connections for every request.
        """
        with self._changed:
            client = host.idle.pop() if host.idle else None
        client = client or self._connect(host)
        try:
            yield client
        except httpx.TransportError:
            client.close()
            raise
        with self._changed:
            is_kept = not self._closed.is_set()
            if is_kept:
                host.idle.append(client)
        if not is_kept:
            client.close()

    def _connect(self, host: Host) -> httpx.Client:
        transport = httpx.HTTPTransport(
            verify=self._certificates,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=60.0),
            socket_options=_KEEP_ALIVE,
        )
        timeout = httpx.Timeout(_CONNECT_S)
        return httpx.Client(base_url=host.address, headers=self._headers, transport=transport, timeout=timeout)

    def _probe_until_up(self) -> None:
        while not self._closed.is_set():
            for host in [host for host in self._hosts if host.trouble is not None]:
                self._probe(host)
            with self._changed:
                if all(host.trouble is None for host in self._hosts):
                    self._prober = None
                    return
            self._closed.wait(self._config.probe_s)

    def _probe(self, host: Host) -> None:
        trouble: str | None
        try:
            with self._connect(host) as client:
                status = client.get(HEALTH_PATH).status_code
            trouble = None if status == HTTPStatus.OK else f"/health says {status}"
        except httpx.HTTPError as error:
            trouble = f"{type(error).__name__}: {error}"
        with self._changed:
            host.trouble = trouble
            if trouble is None:
                host.full_until, self._dead_since = 0.0, None
                self._changed.notify_all()

    def _troubles(self) -> str:
        return ", ".join(f"{host.address} ({host.trouble})" for host in self._hosts)

    def close(self) -> None:
        """Close all connections; who waits for a host gets NoHostError."""
        self._closed.set()
        with self._changed:
            clients = [client for host in self._hosts for client in host.idle]
            for host in self._hosts:
                host.idle = []
            self._changed.notify_all()
        for client in clients:
            client.close()
