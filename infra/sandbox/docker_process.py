"""A program in a container, as a jail drives it."""

from __future__ import annotations

import socket
from contextlib import suppress

from infra.sandbox import isolation
from infra.sandbox.docker_container import Container
from infra.sandbox.docker_relay import Frame, FrameReader, Relay, open_pipes
from infra.sandbox.limits import Limits, SandboxError
from infra.sandbox.process import Status

_CHUNK = 65_536
_START_S = 30.0  # an exec takes 0.1 s; on a machine that is very busy, longer
_SHELL_SIGNAL = 128
_READY = b"r"


class ContainerProcess:
    """A started program (`infra.sandbox.process.Process`).

    Args:
        command: starts the boot code, which takes `content` from standard input and becomes the program.

    Raises:
        SandboxError: it does not start.
    """

    def __init__(self, container: Container, command: list[str], content: bytes) -> None:
        self.container = container
        self._code: int | None = None
        self._exec = container.start(command)
        frames = FrameReader()
        try:
            early = _hand_over(self._exec.connection, content, frames)
        except (OSError, SandboxError) as error:
            self._exec.connection.close()
            raise SandboxError(f"the program does not start in its container: {error}") from error
        pipes = open_pipes()
        self.stdin, self.stdout, self.stderr, self.ended = pipes.jail
        self._relay = Relay(self._exec.connection, pipes.relay, frames, self._is_running)
        self._relay.start(early)

    def _is_running(self) -> bool:
        return self.container.exit_code(self._exec.id) is None

    def status(self) -> Status:
        """How it ended."""
        code = self.container.await_exit(self._exec.id) if self._code is None else self._code
        return Status(_SHELL_SIGNAL - code if code > _SHELL_SIGNAL else code)

    def kill(self) -> None:
        """Kill everything in the container, and wipe what it may write to."""
        if self._relay.is_over:
            # Asked now: a container that cannot be cleaned goes, and what it knows goes with it.
            with suppress(SandboxError):
                self._code = self.container.await_exit(self._exec.id)
        self._relay.drop()
        self.container.clean()


def _hand_over(connection: socket.socket, content: bytes, frames: FrameReader) -> list[Frame]:
    """Send the program, and wait until its limits are set; what it has said by then comes back."""
    connection.settimeout(_START_S)
    connection.sendall(content)
    said = b""
    while chunk := connection.recv(_CHUNK):
        found = list(frames.feed(chunk))
        if found and found[0].content.startswith(_READY):
            first = found[0]._replace(content=found[0].content[len(_READY) :])
            return [first, *found[1:]]
        said += b"".join(frame.content for frame in found)
    raise SandboxError(said.decode(errors="replace")[-500:] or "its first process ended without a word")


def resources(limits: Limits) -> dict[str, int]:
    """Limits that the boot code sets. Not the processes: the kernel counts a user's over all containers."""
    return {name: value for name, value in isolation.resources(limits).items() if name != "RLIMIT_NPROC"}
