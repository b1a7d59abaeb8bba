"""Code rewards from other machines: the grader's own interface, with hosts of `posttrain sandbox serve` behind it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx

from infra.config import ConfigError
from infra.sandbox.limits import Language
from tasks.records import Outcome, Verdict
from tasks.rewards.code import CodeConfig
from tasks.rewards.code_hosts import Host, HostPool, NoHostError, SandboxHosts
from tasks.rewards.code_wire import JUDGE_PATH, Refusal, verdict_from_json
from tasks.rewards.verdicts import verdict

_METHOD = "remote"
_SHORTEST_RETRY_S, _LONGEST_RETRY_S = 0.1, 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
_NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)
# It gave the body up: the connection was too slow, which says nothing of any row.
_TOO_SLOW = HTTPStatus.REQUEST_TIMEOUT
# What a row of one query can cause; anything else that a host refuses, it refuses for every row.
_OF_THE_ROW = frozenset({HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})


class _Try(NamedTuple):
    """What one host said. No verdict: ask again; `is_failure` counts towards the most that a program may have."""

    verdict: Verdict | None = None
    is_failure: bool = False
    trouble: str | None = None
    """Why no host that can judge was asked; for so long only."""


class RemoteCodeGrader:
    """Judges programs on other machines, with the same verdicts as `CodeGrader`. Safe from threads.

    From an event loop call it through `asyncio.to_thread`; as many threads as there should be requests in flight.
    A host that dies loses nothing: its programs are judged by another one, or by itself once it is back. A program
    that breaks every host it comes to is a fault after `max_failures`.

    Raises:
        NoHostError: no host answers at the start; the message names them.
        ConfigError: the token's variable is not set.
    """

    def __init__(self, config: CodeConfig, hosts: SandboxHosts) -> None:
        self.config = config
        self._hosts_config = hosts
        self._hosts = HostPool(hosts)

    def __enter__(self) -> RemoteCodeGrader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._hosts.close()

    def judge(self, tests: dict[str, Any] | None, response: str) -> Verdict:
        """Verdict on the last code block of a response's answer part.

        Raises:
            ConfigError: a host refuses whatever we ask: the wrong token, other rules, no sandbox at all.
        """
        return self._ask(tests, {"response": response})

    def judge_program(self, tests: dict[str, Any] | None, program: str, language: Language | None = None) -> Verdict:
        """Verdict on a bare program; raises as `judge` does."""
        return self._ask(tests, {"program": program, "language": language})

    def _ask(self, tests: dict[str, Any] | None, text: dict[str, str | None]) -> Verdict:
        asked = {"tests": tests, **text, "config": self.config.model_dump(mode="json")}
        # Not httpx's own JSON, which refuses the infinity that a test may well expect.
        body, limit_s = json.dumps(asked).encode(), self._limit_s(tests or {})
        failed: list[Host] = []
        pauses, patience = _pauses(), _Patience(self._hosts_config.dead_for_s + limit_s)
        while True:
            try:
                with self._hosts.lease(failed) as host:
                    said = self._try(host, body, limit_s)
            except NoHostError as error:
                return _fault(str(error))
            if said.is_failure:
                failed.append(host)
            if said.verdict is not None and (not said.is_failure or len(failed) >= self._hosts_config.max_failures):
                return said.verdict
            if patience.is_over(said.trouble):
                return _fault(f"no host took the program for {patience.limit_s:.0f} s; the last: {said.trouble}")
            if said.is_failure or said.trouble:
                self._hosts.pause(next(pauses))

    def _limit_s(self, tests: dict[str, Any]) -> float:
        """Seconds for all tests, and for the host's queue; the most where their number does not show."""
        counts = [len(content) for content in tests.values() if isinstance(content, list)]
        seconds = self.config.total(max(counts)) if counts else self.config.total_s
        return seconds + self._hosts_config.waiting_s

    def _try(self, host: Host, body: bytes, limit_s: float) -> _Try:
        try:
            with self._hosts.connection(host) as connection:
                reply = connection.post(JUDGE_PATH, body, limit_s)
        except httpx.RequestError as error:
            told = f"{type(error).__name__}: {error}"
            self._hosts.mark_down(host, told)
            if isinstance(error, _NEVER_CONNECTED):
                return _Try(trouble=f"{host.address}: {told}")
            # It may be the program that ended the host: another one has not as many tries as it likes.
            return _Try(_fault(f"{host.address} broke off: {told}"), is_failure=True)
        if reply.status_code == HTTPStatus.OK:
            return _read_verdict(host, reply)
        if reply.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self._hosts.mark_full(host, _retry_after_s(reply))
            return _Try()
        if reply.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            self._hosts.mark_down(host, "draining")
            return _Try(trouble=f"{host.address}: draining")
        return _Try(_refused(host, reply), is_failure=reply.status_code not in _OF_THE_ROW)


class _Patience:
    """How long a program is offered to hosts that cannot take it. A full host can: it starts the time anew."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s, self._since = limit_s, time.monotonic()

    def is_over(self, trouble: str | None) -> bool:
        """After one more try, which failed for `trouble`."""
        if trouble is None:
            self._since = time.monotonic()
        return time.monotonic() - self._since >= self.limit_s


def _pauses() -> Iterator[float]:
    """Seconds before each further try: growing, and not the same for all."""
    longest = _FIRST_PAUSE_S
    while True:
        yield longest * random.uniform(0.5, 1.0)
        longest = min(2 * longest, _LONGEST_PAUSE_S)


def _fault(detail: str) -> Verdict:
    return verdict(Outcome.SANDBOX_ERROR, _METHOD, detail=detail[:500])


def _read_verdict(host: Host, reply: httpx.Response) -> _Try:
    try:
        found = verdict_from_json(reply.content)
    except ValueError:  # such as a page of what stands between
        return _Try(_fault(f"{host.address} says 200 with what is no verdict: {reply.text[:200]!r}"), is_failure=True)
    # Another host's jails may work where this one's do not.
    return _Try(found, is_failure=found.outcome is Outcome.SANDBOX_ERROR)


def _retry_after_s(reply: httpx.Response) -> float:
    told = reply.headers.get("retry-after", "")
    # Other scripts have digits too, which float does not always read.
    seconds = float(told) if told.isascii() and told.isdecimal() else 1.0
    return min(max(seconds, _SHORTEST_RETRY_S), _LONGEST_RETRY_S)


def _refused(host: Host, reply: httpx.Response) -> Verdict:
    """A fault where it is this row's, or an error of the host's own.

    Raises:
        ConfigError: it would refuse every row.
    """
    refusal = _read_refusal(reply)
    told = f"{host.address} says {reply.status_code}: {refusal.error}"[:500]
    if reply.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status_code == _TOO_SLOW:
        return _fault(told)
    if reply.status_code not in _OF_THE_ROW or any(field.startswith("config") for field in refusal.fields):
        raise ConfigError(f"{told}; the sandbox hosts do not fit: correct their addresses, token or version")
    return verdict(Outcome.CRASH, _METHOD, detail=told)


def _read_refusal(reply: httpx.Response) -> Refusal:
    try:
        return Refusal.model_validate_json(reply.content)
    except ValueError:  # not one of ours, such as a balancer's page
        return Refusal(error=reply.text[:200])
