"""A jail for one program: a command with pipes, whose boot code says when the program begins."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from infra.sandbox.isolation import ENVIRONMENT
from infra.sandbox.limits import SandboxError
from infra.sandbox.process import Status

_CHUNK = 65_536
START_S = 30.0  # a jail starts in 0.1 s; on a machine that is very busy, later
_WALLS_FALL_S = 30.0  # the kernel ends a process namespace within milliseconds; on a machine that is very busy, later
_SHELL_SIGNAL = 128  # bubblewrap exits with 128 + the signal that ended the program


class Pipe(NamedTuple):
    """What a jail's first processes tell us through."""

    read_end: int
    write_end: int

    @classmethod
    def open(cls) -> Self:
        """A new pipe."""
        return cls(*os.pipe())

    def close(self) -> None:
        """Close both ends."""
        os.close(self.read_end)
        os.close(self.write_end)


class Launched:
    """A process that was started for one program (see `process.Process`).

    Args:
        command: starts the jail; the boot code in it writes one byte to `ready` when the program begins.
        ready: closed here.
        info: bubblewrap writes its first process's id to it, the other levels write nothing; closed here.
        passed: further descriptors that the jail inherits.

    Raises:
        SandboxError: the jail does not start.
    """

    def __init__(self, command: Sequence[str], work: Path, ready: Pipe, info: Pipe, passed: Sequence[int] = ()) -> None:
        self._inside: int | None = None
        self._popen = _start(command, work, ready, info, passed)
        try:
            self.stdin, self.stdout, self.stderr, self.ended = self._descriptors()
        except OSError as error:
            self.kill()
            os.close(ready.read_end)
            os.close(info.read_end)
            raise SandboxError(f"the jail cannot be watched: {error}") from error
        self._await_start(ready, info)

    def _descriptors(self) -> list[int]:
        # They outlive the pipes' objects, which would otherwise close them a second time.
        pipes = [pipe for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr) if pipe]
        taken: list[int] = []  # so far: closed when there is no further one
        try:
            for pipe in pipes:
                taken.append(os.dup(pipe.fileno()))
            return [*taken, os.pidfd_open(self._popen.pid)]
        except OSError:
            for descriptor in taken:
                os.close(descriptor)
            raise
        finally:
            for pipe in pipes:
                pipe.close()

    def _await_start(self, ready: Pipe, info: Pipe) -> None:
        try:
            is_ready = bool(select.select([ready.read_end], [], [], START_S)[0]) and os.read(ready.read_end, 1) == b"r"
            self._inside = first_process(info.read_end)
        finally:
            os.close(ready.read_end)
            os.close(info.read_end)
        if not is_ready:
            self.kill()
            os.set_blocking(self.stderr, False)
            told = read_some(self.stderr)
            for descriptor in (self.stdin, self.stdout, self.stderr, self.ended):
                os.close(descriptor)
            raise SandboxError(f"the jail did not start: {told[-500:].decode(errors='replace')}")

    def status(self) -> Status:
        """How the program ended."""
        code = self._popen.wait()
        return Status(_SHELL_SIGNAL - code if code > _SHELL_SIGNAL else code)

    def kill(self) -> None:
        """Kill its process group and, behind bubblewrap, its whole process namespace."""
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._popen.kill()
        self._popen.wait()
        if self._inside is not None:
            await_end(self._inside)
            self._inside = None


def _start(
    command: Sequence[str], work: Path, ready: Pipe, info: Pipe, passed: Sequence[int]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=work,
            env=ENVIRONMENT,
            pass_fds=[ready.write_end, info.write_end, *passed],
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        os.close(ready.read_end)
        os.close(info.read_end)
        raise SandboxError(f"the jail does not start: {error}") from error
    finally:
        os.close(ready.write_end)
        os.close(info.write_end)


def read_some(descriptor: int) -> bytes:
    """What a non-blocking descriptor has."""
    with suppress(BlockingIOError):
        return os.read(descriptor, _CHUNK)
    return b""


def first_process(info: int) -> int | None:
    """Descriptor of the first process of the jail's own process namespace, which ends after all others in it."""
    os.set_blocking(info, False)
    told = read_some(info)
    with suppress(OSError):  # it is gone, or no descriptor is left: it dies with the process that we kill
        return os.pidfd_open(json.loads(told)["child-pid"]) if told else None
    return None


def await_end(first_process: int) -> None:
    """Kill the first process of a namespace, wait for its end, and close the descriptor."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(first_process, signal.SIGKILL)
    ends = select.poll()
    ends.register(first_process, select.POLLIN)
    ends.poll(_WALLS_FALL_S * 1000)
    os.close(first_process)
