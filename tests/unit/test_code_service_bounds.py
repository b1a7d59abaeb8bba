"""The judging host's bounds: on bodies that come slowly, on what is repeated, on the limits that it takes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from tasks.records import Outcome, Verdict
from tasks.rewards.code import CodeConfig
from tasks.rewards.code_service import JudgeService, ServiceConfig
from tasks.rewards.code_wire import JudgeRequest, verdict_from_json
from tasks.rewards.verdicts import verdict

ASKED = {"tests": {"kind": "assert", "asserts": ["assert f() == 1"]}, "program": "def f(): return 1"}


def echoed(asked: JudgeRequest) -> Verdict:
    return verdict(Outcome.PASSED, "tests", extracted=asked.program)


def speak(talk: Callable[[httpx.AsyncClient, JudgeService], Awaitable[Any]], config: ServiceConfig) -> Any:
    async def run() -> Any:
        service = JudgeService(config, echoed, "bubblewrap")
        transport = httpx.ASGITransport(service.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            return await talk(client, service)

    return asyncio.run(run())


def reply_to(body: bytes, config: ServiceConfig | None = None) -> httpx.Response:
    async def talk(client: httpx.AsyncClient, _: JudgeService) -> httpx.Response:
        return await client.post("/v1/judge", content=body)

    reply: httpx.Response = speak(talk, config or ServiceConfig())
    return reply


async def trickle() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.02)


def test_a_body_that_comes_too_slowly_is_given_up() -> None:
    async def talk(client: httpx.AsyncClient, service: JudgeService) -> tuple[int, int]:
        status = (await client.post("/v1/judge", content=trickle())).status_code
        return status, service.queue.num_inside

    assert speak(talk, ServiceConfig(body_s=0.2)) == (408, 0)


def test_a_draining_host_does_not_wait_for_a_slow_body() -> None:
    async def talk(client: httpx.AsyncClient, service: JudgeService) -> int:
        slow = asyncio.create_task(client.post("/v1/judge", content=trickle()))
        while service.queue.num_inside < 1:
            await asyncio.sleep(0.01)
        service.drain()
        await asyncio.wait_for(service.queue.drained(), 8)
        return (await slow).status_code

    started = time.monotonic()
    assert speak(talk, ServiceConfig(body_s=600)) == 503
    assert time.monotonic() - started < 8


def test_there_are_never_more_bodies_than_places() -> None:
    async def talk(client: httpx.AsyncClient, service: JudgeService) -> list[int]:
        slow = asyncio.create_task(client.post("/v1/judge", content=trickle()))
        while service.queue.num_inside < 1:
            await asyncio.sleep(0.01)
        refused = await client.post("/v1/judge", json=ASKED)
        return [refused.status_code, (await slow).status_code, (await client.post("/v1/judge", json=ASKED)).status_code]

    assert speak(talk, ServiceConfig(num_slots=1, max_waiting=0, body_s=0.5)) == [429, 408, 200]


def test_a_client_that_goes_away_midway_is_no_error_of_the_host() -> None:
    sent: list[dict[str, Any]] = []
    coming = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> int:
        service = JudgeService(ServiceConfig(), echoed, "bubblewrap")
        scope = {"type": "http", "method": "POST", "path": "/v1/judge", "headers": [], "query_string": b""}
        await service.app()(scope, receive, send)
        return service.queue.num_inside

    assert asyncio.run(run()) == 0
    assert sent[0]["status"] == 499


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("test_s", float("inf")),
        ("total_s", 3601),
        ("spare_s", float("nan")),
        ("seconds_per_test", 1e300),
        ("memory_bytes", 1),
        ("memory_bytes", 1 << 62),
        ("output_bytes", 0),
        ("output_bytes", 1 << 40),
        ("tolerance", float("inf")),
    ],
)
def test_limits_that_no_host_can_hold_are_named(field: str, value: float) -> None:
    reply = reply_to(json.dumps({**ASKED, "config": {field: value}}).encode())
    assert reply.status_code == 422
    assert reply.json()["fields"] == [f"config.{field}"]


def test_the_limits_that_are_usual_are_taken() -> None:
    assert CodeConfig(test_s=3600, memory_bytes=64 << 20, output_bytes=1024).test_s == 3600


def test_a_refusal_is_short_whatever_was_sent() -> None:
    odd = {f"{number}{'secret' * 1000}": "secret" * 1000 for number in range(1000)}
    reply = reply_to(json.dumps({**ASKED, **odd}).encode())
    assert reply.status_code == 422
    assert len(reply.json()["fields"]) == 20
    assert len(reply.content) < 10_000


@pytest.mark.parametrize("body", [b"[" * 100_000, b"9" * 5000, b"\xff\xfe\xff", b'{"\\ud800": 1}', b"[]", b""])
def test_odd_json_is_refused(body: bytes) -> None:
    assert reply_to(body).status_code == 422


def test_half_a_surrogate_pair_is_judged() -> None:
    program = "def f(): return '\ud800'"
    reply = reply_to(json.dumps({**ASKED, "program": program}).encode())
    assert reply.status_code == 200
    assert verdict_from_json(reply.content) == verdict(Outcome.PASSED, "tests", extracted=program)
