"""A language model's endpoint on loopback that answers by a script, and clients of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from infra.chat import Answered, ChatRequest, Sampling
from infra.llm import LlmClient
from infra.row_cache import RowCache
from infra.runtime import Endpoint
from infra.store import Store

SAMPLING = Sampling(temperature=1.0, max_tokens=64)


class Scripted(NamedTuple):
    """What the endpoint sends back: a status, and a body as JSON or as it is."""

    status: int
    body: Any
    headers: dict[str, str] = {}
    delay_s: float = 0.0


Script = Callable[[dict[str, Any], int], Scripted]


class FakeEndpoint:
    """Answers each chat request by `script(body, number of the request)`; records what it was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def serve(script: Script) -> Iterator[FakeEndpoint]:
    """Serve a script on a free port of loopback."""
    fake = FakeEndpoint(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with fake.lock:
                number = len(fake.bodies)
                fake.bodies.append(body)
                fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                fake.in_flight += 1
                fake.most_in_flight = max(fake.most_in_flight, fake.in_flight)
            said = fake.script(body, number)
            time.sleep(said.delay_s)
            with fake.lock:
                fake.in_flight -= 1
            payload = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked did not wait
                self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(*texts: str, prompt_tokens: int = 10, completion_tokens: int = 4) -> Scripted:
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return Scripted(200, {"id": "x", "object": "chat.completion", "model": "m", "choices": choices, "usage": usage})


def echo(body: dict[str, Any], number: int) -> Scripted:
    """Texts that name the question and the seed of each sample, as vLLM numbers them."""
    question, seed, n = body["messages"][-1]["content"], body.get("seed", 0), body.get("n", 1)
    return completion(*(f"{question}/{seed + i}" for i in range(n)))


def ask(question: str, num_samples: int = 1, **fields: Any) -> ChatRequest:
    fields = {"seed": 100, "sampling": SAMPLING, **fields}
    return ChatRequest(question, [{"role": "user", "content": question}], num_samples=num_samples, **fields)


def texts(answers: Iterator[Answered]) -> dict[str, list[str]]:
    found: dict[str, list[tuple[int, str]]] = {}
    for request, reply in answers:
        found.setdefault(request.key, []).append((reply.sample_index, reply.text))
    return {key: [text for _, text in sorted(samples)] for key, samples in found.items()}


def new_cache(folder: Path) -> RowCache:
    """The cache of a folder, read anew as another process would."""
    return RowCache(Store(str(folder / "store"), folder / "local"), "llm", folder)


def new_client(cache: RowCache, url: str, role: str = "teacher", **endpoint: Any) -> LlmClient:
    """A client of model `m`; prices of 1 and 10 USD a million, so that `echo` costs 50,000 nano-dollars a sample."""
    endpoint = {"max_attempts": 3, "max_concurrency": 4} | endpoint
    if "budget_usd" in endpoint:
        endpoint = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0} | endpoint
    return LlmClient(role, "m", Endpoint(base_url=url, **endpoint), cache)
