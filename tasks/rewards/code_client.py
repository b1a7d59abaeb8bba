"""Code rewards from other machines: the grader's own interface, with hosts of `posttrain sandbox serve` behind it."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx

from infra.config import ConfigError
from infra.sandbox.limits import Language
from tasks.records import Outcome, Verdict
from tasks.rewards.code import CodeConfig
from tasks.rewards.code_hosts import Host, HostPool, NoHostError, SandboxHosts
from tasks.rewards.code_wire import JUDGE_PATH, Refusal
from tasks.rewards.verdicts import verdict

_METHOD = "remote"
_LONGEST_RETRY_S = 60.0
# What a row of one query can cause; anything else that a host refuses, it refuses for every row.
_OF_THE_ROW = frozenset({HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})


class _Try(NamedTuple):
    """What one host said. No verdict: ask again; `is_failure` counts towards the most that a program may have."""

    verdict: Verdict | None
    is_failure: bool = False


class RemoteCodeGrader:
    """Judges programs on other machines, with the same verdicts as `CodeGrader`. Safe from threads.

    From an event loop call it through `asyncio.to_thread`; as many threads as there should be requests in flight.
    A host that dies loses nothing: its programs are judged by another one, or by itself once it is back.

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
        while True:
            try:
                with self._hosts.lease(failed) as host:
                    said = self._try(host, body, limit_s)
            except NoHostError as error:
                return verdict(Outcome.SANDBOX_ERROR, _METHOD, detail=str(error)[:500])
            if said.is_failure:
                failed.append(host)
            if said.verdict is not None and (not said.is_failure or len(failed) >= self._hosts_config.max_failures):
                return said.verdict

    def _limit_s(self, tests: dict[str, Any]) -> float:
        """Seconds for all tests, and for the host's queue; the most where their number does not show."""
        counts = [len(content) for content in tests.values() if isinstance(content, list)]
        seconds = self.config.total(max(counts)) if counts else self.config.total_s
        return seconds + self._hosts_config.waiting_s

    def _try(self, host: Host, body: bytes, limit_s: float) -> _Try:
        try:
            with self._hosts.client(host) as client:
                timeout = httpx.Timeout(limit_s, connect=client.timeout.connect)
                headers = {"Content-Type": "application/json"}
                reply = client.post(JUDGE_PATH, content=body, headers=headers, timeout=timeout)
        except httpx.TransportError as error:
            self._hosts.mark_down(host, f"{type(error).__name__}: {error}")
            return _Try(None)
        if reply.status_code == HTTPStatus.OK:
            return _read_verdict(reply)
        if reply.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self._hosts.mark_full(host, _retry_after_s(reply))
            return _Try(None)
        if reply.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            self._hosts.mark_down(host, "draining")
            return _Try(None)
        return _Try(_refused(host, reply), is_failure=reply.status_code not in _OF_THE_ROW)


def _read_verdict(reply: httpx.Response) -> _Try:
    found = Verdict.model_validate_json(reply.content)
    # Another host's jails may work where this one's do not.
    return _Try(found, is_failure=found.outcome is Outcome.SANDBOX_ERROR)


def _retry_after_s(reply: httpx.Response) -> float:
    told = reply.headers.get("retry-after", "")
    return min(float(told), _LONGEST_RETRY_S) if told.isdigit() else 1.0


def _refused(host: Host, reply: httpx.Response) -> Verdict:
    """A fault where it is this row's, or an error of the host's own.

    Raises:
        ConfigError: it would refuse every row.
    """
    refusal = _read_refusal(reply)
    told = f"{host.address} says {reply.status_code}: {refusal.error}"[:500]
    if reply.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return verdict(Outcome.SANDBOX_ERROR, _METHOD, detail=told)
    if reply.status_code not in _OF_THE_ROW or any(field.startswith("config") for field in refusal.fields):
        raise ConfigError(f"{told}; the sandbox hosts do not fit: correct their addresses, token or version")
    return verdict(Outcome.CRASH, _METHOD, detail=told)


def _read_refusal(reply: httpx.Response) -> Refusal:
    try:
        return Refusal.model_validate_json(reply.content)
    except ValueError:  # not one of ours, such as a balancer's page
        return Refusal(error=reply.text[:200])
