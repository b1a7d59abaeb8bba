"""Doctor tells where programs are judged: what is wrong there, and what mends just that."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import infra.stack.doctor
from infra.process import free_port
from infra.runtime import Runtime, SandboxRuntime
from infra.sandbox.limits import Level, SandboxError
from infra.stack.doctor import Check, _sandbox


def checks(place: SandboxRuntime) -> list[Check]:
    return list(_sandbox(Runtime(sandbox=place)))


def have(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    def which(name: str, path: str | None = None) -> str | None:
        return f"/usr/bin/{name}" if name in programs else None

    monkeypatch.setattr(infra.stack.doctor.shutil, "which", which)


@pytest.mark.parametrize("error", [SandboxError("no namespaces"), OSError("too many open files")])
def test_bubblewrap_that_is_not_permitted_is_not_to_be_installed(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(_: SandboxRuntime) -> Level:
        raise error

    monkeypatch.setattr(infra.stack.doctor, "_level", refuse)
    have(monkeypatch, "bwrap", "g++")
    (check,) = checks(SandboxRuntime())
    assert (check.state, check.found) == ("fault", str(error))
    assert "allow user namespaces" in check.remedy
    have(monkeypatch, "g++")
    assert checks(SandboxRuntime())[0].remedy.startswith("install bubblewrap")


def test_missing_compiler_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.stack.doctor, "_level", lambda _: Level.BUBBLEWRAP)
    have(monkeypatch, "bwrap")
    good, compiler = checks(SandboxRuntime())
    assert (good.state, compiler.state) == ("good", "warning")
    assert "apt-get install g++" in compiler.remedy


def test_docker_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoEngine:
        def __init__(self, config: object) -> None:
            self.closed = False

        @property
        def level(self) -> Level:
            raise SandboxError("no engine answers")

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr("infra.sandbox.docker.DockerSandbox", NoEngine)
    (check,) = checks(SandboxRuntime(backend="docker"))
    assert (check.state, check.found) == ("fault", "no engine answers")
    assert "docker/sandbox.Dockerfile" in check.remedy


@contextmanager
def judging_host() -> Iterator[str]:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_each_judging_host_is_asked() -> None:
    with judging_host() as host:
        place = SandboxRuntime(backend="service", hosts=(host, f"http://127.0.0.1:{free_port()}"))
        up, down = checks(place)
    assert (up.state, up.found) == ("good", host)
    assert down.state == "fault"
    assert "posttrain sandbox serve" in down.remedy
