"""An endpoint on loopback with a Batch API, whose batches end after a few looks."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.unit.scripted_endpoint import echo

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


def echo_line(line: dict[str, Any]) -> dict[str, Any] | None:
    """The response of a line, as `echo` gives it."""
    return {"status_code": 200, "request_id": "r", "body": echo(line["body"], 0).body}


class BatchEndpoint(ThreadingHTTPServer):
    """Answers line by line; None leaves a line out, as an expired batch does.

    Attributes:
        looks: how often a batch is looked at before it ends.
        status: what batches end in.
        lost: names of calls whose next reply is lost, though the call was heard.
        paid: samples that were answered, by question.
    """

    daemon_threads, block_on_close = True, False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.answer: Answer = echo_line
        self.looks, self.status, self.lost = 1, "completed", Counter[str]()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looked: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.lock = threading.Lock()

    def keep(self, content: bytes) -> dict[str, Any]:
        """Store a file."""
        id_ = f"file-{len(self.files)}"
        self.files[id_] = content
        return {
            "id": id_, "object": "file", "bytes": len(content), "created_at": 1, "filename": "batch.jsonl",
            "purpose": "batch", "status": "processed",
        }  # fmt: skip

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Begin a batch."""
        id_ = f"batch-{len(self.batches)}"
        self.batches[id_] = asked | {
            "id": id_, "object": "batch", "created_at": 1, "status": "in_progress", "output_file_id": None,
            "error_file_id": None, "errors": None,
        }  # fmt: skip
        return self.batches[id_]

    def look(self, id_: str) -> dict[str, Any]:
        """How far a batch is; the look after the last that it takes ends it."""
        self.looked[id_] += 1
        batch = self.batches[id_]
        if self.looked[id_] > self.looks and batch["status"] == "in_progress":
            self._end(batch)
        return batch

    def _end(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.status
        if self.status == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "limit", "message": "enqueued token limit reached"}]}
            return
        good, bad = [], []
        for line in map(json.loads, self.files[batch["input_file_id"]].splitlines()):
            response = self.answer(line)
            if response is None:
                continue
            is_good = response["status_code"] == 200
            reply = {"id": "x", "custom_id": line["custom_id"], "response": response, "error": None}
            (good if is_good else bad).append(json.dumps(reply))
            if is_good:
                self.paid[line["body"]["messages"][0]["content"]] += line["body"].get("n", 1)
        batch["output_file_id"] = self.keep("\n".join(good).encode())["id"]
        batch["error_file_id"] = self.keep("\n".join(bad).encode())["id"] if bad else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BatchEndpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            if self.path == "/v1/files":
                found = re.search(rb'filename="batch.jsonl".*?\r\n\r\n(.*)\r\n--', body, re.DOTALL)
                assert found is not None
                self._reply("upload", self.server.keep(found[1]))
            elif self.path == "/v1/batches":
                self._reply("create", self.server.create(json.loads(body)))
            else:
                self._say(404, b"{}")

    def do_GET(self) -> None:
        with self.server.lock:
            if self.path.startswith("/v1/batches?"):
                batches = list(self.server.batches.values())
                self._reply("list", {"object": "list", "data": batches, "has_more": False})
            elif self.path.startswith("/v1/batches/"):
                self._reply("look", self.server.look(self.path.rsplit("/", 1)[1]))
            else:
                self._reply("download", self.server.files[self.path.split("/")[3]])

    def _reply(self, call: str, said: Any) -> None:
        is_lost = self.server.lost[call] > 0
        self.server.lost[call] -= is_lost
        payload = said if isinstance(said, bytes) else json.dumps(said).encode()
        self._say(504 if is_lost else 200, b"{}" if is_lost else payload)

    def _say(self, status: int, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def serve_batches() -> Iterator[BatchEndpoint]:
    """Serve on a free port of loopback."""
    server = BatchEndpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
