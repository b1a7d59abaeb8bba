"""A process that asks a model is killed with SIGKILL; the next one pays only for what was in flight."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

NUM_REQUESTS, IN_FLIGHT, KILL_AFTER = 120, 4, 40
ASKER = """
import sys
from pathlib import Path
from infra.chat import ChatRequest, Sampling
from infra.llm import LlmClient
from infra.row_cache import RowCache
from infra.runtime import Endpoint
from infra.store import Store

url, folder = sys.argv[1], Path(sys.argv[2])
cache = RowCache(Store(str(folder / "store"), folder / "local"), "llm", folder)
client = LlmClient("teacher", "m", Endpoint(base_url=url, max_concurrency={in_flight}), cache)
asked = [
    ChatRequest(str(i), [{{"role": "user", "content": str(i)}}], Sampling(max_tokens=8), num_samples=2)
    for i in range({requests})
]
print(len(list(client.complete_all(asked))), client.usage.cache_hits)
"""


class Endpoint(ThreadingHTTPServer):
    """Answers every question with two samples after 20 ms, and counts how often each was asked."""

    daemon_threads, block_on_close = True, False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(0.02)
        self.server.asked[body["messages"][0]["content"]] += 1
        message = {"role": "assistant", "content": "yes"}
        choices = [{"index": i, "message": message, "finish_reason": "stop"} for i in range(body["n"])]
        payload = json.dumps({"model": "m", "choices": choices, "usage": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.mark.integration
def test_a_killed_process_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    server = Endpoint()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = ASKER.format(in_flight=IN_FLIGHT, requests=NUM_REQUESTS)
    command = [sys.executable, "-c", program, server.url, str(tmp_path)]
    try:
        first = subprocess.Popen(command, stdout=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while server.asked.total() < KILL_AFTER and time.monotonic() < deadline:
            time.sleep(0.01)
        first.kill()
        first.communicate()
        assert KILL_AFTER <= server.asked.total() < NUM_REQUESTS
        second = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60)
    finally:
        server.shutdown()
        server.server_close()
    delivered, cached = map(int, second.stdout.split())
    assert delivered == 2 * NUM_REQUESTS
    assert cached >= 2 * (KILL_AFTER - IN_FLIGHT)
    assert len(server.asked) == NUM_REQUESTS
    # A killed asker cannot take in what it had asked for last.
    assert server.asked.total() <= NUM_REQUESTS + 2 * IN_FLIGHT
