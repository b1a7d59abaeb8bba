"""FakeHub: as much of the Hugging Face hub's HTTP interface as reading a data set takes, on a port of this machine.

It serves folders, speaks to the real client (`huggingface_hub`, `datasets`) and can break on purpose.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

MOVED = "b" * 40


@dataclass
class FakeHub:
    """What the hub holds, and what it has been asked."""

    folder: Path
    """`owner/name/` folders, each a data set."""
    commits: dict[str, str] = field(default_factory=dict)
    """Data set → the commit that its branch `main` names."""
    gated: set[str] = field(default_factory=set)
    breaks: int = 0
    """So many further requests for the bytes of files end in the middle."""
    busy: int = 0
    """So many further requests of any kind are answered with 503."""
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""

    def commit(self, name: str) -> str:
        """The commit of a data set's main branch."""
        return self.commits.get(name, "a" * 40)

    def files(self, name: str) -> list[Path]:
        """All files of a data set."""
        return sorted(path for path in (self.folder / name).rglob("*") if path.is_file())


@contextmanager
def fake_hub(folder: Path) -> Iterator[FakeHub]:
    """A hub that serves the data sets below `folder` until the block ends."""
    hub = FakeHub(folder)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no error of the server's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: object) -> None:
        """Nothing on standard error; `hub.asked` keeps it."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.busy > 0:
            self.hub.busy -= 1
            self._send(503, b"{}", {})
            return
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            self._api(parts[2:], json.loads(body) if body[:1] == b"{" else body)
        else:
            self._file(parts)

    def _api(self, parts: list[str], body: Any) -> None:
        name, rest = "/".join(parts[:2]), parts[2:]
        if name in self.hub.gated:
            self._refuse(403, "GatedRepo", "access to this data set is restricted")
        elif not (self.hub.folder / name).is_dir():
            self._refuse(404, "RepoNotFound", "no such repository")
        elif len(rest) > 1 and rest[1] not in {"main", self.hub.commit(name)}:
            self._refuse(404, "RevisionNotFound", "no such revision")
        elif not rest or rest[0] == "revision":
            files = [{"rfilename": self._inside(name, path)} for path in self.hub.files(name)]
            self._json({"id": name, "sha": self.hub.commit(name), "siblings": files, "private": False, "tags": []})
        elif rest[0] == "tree" and (self.hub.folder / name / "/".join(rest[2:])).is_dir():
            self._json(self._tree(name, "/".join(rest[2:]), "recursive=True" in self.path))
        elif rest[0] == "paths-info":
            wanted = body["paths"] if isinstance(body, dict) else _form_paths(body)
            self._json([self._info(name, path) for path in self.hub.files(name) if self._inside(name, path) in wanted])
        else:
            self._refuse(404, "EntryNotFound", "no such page")

    def _tree(self, name: str, below: str, recursive: bool) -> list[dict[str, Any]]:
        root = self.hub.folder / name
        folders = sorted(path for path in root.rglob("*") if path.is_dir())
        found = [
            {"type": "directory", "path": self._inside(name, path), "oid": "d" * 40, "size": 0} for path in folders
        ]
        found += [self._info(name, path) for path in self.hub.files(name)]
        inside = [item for item in found if not below or str(item["path"]).startswith(f"{below}/")]
        depth = below.count("/") + 1 if below else 0
        return [item for item in inside if recursive or str(item["path"]).count("/") == depth]

    def _info(self, name: str, path: Path) -> dict[str, Any]:
        oid = hashlib.sha1(path.read_bytes()).hexdigest()
        return {"type": "file", "path": self._inside(name, path), "oid": oid, "size": path.stat().st_size}

    def _inside(self, name: str, path: Path) -> str:
        return path.relative_to(self.hub.folder / name).as_posix()

    def _file(self, parts: list[str]) -> None:
        name, place = "/".join(parts[1:3]), parts.index("resolve")
        path = self.hub.folder / name / "/".join(parts[place + 2 :])
        if not path.is_file():
            self._refuse(404, "EntryNotFound", "no such file")
            return
        content = path.read_bytes()
        headers = {"X-Repo-Commit": self.hub.commit(name), "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        start, end = _range(self.headers.get("Range"), len(content))
        status = 206 if self.headers.get("Range") else 200
        headers |= {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"} if status == 206 else {}
        self._send(status, content[start:end], headers | {"Accept-Ranges": "bytes"})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.breaks > 0 and "/resolve/" in self.path and len(content) > 1:
            self.hub.breaks -= 1
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(content)


def _form_paths(body: bytes) -> list[str]:
    return [unquote(part.partition("=")[2]) for part in body.decode().split("&") if part.startswith("paths=")]


def _range(asked: str | None, size: int) -> tuple[int, int]:
    if not asked:
        return 0, size
    start, _, end = asked.removeprefix("bytes=").partition("-")
    return int(start or 0), min(int(end) + 1 if end else size, size)
