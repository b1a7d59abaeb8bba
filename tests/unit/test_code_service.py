"""The judging host, asked in this process: no port, no jail."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from infra.config import ConfigError
from tasks.records import Outcome, Verdict
from tasks.rewards.code import CodeConfig
from tasks.rewards.code_metrics import JudgeMetrics
from tasks.rewards.code_queue import DrainingError, JudgeQueue, QueueFullError
from tasks.rewards.code_service import JudgeService, ServiceConfig, open_listener
from tasks.rewards.code_wire import JudgeRequest
from tasks.rewards.verdicts import verdict

ASKED = {"tests": {"kind": "assert", "asserts": ["assert f() == 1"]}, "program": "def f(): return 1"}


def passed(_: JudgeRequest) -> Verdict:
    return verdict(Outcome.PASSED, "tests")


def speak(
    talk: Callable[[httpx.AsyncClient, JudgeService], Awaitable[Any]],
    judge: Callable[[JudgeRequest], Verdict] = passed,
    config: ServiceConfig | None = None,
    token: str | None = None,
) -> Any:
    """What `talk` says of a service that it speaks with."""

    async def run() -> Any:
        service = JudgeService(config or ServiceConfig(), judge, "bubblewrap", token)
        transport = httpx.ASGITransport(service.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            return await talk(client, service)

    return asyncio.run(run())


def reply_to(body: Any, **options: Any) -> httpx.Response:
    headers = options.pop("headers", {})

    async def talk(client: httpx.AsyncClient, _: JudgeService) -> httpx.Response:
        return await client.post(
            "/v1/judge", content=body if isinstance(body, bytes) else json.dumps(body), headers=headers
        )

    reply: httpx.Response = speak(talk, **options)
    return reply


def test_a_verdict_comes_as_the_grader_gave_it() -> None:
    found = verdict(Outcome.WRONG, "tests", extracted="def f(): return 1", detail="test 0", ms=1.5)
    reply = reply_to(ASKED, judge=lambda _: found)
    assert reply.status_code == 200
    assert Verdict.model_validate_json(reply.content) == found


def test_the_request_reaches_the_grader_whole() -> None:
    seen: list[JudgeRequest] = []

    def judge(asked: JudgeRequest) -> Verdict:
        seen.append(asked)
        return passed(asked)

    config = CodeConfig(test_s=2.5)
    reply_to({**ASKED, "language": "cpp", "config": config.model_dump(mode="json")}, judge=judge)
    assert seen[0].config == config
    assert seen[0].tests_with_language == {**ASKED["tests"], "language": "cpp"}  # type: ignore[dict-item]


def test_infinity_in_the_tests_arrives() -> None:
    seen: list[JudgeRequest] = []

    def judge(asked: JudgeRequest) -> Verdict:
        seen.append(asked)
        return passed(asked)

    reply_to({**ASKED, "tests": {"kind": "call", "outputs": [float("inf")]}}, judge=judge)
    assert seen[0].tests == {"kind": "call", "outputs": [float("inf")]}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tests": 3}, "tests"),
        ({"config": {"test_s": -1}}, "config.test_s"),
        ({"config": {"version": 999}}, "config.version"),
        ({"language": "cobol"}, "language"),
        ({"prgram": "x"}, "prgram"),
        ({"response": "two texts"}, "request"),
        ({"program": None}, "request"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(changes: dict[str, Any], field: str) -> None:
    reply = reply_to({**ASKED, **changes})
    assert reply.status_code == 422
    assert reply.json()["fields"] == [field]


def test_what_is_no_json_is_refused_without_being_repeated() -> None:
    reply = reply_to(b'{"program": "secret')
    assert reply.status_code == 422
    assert "secret" not in reply.text


def test_a_large_request_is_refused() -> None:
    small = ServiceConfig(max_body_bytes=1024)
    assert reply_to({**ASKED, "program": "x" * 2000}, config=small).status_code == 413
    assert reply_to(ASKED, config=small).status_code == 200


def test_a_large_request_without_a_length_is_refused() -> None:
    async def chunks() -> Any:
        for _ in range(4):
            yield b"x" * 1000

    async def talk(client: httpx.AsyncClient, _: JudgeService) -> int:
        return (await client.post("/v1/judge", content=chunks())).status_code

    assert speak(talk, config=ServiceConfig(max_body_bytes=2048)) == 413


def test_only_who_has_the_token_is_answered() -> None:
    assert reply_to(ASKED, token="t0ken").status_code == 401
    assert reply_to(ASKED, token="t0ken", headers={"Authorization": "Bearer other"}).status_code == 401
    assert reply_to(ASKED, token="t0ken", headers={"Authorization": "Bearer t0ken"}).status_code == 200


def test_a_grader_that_breaks_is_a_fault_and_never_a_zero() -> None:
    def judge(_: JudgeRequest) -> Verdict:
        raise RuntimeError("boom")

    found = Verdict.model_validate_json(reply_to(ASKED, judge=judge).content)
    assert (found.outcome, found.score) == (Outcome.CRASH, None)
    assert "boom" in found.detail


def test_a_full_queue_says_when_to_come_again_and_keeps_what_it_has() -> None:
    may_end = threading.Event()

    def judge(asked: JudgeRequest) -> Verdict:
        may_end.wait(20)
        return passed(asked)

    async def talk(client: httpx.AsyncClient, service: JudgeService) -> list[httpx.Response]:
        waiting = [asyncio.create_task(client.post("/v1/judge", json=ASKED)) for _ in range(3)]
        while service.queue.num_inside < 3:
            await asyncio.sleep(0.01)
        refused = await client.post("/v1/judge", json=ASKED)
        health = await client.get("/health")
        may_end.set()
        return [refused, health, *await asyncio.gather(*waiting)]

    refused, health, *answered = speak(talk, judge, ServiceConfig(num_slots=1, max_waiting=2))
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert health.json() == {"state": "good", "level": "bubblewrap", "slots": 1, "busy": 1, "queue": 2}
    assert [reply.status_code for reply in answered] == [200, 200, 200]


def test_a_draining_host_finishes_what_it_has_and_takes_nothing() -> None:
    may_end = threading.Event()

    def judge(asked: JudgeRequest) -> Verdict:
        may_end.wait(20)
        return passed(asked)

    async def talk(client: httpx.AsyncClient, service: JudgeService) -> list[int]:
        taken = asyncio.create_task(client.post("/v1/judge", json=ASKED))
        while service.queue.num_busy < 1:
            await asyncio.sleep(0.01)
        service.queue.drain()
        refused, health = await client.post("/v1/judge", json=ASKED), await client.get("/health")
        may_end.set()
        await asyncio.wait_for(service.queue.drained(), 10)
        return [(await taken).status_code, refused.status_code, health.status_code]

    assert speak(talk, judge) == [200, 503, 503]


def test_metrics_count_requests_outcomes_and_seconds() -> None:
    async def talk(client: httpx.AsyncClient, _: JudgeService) -> str:
        await client.post("/v1/judge", json=ASKED)
        await client.post("/v1/judge", json={})
        return (await client.get("/metrics")).text

    lines = speak(talk).splitlines()
    assert 'posttrain_sandbox_requests_total{status="200"} 1' in lines
    assert 'posttrain_sandbox_requests_total{status="422"} 1' in lines
    assert 'posttrain_sandbox_verdicts_total{outcome="passed"} 1' in lines
    assert 'posttrain_sandbox_seconds_bucket{le="+Inf"} 1' in lines
    assert "posttrain_sandbox_queue 0" in lines


def test_buckets_hold_all_that_is_shorter() -> None:
    metrics = JudgeMetrics()
    for seconds in (0.005, 0.2, 1000.0):
        metrics.count_verdict(verdict(Outcome.PASSED, "tests"), seconds)
    lines = metrics.text({}).splitlines()
    assert 'posttrain_sandbox_seconds_bucket{le="0.01"} 1' in lines
    assert 'posttrain_sandbox_seconds_bucket{le="0.3"} 2' in lines
    assert 'posttrain_sandbox_seconds_bucket{le="300.0"} 2' in lines
    assert "posttrain_sandbox_seconds_count 3" in lines


def test_a_place_is_given_back_after_an_error() -> None:
    async def run() -> int:
        queue = JudgeQueue(1, 0)
        for _ in range(3):
            with suppress(ZeroDivisionError), queue.place():
                async with queue.slot():
                    _ = 1 / 0
        with queue.place(), pytest.raises(QueueFullError):
            queue.place().__enter__()
        queue.drain()
        with pytest.raises(DrainingError):
            queue.place().__enter__()
        return queue.num_inside + queue.num_busy

    assert asyncio.run(run()) == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "sandbox.example"])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="--token-env"):
        open_listener(host, 0, has_token=False)


def test_a_taken_port_is_one_clear_error() -> None:
    with open_listener("127.0.0.1", 0, has_token=False) as taken, pytest.raises(ConfigError, match="--port"):
        open_listener("127.0.0.1", taken.getsockname()[1], has_token=False)
