"""The scripted stand-in: every language model of the pipeline, played by a script and served over loopback HTTP.

It speaks the OpenAI form, so that clients, caches and retries are the real ones, and says in each reply what it is.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from tasks.procedural.chat_protocol import FINGERPRINT, complete_chat, list_models
from tasks.procedural.roles import StandInConfig


class StandInServer:
    """Serve the stand-in while the `with` block runs.

    >>> with StandInServer() as server:
    ...     print(server.url)  # http://127.0.0.1:<port>/v1
    """

    def __init__(self, config: StandInConfig | None = None, port: int = 0) -> None:
        self._server = _Server(config or StandInConfig(), port)
        self._thread = Thread(target=self._server.serve_forever, name="scripted-stand-in", daemon=True)

    @property
    def url(self) -> str:
        """The base URL of the OpenAI form."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep their connections open
    request_queue_size = 256

    def __init__(self, config: StandInConfig, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.config = config


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    server: _Server

    def do_GET(self) -> None:
        """Answer `/health` and `/v1/models`."""
        if self.path == "/health":
            self._reply(200, {"status": "ok", "model": FINGERPRINT})
        elif self.path == "/v1/models":
            self._reply(200, list_models())
        else:
            self._refuse(404, f"no page {self.path}; GET /health or /v1/models, POST /v1/chat/completions")

    def do_POST(self) -> None:
        """Answer `/v1/chat/completions`."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/v1/chat/completions":
            self._refuse(404, f"no page {self.path}; POST /v1/chat/completions")
            return
        try:
            reply = complete_chat(body, self.server.config)
        except LookupError as error:
            self._refuse(404, str(error.args[0]))
        except ValidationError as error:
            self._refuse(400, f"not a chat request that the scripted stand-in takes: {error}")
        else:
            self._reply(200, reply)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the client's side keeps the record."""

    def _refuse(self, status: int, message: str) -> None:
        self._reply(status, {"error": {"message": message, "type": "invalid_request_error", "code": status}})

    def _reply(self, status: int, content: dict[str, object]) -> None:
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()
