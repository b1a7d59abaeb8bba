"""`posttrain sandbox serve`: judges programs over HTTP, so that many hosts behind a balancer make one large sandbox.

POST /v1/judge (code_wire.py) gives a verdict; 401 wrong token, 408 too slow, 413 too large, 422 a field that cannot be
used, 429 with Retry-After when the queue is full, 503 while draining. /health and /metrics need no token: balancers
ask them.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import Field

from infra.config import Config, ConfigError
from infra.sandbox.backend import Backend
from tasks.records import Outcome, Verdict
from tasks.rewards.code import CodeConfig, CodeGrader
from tasks.rewards.code_metrics import CONTENT_TYPE, JudgeMetrics
from tasks.rewards.code_queue import DrainingError, JudgeQueue, QueueFullError
from tasks.rewards.code_wire import (
    HEALTH_PATH,
    JUDGE_PATH,
    METRICS_PATH,
    JudgeRequest,
    Refusal,
    read_trouble,
    request_from_json,
    verdict_to_json,
)
from tasks.rewards.verdicts import verdict

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

MIB = 1024 * 1024
_KEEP_ALIVE_S = 75  # longer than most balancers', so that it is they who close
_STARTS_S = 0.02
_CLIENT_GONE = 499  # nginx's number; nobody reads the answer
# Once draining: for bodies that are still coming, then for answers that are still going.
_LAST_READS_S, _LAST_ANSWERS_S = 2.0, 5


class ServiceConfig(Config):
    """How much a judging host takes at a time."""

    num_slots: int = Field(default=2, ge=1, description="programs judged at a time")
    max_waiting: int = Field(default=256, ge=0, description="requests that may wait; one more gets 429")
    body_s: float = Field(default=60.0, gt=0, description="for a request's body to arrive; longer gets 408")
    max_body_bytes: int = Field(default=64 * MIB, ge=1024, description="of one request; more gets 413")


class _RefusedError(Exception):
    """A request that gets no verdict, and what it gets instead."""

    def __init__(self, status: int, refusal: Refusal, headers: dict[str, str] | None = None) -> None:
        super().__init__(refusal.error)
        self.status, self.refusal, self.headers = status, refusal, headers or {}


def judge_in(sandbox: Backend) -> Callable[[JudgeRequest], Verdict]:
    """What a host does with a request: its own grader, on its own jails."""

    def judge(asked: JudgeRequest) -> Verdict:
        grader = CodeGrader(asked.config, sandbox)
        if asked.program is not None:
            return grader.judge_program(asked.tests, asked.program, asked.language)
        return grader.judge(asked.tests_with_language, asked.response or "")

    return judge


class JudgeService:
    """The requests of one host. Made and used within one event loop; `judge` is called in threads.

    Args:
        judge: gives the verdict on a request.
        level: how well its jails are kept apart, for /health.
        token: what a client has to show; None: anybody may ask.
    """

    def __init__(
        self, config: ServiceConfig, judge: Callable[[JudgeRequest], Verdict], level: str, token: str | None = None
    ) -> None:
        self._config, self._judge, self._level, self._token = config, judge, level, token
        self.queue = JudgeQueue(config.num_slots, config.max_waiting)
        self._metrics = JudgeMetrics()
        self._threads = ThreadPoolExecutor(config.num_slots, "judge")
        self._reads: set[asyncio.Timeout] = set()

    def app(self) -> FastAPI:
        """The web application."""
        from fastapi import FastAPI

        app = FastAPI(title="posttrain sandbox", openapi_url=None)
        app.add_route(JUDGE_PATH, self._answer_judge, methods=["POST"])
        app.add_route(HEALTH_PATH, self._answer_health, methods=["GET"])
        app.add_route(METRICS_PATH, self._answer_metrics, methods=["GET"])
        return app

    async def _answer_judge(self, request: Request) -> Response:
        from fastapi import Response

        try:
            found = await self._verdict(request)
            answer = Response(verdict_to_json(found), HTTPStatus.OK, media_type="application/json")
        except _RefusedError as refused:
            text = refused.refusal.model_dump_json()
            answer = Response(text, refused.status, refused.headers, media_type="application/json")
        self._metrics.count_request(answer.status_code)
        return answer

    async def _verdict(self, request: Request) -> Verdict:
        self._check_token(request.headers.get("authorization", ""))
        try:
            # Before its body, so that there are never more bodies than places.
            with self.queue.place():
                body = await self._read_in_time(request)
                # Megabytes of tests take a while to parse, and others speak in this loop.
                asked = await asyncio.to_thread(_parse, body)
                del body
                return await self._judge_in_turn(request, asked)
        except QueueFullError as full:
            wait = {"Retry-After": str(full.retry_after_s)}
            raise _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, Refusal(error=str(full)), wait) from None
        except DrainingError as draining:
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, Refusal(error=str(draining))) from None

    async def _read_in_time(self, request: Request) -> bytes:
        from starlette.requests import ClientDisconnect

        limit = asyncio.timeout(_LAST_READS_S if self.queue.is_draining else self._config.body_s)
        try:
            async with limit:
                self._reads.add(limit)
                return await _read_body(request, self._config.max_body_bytes)
        except TimeoutError:
            raise self._too_slow() from None
        except ClientDisconnect:
            raise _RefusedError(_CLIENT_GONE, Refusal(error="the client has gone")) from None
        finally:
            self._reads.discard(limit)

    def _too_slow(self) -> _RefusedError:
        closing = {"Connection": "close"}
        if self.queue.is_draining:
            refusal = Refusal(error="this host is about to end; ask another one")
            return _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, refusal, closing)
        refusal = Refusal(error=f"the body did not arrive within {self._config.body_s:g} s; send it faster")
        return _RefusedError(HTTPStatus.REQUEST_TIMEOUT, refusal, closing)

    def drain(self) -> None:
        """Take nothing more; what has arrived is judged still, what is arriving has little time left."""
        self.queue.drain()
        latest = asyncio.get_running_loop().time() + _LAST_READS_S
        for limit in self._reads:
            when = limit.when()
            if when is None or when > latest:
                limit.reschedule(latest)

    def _check_token(self, header: str) -> None:
        # Compared in constant time: how long it takes must not tell how much of a guess is right.
        if self._token is not None and not hmac.compare_digest(header.encode(), f"Bearer {self._token}".encode()):
            refusal = Refusal(error="wrong or no token; send `Authorization: Bearer …` with the host's token")
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, refusal, {"WWW-Authenticate": "Bearer"})

    async def _judge_in_turn(self, request: Request, asked: JudgeRequest) -> Verdict:
        async with self.queue.slot():
            if await request.is_disconnected():
                raise _RefusedError(_CLIENT_GONE, Refusal(error="the client has gone"))
            started = time.perf_counter()
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._guarded, asked)
            self._metrics.count_verdict(found, time.perf_counter() - started)
            return found

    def _guarded(self, asked: JudgeRequest) -> Verdict:
        # Catches everything, as the Rewarder does: one odd row is a fault of its own, here as there.
        try:
            return self._judge(asked)
        except Exception as error:
            return verdict(Outcome.CRASH, "code", detail=f"{type(error).__name__}: {error}"[:500])

    async def _answer_health(self, _: Request) -> Response:
        from fastapi.responses import JSONResponse

        status = HTTPStatus.SERVICE_UNAVAILABLE if self.queue.is_draining else HTTPStatus.OK
        state = "draining" if self.queue.is_draining else "good"
        return JSONResponse({"state": state, "level": self._level, **self._gauges()}, status)

    async def _answer_metrics(self, _: Request) -> Response:
        from fastapi import Response

        return Response(self._metrics.text(self._gauges()), media_type=CONTENT_TYPE)

    def _gauges(self) -> dict[str, int]:
        return {"slots": self.queue.num_slots, "busy": self.queue.num_busy, "queue": self.queue.num_waiting}


async def _read_body(request: Request, max_bytes: int) -> bytes:
    too_large = _RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        Refusal(error=f"the request is larger than {max_bytes} bytes; start the host with a larger --max-body-mib"),
        {"Connection": "close"},
    )
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _parse(body: bytes) -> JudgeRequest:
    try:
        asked = request_from_json(body)
    except ValueError as error:
        raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, read_trouble(error)) from None
    if asked.config.version != CodeConfig().version:
        reason = f"this host judges by version {CodeConfig().version} of the rules, not {asked.config.version}"
        refusal = Refusal(
            error=f"config.version: {reason}; install the same posttrain there", fields=["config.version"]
        )
        raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, refusal)
    return asked


def open_listener(host: str, port: int, has_token: bool) -> socket.socket:
    """The socket to serve on; port 0: any free one.

    Raises:
        ConfigError: other machines would reach it without a token, or it cannot be had.
    """
    if not has_token and not _is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines run programs here; export a token in a variable and name it with "
            "--token-env VARIABLE, or serve on 127.0.0.1"
        )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}; choose another --host or --port") from None
    # Connections have it from here, as asyncio sets it on sockets of its own making only: without it the second write
    # of an answer waits 40 ms until the client has confirmed the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(make_service: Callable[[], JudgeService], listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; what was taken before is judged still. A second signal ends it at once."""
    asyncio.run(_serve(make_service, listener))


async def _serve(make_service: Callable[[], JudgeService], listener: socket.socket) -> None:
    import uvicorn

    service = make_service()
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off"}
    options["timeout_graceful_shutdown"] = _LAST_ANSWERS_S
    server = uvicorn.Server(uvicorn.Config(service.app(), timeout_keep_alive=_KEEP_ALIVE_S, **options))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(_STARTS_S)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _drain, service)
    draining = asyncio.create_task(service.queue.drained())
    await asyncio.wait({serving, draining}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving


def _drain(service: JudgeService) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    service.drain()
