"""An endpoint that fails three times in ten, in every way that HTTP allows, and keeps its own books."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS = 10, 4
# At 1 and 10 USD a million.
REPLY_NUSD = PROMPT_TOKENS * 1_000 + COMPLETION_TOKENS * 10_000


class Fault(StrEnum):
    """What happens to an attempt."""

    NONE = "none"
    SPIKE = "spike"  # comes whole, but late
    TOO_MANY = "429"
    ERROR = "500"
    # Of these the work is done, and so charged, and the client cannot have it.
    GARBAGE = "garbage"
    TRUNCATED = "truncated"
    KILLED = "killed"
    TOO_LATE = "too late"


# Of a hundred attempts; the rest goes well.
SHARES = {
    Fault.TOO_MANY: 10, Fault.ERROR: 8, Fault.GARBAGE: 5, Fault.TRUNCATED: 3, Fault.KILLED: 2, Fault.TOO_LATE: 2,
    Fault.SPIKE: 5,
}  # fmt: skip
UNCHARGED = frozenset({Fault.TOO_MANY, Fault.ERROR})
LOST = frozenset({Fault.GARBAGE, Fault.TRUNCATED, Fault.KILLED, Fault.TOO_LATE})


class ChaosEndpoint(ThreadingHTTPServer):
    """Each attempt's fate follows from its question and its number: the same in every run.

    Attributes:
        delivered: whole replies that were sent, by question.
        faults: how often each fate was met.
        charged_nusd: for all replies that were made, delivered or not.
    """

    daemon_threads, block_on_close, request_queue_size = True, False, 256

    def __init__(self, too_late_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.too_late_s = too_late_s
        self.lock = threading.Lock()
        self.attempts: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.faults: Counter[Fault] = Counter()
        self.charged_nusd = 0

    def fate(self, question: str) -> Fault:
        """What happens to the next attempt at a question; charges for it."""
        with self.lock:
            self.attempts[question] += 1
            roll = _percent(f"{question}/{self.attempts[question]}")
            fault = Fault.NONE
            for each, share in SHARES.items():
                if roll < share:
                    fault = each
                    break
                roll -= share
            self.faults[fault] += 1
            self.charged_nusd += 0 if fault in UNCHARGED else REPLY_NUSD
            return fault

    @property
    def num_lost(self) -> int:
        """Replies that were made and cannot have been read."""
        return sum(self.faults[fault] for fault in LOST)

    @property
    def num_extra(self) -> int:
        """Whole replies to questions that had one before."""
        return self.delivered.total() - len(self.delivered)

    def handle_error(self, *_: Any) -> None:
        """Stay silent: clients that go away are what this is about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChaosEndpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][0]["content"]
        fault = self.server.fate(question)
        payload = json.dumps(_completion(question)).encode()
        if fault is Fault.TOO_MANY:
            self._send(429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0.03"})
        elif fault is Fault.ERROR:
            self._send(500, b"<html>oops</html>")
        elif fault is Fault.GARBAGE:
            self._send(200, payload[: len(payload) // 2])
        elif fault in {Fault.TRUNCATED, Fault.KILLED}:
            self._break_off(payload, is_reset=fault is Fault.KILLED)
        else:
            time.sleep({Fault.SPIKE: 0.15, Fault.TOO_LATE: self.server.too_late_s}.get(fault, 0.01))
            if fault is not Fault.TOO_LATE:
                with self.server.lock:
                    self.server.delivered[question] += 1
            self._send(200, payload)

    def _send(self, status: int, payload: bytes, headers: dict[str, str] | None = None, length: int = 0) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length or len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _break_off(self, payload: bytes, is_reset: bool) -> None:
        """Send half, then close; or reset the connection, as a killed server's does."""
        self._send(200, payload[: len(payload) // 2], length=len(payload))
        self.wfile.flush()
        if is_reset:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, 0 s: close by RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


def _percent(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % 100


def _completion(question: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"answer to {question}"}
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS}
    return {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


@contextmanager
def chaos(too_late_s: float = 2.0) -> Iterator[ChaosEndpoint]:
    """Serve on a free port of loopback."""
    server = ChaosEndpoint(too_late_s)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            server.shutdown()
            server.server_close()
        thread.join()
