"""Rollouts over HTTP: every sample of every prompt goes to the least loaded server and comes back as it finishes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import httpx
from pydantic import Field

from infra.config import Config

# httpx looks through all connections of a pool at each request: 768 requests over one pool of 256 cost 10 s of CPU,
# over 32 pools of 8 they cost 0.7 s.
CONNECTIONS_PER_POOL = 8


class SamplingParams(Config):
    """How to continue a prompt; nothing else (no top-k, no penalties) bends the distribution."""

    n: int = Field(default=1, ge=1, description="samples of each prompt")
    temperature: float = Field(default=1.0, ge=0, description="0 is greedy")
    top_p: float = Field(default=1.0, gt=0, le=1, description="nucleus; 1 keeps the whole distribution")
    max_tokens: int = Field(ge=1, description="new tokens at most; prompt and new tokens must fit the server's window")
    seed: int | None = Field(default=None, description="sample i of a key draws from hash(seed, key) + i; none: random")
    logprobs: bool = Field(default=True, description="return the log-prob of each sampled token; costs the server CPU")
    stop_token_ids: tuple[int, ...] = Field(default=(), description="end a sample, besides the tokenizer's EOS")


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation, as token ids.

    `completion_ids` ends with the EOS or stop token when `finish_reason` is "stop". `logprobs` are natural logs of the
    sampled tokens under the distribution that was sampled (after temperature and top-p) when the server was started
    by `VllmServer`: as many as completion ids, or none where they were not asked for. `text` leaves special tokens out.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: Literal["stop", "length"]


class Prompt(NamedTuple):
    """Token ids to continue, under a key that is unique within a stream; samples in `done` are not drawn again."""

    key: str
    token_ids: Sequence[int]
    done: frozenset[int] = frozenset()


class Sample(NamedTuple):
    """A finished sample."""

    key: str
    sample_index: int
    completion: Completion


class EngineError(RuntimeError):
    """No sample could be had; the message names the server, the prompt and the remedy."""


class _State(StrEnum):
    ALIVE = "alive"
    SUSPECT = "suspect"  # failed a request; gets no new ones until a probe of /health has spoken
    DEAD = "dead"


@dataclass(slots=True, eq=False)
class _Server:
    url: str
    state: _State = _State.ALIVE
    outstanding: int = 0  # samples
    requests: set[asyncio.Task[httpx.Response]] = field(default_factory=set)


class _Job(NamedTuple):
    """Samples first_index … first_index + num_samples - 1 of a prompt: one request."""

    prompt: Prompt
    first_index: int
    num_samples: int


class _RetryError(Exception):
    """The attempt failed in a way that another attempt may not."""


class Dispatcher:
    """Streams completions from one or several servers that hold the same weights.

    Each request goes to the server with the fewest samples outstanding. A failed request (connection, time-out, 429,
    5xx) is sent again after a pause; a server that fails `/health` as often is dropped, and what it held is sent again
    elsewhere. Use as an async context manager, within one event loop.
    """

    def __init__(
        self,
        base_urls: Sequence[str],
        *,
        model: str = "policy",
        max_in_flight: int = 256,
        samples_per_request: int = 1,
        max_attempts: int = 4,
        backoff_s: float = 0.25,
        timeout_s: float = 600.0,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            base_urls: `http://host:port` of each server.
            model: name under which the servers serve the policy.
            max_in_flight: samples in flight over all servers.
            samples_per_request: 1 places every sample alone; more saves HTTP overhead where tokens are cheap. The
                seeds, and so the samples, are the same either way (up to the rounding of other batches).
            max_attempts: tries of a request, and probes of a server that fails, before giving up.
            backoff_s: pause before the second attempt; doubles with each further one.
            timeout_s: of one request.
        """
        if not base_urls:
            raise EngineError("no server to sample from; give at least one base URL")
        self._servers = [_Server(url.rstrip("/")) for url in base_urls]
        self._model = model
        self._samples_per_request = samples_per_request
        self._num_workers = max(1, max_in_flight // samples_per_request)
        self._max_attempts = max_attempts
        self._backoff_s = backoff_s
        self._client = httpx.AsyncClient(
            transport=_ManyPools(-(-self._num_workers // CONNECTIONS_PER_POOL)),
            timeout=httpx.Timeout(timeout_s, connect=10.0, pool=None),
            trust_env=False,  # rollout servers are our own: no proxy between
        )
        self._probes: set[asyncio.Task[None]] = set()
        self._verdict = asyncio.Event()  # set, and replaced, when a probe has spoken

    async def __aenter__(self) -> Dispatcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await _cancel(self._probes)
        await self._client.aclose()

    async def stream(self, prompts: Iterable[Prompt], params: SamplingParams) -> AsyncGenerator[Sample, None]:
        """`params.n` samples of each prompt, in the order in which they finish; closing the stream cancels the rest.

        Raises:
            EngineError: all servers are dead, a request was refused (4xx), or it failed `max_attempts` times.
        """
        jobs = self._split(prompts, params.n)
        done: asyncio.Queue[Sample | BaseException | None] = asyncio.Queue()
        workers = {asyncio.create_task(self._work(jobs, params, done)) for _ in range(self._num_workers)}
        running = len(workers)
        try:
            while running:
                item = await done.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    running -= 1
                else:
                    yield item
        finally:
            await _cancel(workers)

    def _split(self, prompts: Iterable[Prompt], n: int) -> Iterator[_Job]:
        for prompt in prompts:
            for first, length in _runs([i for i in range(n) if i not in prompt.done], self._samples_per_request):
                yield _Job(prompt, first, length)

    async def _work(
        self, jobs: Iterator[_Job], params: SamplingParams, done: asyncio.Queue[Sample | BaseException | None]
    ) -> None:
        try:
            for job in jobs:  # one iterator for all workers
                for sample in await self._sample(job, params):
                    done.put_nowait(sample)
            done.put_nowait(None)
        except Exception as error:
            done.put_nowait(error)

    async def _sample(self, job: _Job, params: SamplingParams) -> list[Sample]:
        body = _request_body(self._model, job, params)
        reason = ""
        for attempt in range(self._max_attempts):
            if attempt:
                await asyncio.sleep(self._backoff_s * 2 ** (attempt - 1))
            try:
                return _samples(job, await self._post(job, body), params)
            except _RetryError as error:
                reason = str(error)
        raise EngineError(
            f"prompt `{job.prompt.key}`: {self._max_attempts} attempts failed, the last with: {reason}; "
            "see the servers' logs"
        )

    async def _post(self, job: _Job, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of the least loaded server; sends again by itself when the server is dropped meanwhile."""
        while True:
            server = await self._least_loaded()
            request = asyncio.create_task(self._client.post(f"{server.url}/v1/completions", json=body))
            server.requests.add(request)
            server.outstanding += job.num_samples
            try:
                return self._checked(await request, server, job)
            except httpx.TransportError as error:
                self._suspect(server)
                raise _RetryError(f"{server.url}: {type(error).__name__} {error}") from None
            except asyncio.CancelledError:
                this = asyncio.current_task()
                if server.state is not _State.DEAD or (this is not None and this.cancelling()):
                    request.cancel()
                    raise
            finally:
                server.requests.discard(request)
                server.outstanding -= job.num_samples

    def _checked(self, response: httpx.Response, server: _Server, job: _Job) -> dict[str, Any]:
        if response.status_code >= 500:
            self._suspect(server)
        if response.status_code >= 500 or response.status_code == 429:
            raise _RetryError(f"{server.url}: {response.status_code} {response.text[:500]}")
        if response.status_code >= 400:
            raise EngineError(
                f"{server.url} refused prompt `{job.prompt.key}` ({len(job.prompt.token_ids)} tokens): "
                f"{response.status_code} {response.text[:500]}; mend the request"
            )
        answer: dict[str, Any] = response.json()
        return answer

    async def _least_loaded(self) -> _Server:
        while True:
            alive = [server for server in self._servers if server.state is _State.ALIVE]
            if alive:
                return min(alive, key=lambda server: server.outstanding)
            if all(server.state is _State.DEAD for server in self._servers):
                urls = ", ".join(server.url for server in self._servers)
                raise EngineError(f"all servers are dead: {urls}; see their logs and start them again")
            await self._verdict.wait()

    def _suspect(self, server: _Server) -> None:
        if server.state is _State.ALIVE:
            server.state = _State.SUSPECT
            probe = asyncio.create_task(self._probe(server))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)

    async def _probe(self, server: _Server) -> None:
        server.state = _State.ALIVE if await self._healthy(server) else _State.DEAD
        if server.state is _State.DEAD:
            for request in server.requests:
                request.cancel()
        self._verdict.set()
        self._verdict = asyncio.Event()

    async def _healthy(self, server: _Server) -> bool:
        for attempt in range(self._max_attempts):
            if attempt:
                await asyncio.sleep(self._backoff_s * 2 ** (attempt - 1))
            try:
                if (await self._client.get(f"{server.url}/health", timeout=10.0)).status_code == 200:
                    return True
            except httpx.TransportError:
                continue
        return False


class _ManyPools(httpx.AsyncBaseTransport):
    """Spreads requests over many small connection pools (see CONNECTIONS_PER_POOL)."""

    def __init__(self, num_pools: int) -> None:
        ssl_context = httpx.create_ssl_context()  # once: building it takes longer than all else here
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS_PER_POOL)
        self._pools = [httpx.AsyncHTTPTransport(verify=ssl_context, limits=limits) for _ in range(num_pools)]
        self._load = [0] * num_pools

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        index = self._load.index(min(self._load))
        self._load[index] += 1
        try:
            return await self._pools[index].handle_async_request(request)
        finally:
            self._load[index] -= 1

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()


def _runs(indices: Sequence[int], longest: int) -> Iterator[tuple[int, int]]:
    """(first index, length) of the runs of consecutive indices, none longer than `longest`."""
    start = 0
    for stop in range(1, len(indices) + 1):
        if stop == len(indices) or indices[stop] != indices[stop - 1] + 1 or stop - start == longest:
            yield indices[start], stop - start
            start = stop


def sample_seed(seed: int, key: str, sample_index: int) -> int:
    """Seed of one sample, in [0, 2^62 + n): an engine that draws n samples of a request adds 0 … n - 1 itself."""
    digest = hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 2) + sample_index


def _request_body(model: str, job: _Job, params: SamplingParams) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(job.prompt.token_ids),
        "n": job.num_samples,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        # A model folder's generation_config would otherwise narrow the distribution.
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "return_token_ids": True,
    }
    if params.logprobs:
        body["logprobs"] = 0
    if params.stop_token_ids:
        body["stop_token_ids"] = list(params.stop_token_ids)
    if params.seed is not None:
        body["seed"] = sample_seed(params.seed, job.prompt.key, job.first_index)
    return body


def _samples(job: _Job, answer: Mapping[str, Any], params: SamplingParams) -> list[Sample]:
    prompt_ids = tuple(job.prompt.token_ids)
    return [
        Sample(job.prompt.key, job.first_index + choice["index"], _completion(prompt_ids, choice, params))
        for choice in answer["choices"]
    ]


def _completion(prompt_ids: tuple[int, ...], choice: Mapping[str, Any], params: SamplingParams) -> Completion:
    if choice["finish_reason"] not in ("stop", "length"):
        raise _RetryError(f"the server ended a sample with {choice['finish_reason']!r}")
    logprobs = tuple(choice["logprobs"]["token_logprobs"]) if params.logprobs else ()
    return Completion(prompt_ids, tuple(choice["token_ids"]), logprobs, choice["text"], choice["finish_reason"])


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
