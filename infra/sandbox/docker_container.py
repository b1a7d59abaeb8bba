"""A warm container: behind its walls one program after another, each of which finds it as new."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from infra.config import Config
from infra.sandbox import docker_clean, docker_keeper
from infra.sandbox.docker_relay import FrameReader
from infra.sandbox.isolation import ENVIRONMENT
from infra.sandbox.limits import MIB, SandboxError

if TYPE_CHECKING:
    from docker.client import DockerClient

LABEL = "posttrain.sandbox"
_KEEPER, _PROGRAM = "65533:65533", "65534:65534"
_CHUNK = 65_536
_CLEAN_S = 20.0
_ENDS_S = 10.0
_NUM_FILES = 10_000  # empty ones take no space, but a long time to delete


class DockerConfig(Config):
    """Containers in which programs run. What one program may use is in `Limits`; these are the walls around them."""

    image: str = Field(default="posttrain/sandbox:0.4.0", description="made from docker/sandbox.Dockerfile")
    engine: str | None = Field(default=None, description="address of the engine; None: as the docker command does")
    num_slots: int = Field(default=2, ge=1, description="containers, and so programs at a time")
    memory_bytes: int = Field(default=2048 * MIB, ge=64 * MIB, description="of all processes and files of a container")
    tmp_bytes: int = Field(default=64 * MIB, ge=MIB, description="size of /tmp, the only place to write to")
    num_processes: int = Field(default=64, ge=16, description="processes and threads of a container")
    cpus: float = Field(default=1.0, gt=0, description="of each container")


class Exec(NamedTuple):
    """A command that was started in a container, with the connection that carries its streams."""

    id: str
    connection: socket.socket


class Container:
    """One container. Used by one thread at a time.

    Raises:
        SandboxError: the engine does not start it.
    """

    def __init__(self, client: DockerClient, config: DockerConfig) -> None:
        self._api = client.api
        self._lock = threading.Lock()  # the relay asks whether the program still runs
        self.is_alive = True
        self._keeper: socket.socket | None = None
        try:
            self._id: str = client.containers.create(config.image, **_walls(config)).id
        except _engine_errors() as error:
            raise SandboxError(f"no container of {config.image} can be made: {error}") from error
        try:
            streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            self._keeper = _own_socket(self._api.attach_socket(self._id, streams))
            self._keeper.settimeout(_CLEAN_S)
            self._api.start(self._id)
        except _engine_errors() as error:
            self.discard()
            raise SandboxError(f"no container of {config.image} starts: {error}") from error

    def start(self, command: list[str]) -> Exec:
        """Start a program's first process.

        Raises:
            SandboxError: the engine refuses.
        """
        try:
            with self._lock:
                options = {"stdin": True, "user": _PROGRAM, "workdir": "/tmp", "environment": ENVIRONMENT}
                id_: str = self._api.exec_create(self._id, command, **options)["Id"]
                return Exec(id_, _own_socket(self._api.exec_start(id_, socket=True)))
        except _engine_errors() as error:
            raise SandboxError(f"the engine starts no program: {error}") from error

    def exit_code(self, exec_id: str) -> int | None:
        """Exit code as a shell tells it, 128 + the number of a signal; None: it still runs.

        Raises:
            SandboxError: the engine does not say.
        """
        try:
            with self._lock:
                told = self._api.exec_inspect(exec_id)
        except _engine_errors() as error:
            raise SandboxError(f"the engine does not say how the program ended: {error}") from error
        return None if told["Running"] else told["ExitCode"]

    def await_exit(self, exec_id: str) -> int:
        """Exit code, a moment after the streams have ended.

        Raises:
            SandboxError: it does not end, or the engine does not say.
        """
        deadline = time.monotonic() + _ENDS_S
        while time.monotonic() < deadline:
            code = self.exit_code(exec_id)
            if code is not None:
                return code
            time.sleep(0.005)
        raise SandboxError("the program's streams have ended, and it has not")

    def clean(self) -> None:
        """Kill all that runs in it and wipe what it may write to; where that fails, end the container."""
        if not self.is_alive or self._keeper is None:
            return
        try:
            self._run_cleaner()
            self._keeper.sendall(b"\n")
            left = _next_line(self._keeper)
        except (SandboxError, OSError):  # such as: a fork bomb has taken every place
            left = "unknown"
        if left != "clean":
            self.discard()

    def _run_cleaner(self) -> None:
        text = Path(docker_clean.__file__).read_text(encoding="utf-8")
        with self.start(["python3", "-I", "-S", "-c", text]).connection as connection:
            connection.settimeout(_CLEAN_S)
            while connection.recv(_CHUNK):
                pass

    def discard(self) -> None:
        """End the container with all that is in it."""
        self.is_alive = False
        with self._lock, suppress(*_engine_errors()):  # it may have ended by itself
            self._api.remove_container(self._id, force=True)
        if self._keeper is not None:
            self._keeper.close()


def _walls(config: DockerConfig) -> dict[str, Any]:
    from docker.types import Ulimit

    tmp = f"rw,noexec,nosuid,nodev,mode=1777,size={config.tmp_bytes},nr_inodes={_NUM_FILES}"
    text = Path(docker_keeper.__file__).read_text(encoding="utf-8")
    return {
        "entrypoint": ["python3", "-I", "-S", "-c", text],
        "command": [],
        "user": _KEEPER,
        "stdin_open": True,
        "labels": {LABEL: str(os.getpid())},
        "auto_remove": True,
        "healthcheck": {"test": ["NONE"]},  # it would be a process beside the program's
        "network_mode": "none",
        "read_only": True,
        "tmpfs": {"/tmp": tmp},
        "shm_size": f"{config.tmp_bytes}b",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": config.num_processes,
        "mem_limit": config.memory_bytes,
        "memswap_limit": config.memory_bytes,
        "nano_cpus": round(config.cpus * 1e9),
        "ulimits": [Ulimit(name="core", soft=0, hard=0), Ulimit(name="memlock", soft=0, hard=0)],
    }


def _next_line(connection: socket.socket) -> str:
    frames, told = FrameReader(), b""
    while not told.endswith(b"\n"):
        chunk = connection.recv(_CHUNK)
        if not chunk:
            raise SandboxError("the container's keeper has ended")
        told += b"".join(frame.content for frame in frames.feed(chunk))
    return told.decode(errors="replace").strip()


def _own_socket(stream: Any) -> socket.socket:
    """The connection below docker's reader, which knows no half-close; nothing was read ahead: programs wait for us."""
    connection = socket.socket(fileno=os.dup(stream.fileno()))
    stream.close()
    return connection


def _engine_errors() -> tuple[type[Exception], ...]:
    import docker.errors
    import requests

    return (docker.errors.DockerException, requests.RequestException, OSError)
