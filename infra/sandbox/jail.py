"""One program in a jail: its pipes with a cap, its clock, and its certain end."""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from infra.sandbox.isolation import ENVIRONMENT
from infra.sandbox.limits import Ending, Execution, Limits, SandboxError

_CHUNK = 65_536
_STDERR_BYTES = 16_384
_START_S = 30.0  # a jail starts in 0.1 s; on a machine that is very busy, later
_WALLS_FALL_S = 30.0  # the kernel ends a process namespace within milliseconds; on a machine that is very busy, later
_SHELL_SIGNAL = 128  # bubblewrap exits with 128 + the signal that ended the program


class JailEndedError(Exception):
    """The program is over, or is to be ended, before it said what was waited for."""

    def __init__(self, outcome: Ending) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Pipe(NamedTuple):
    """What a jail's first processes tell us through."""

    read_end: int
    write_end: int

    @classmethod
    def open(cls) -> Self:
        """A new pipe."""
        return cls(*os.pipe())


class Jail:
    """A running jailed program, spoken with by lines. Not safe from threads; call `end` in any case.

    Args:
        command: starts the jail; the boot code in it writes one byte to `ready` when the program begins.
        ready: closed here.
        info: bubblewrap writes its first process's id to it, the other levels write nothing; closed here.
    """

    def __init__(self, command: Sequence[str], work: Path, limits: Limits, ready: Pipe, info: Pipe) -> None:
        self._limits = limits
        self._started = time.monotonic()
        self._stdout, self._stderr, self._pending = bytearray(), bytearray(), b""
        self._num_read = 0
        self._is_over = self._is_closed = False
        self._stdin_closes = False
        self._inside: int | None = None
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=work,
                env=ENVIRONMENT,
                pass_fds=[ready.write_end, info.write_end],
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
        self._selector = selectors.DefaultSelector()
        self._watch()
        try:
            self._await_start(ready.read_end)
            self._inside = _first_process(info.read_end)
        finally:
            os.close(info.read_end)
        self._deadline = time.monotonic() + limits.wall_s

    def _watch(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._pidfd = os.pidfd_open(self._process.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, self._read_exit)
        for stream, read in ((self._process.stdout, self._read_stdout), (self._process.stderr, self._read_stderr)):
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream.fileno(), selectors.EVENT_READ, read)
        os.set_blocking(self._process.stdin.fileno(), False)

    def _await_start(self, ready: int) -> None:
        is_ready: list[bool] = []

        def read_ready(descriptor: int) -> None:
            is_ready.append(os.read(descriptor, 1) == b"r")
            self._selector.unregister(descriptor)

        self._selector.register(ready, selectors.EVENT_READ, read_ready)
        try:
            self._pump(lambda: bool(is_ready), time.monotonic() + _START_S)
        except JailEndedError as ended:
            self.end(Ending.SANDBOX_FAILURE)
            raise SandboxError(f"the jail did not start ({ended.outcome}): {self._text(self._stderr)[-500:]}") from None
        finally:
            os.close(ready)
        if not is_ready[0]:
            self.end(Ending.SANDBOX_FAILURE)
            raise SandboxError(f"the jail did not start: {self._text(self._stderr)[-500:]}")

    # Speaking

    def ask(self, line: str, wait_s: float) -> str:
        """Send a line and wait for a line.

        Raises:
            JailEndedError: the program ended, is out of time, or floods its output.
        """
        self._write(line.encode() + b"\n")
        deadline = min(self._deadline, time.monotonic() + wait_s)
        self._pump(lambda: b"\n" in self._stdout, deadline)
        answer, _, rest = bytes(self._stdout).partition(b"\n")
        self._stdout = bytearray(rest)
        return self._text(answer)

    def feed(self, stdin: str) -> Execution:
        """Give the whole standard input, wait for the end, and say how it went."""
        self._stdin_closes = True
        self._write(stdin.encode())
        try:
            self._pump(lambda: self._is_over, self._deadline)
        except JailEndedError as ended:
            return self.end(ended.outcome)
        return self.end()

    def end(self, outcome: Ending | None = None) -> Execution:
        """Kill whatever is left of the program; `outcome` None: judge by its exit code."""
        if outcome is None:
            outcome = self._exit_outcome() if self._is_over else Ending.FINISHED
        if not self._is_closed:
            self._kill()
        return Execution(outcome, self._text(self._stdout), self._text(self._stderr), self._elapsed_ms())

    def _exit_outcome(self) -> Ending:
        code = self._process.wait()
        number = -code if code < 0 else code - _SHELL_SIGNAL if code > _SHELL_SIGNAL else 0
        if number == signal.SIGXCPU:
            return Ending.TIME_LIMIT
        if code == 0:
            return Ending.FINISHED
        is_memory = b"MemoryError" in self._stderr[-200:]
        return Ending.MEMORY_LIMIT if is_memory else Ending.FAILED

    def _kill(self) -> None:
        self._is_closed = True
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()
        if self._inside is not None:
            _await_end(self._inside)
        with suppress(OSError):
            self._drain()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        os.close(self._pidfd)

    # Pipes

    def _write(self, content: bytes) -> None:
        assert self._process.stdin is not None
        self._pending += content
        if not self._process.stdin.closed and self._process.stdin.fileno() not in self._selector.get_map():
            self._selector.register(self._process.stdin.fileno(), selectors.EVENT_WRITE, self._write_stdin)

    def _pump(self, is_done: Callable[[], bool], deadline: float) -> None:
        while not is_done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise JailEndedError(Ending.TIME_LIMIT)
            for key, _ in self._selector.select(left):
                if key.fd in self._selector.get_map():  # what one event drains may have been another's
                    key.data(key.fd)
            if self._num_read > self._limits.output_bytes:
                raise JailEndedError(Ending.OUTPUT_LIMIT)
            if self._is_over and not is_done():
                self._drain()
                if not is_done():
                    raise JailEndedError(self._exit_outcome())

    def _drain(self) -> None:
        """Read what the ended program left in its pipes."""
        for key in list(self._selector.get_map().values()):
            if key.data in (self._read_stdout, self._read_stderr):
                while key.data(key.fd) and self._num_read <= self._limits.output_bytes:
                    pass

    def _read_exit(self, _: int) -> int:
        self._is_over = True
        self._selector.unregister(self._pidfd)
        self._drain()
        return 0

    def _read_stdout(self, descriptor: int) -> int:
        content = self._read(descriptor)
        self._num_read += len(content)
        self._stdout += content
        return len(content)

    def _read_stderr(self, descriptor: int) -> int:
        content = self._read(descriptor)
        self._stderr = (self._stderr + content)[-_STDERR_BYTES:]
        return len(content)

    def _read(self, descriptor: int) -> bytes:
        try:
            content = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return b""
        if not content:
            self._selector.unregister(descriptor)
        return content

    def _write_stdin(self, descriptor: int) -> int:
        assert self._process.stdin is not None
        try:
            self._pending = self._pending[os.write(descriptor, self._pending[:_CHUNK]) :] if self._pending else b""
        except BrokenPipeError:
            self._pending = b""
        if not self._pending:
            self._selector.unregister(descriptor)
            if self._stdin_closes:
                self._process.stdin.close()
        return 0

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._started) * 1000

    @staticmethod
    def _text(content: bytes | bytearray) -> str:
        return bytes(content).decode("utf-8", errors="replace")


def _first_process(info: int) -> int | None:
    """Descriptor of the first process of the jail's own process namespace, which ends after all others in it."""
    os.set_blocking(info, False)
    try:
        told = os.read(info, _CHUNK)
        return os.pidfd_open(json.loads(told)["child-pid"]) if told else None
    except (BlockingIOError, ProcessLookupError):
        return None


def _await_end(first_process: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(first_process, signal.SIGKILL)
    ends = select.poll()
    ends.register(first_process, select.POLLIN)
    ends.poll(_WALLS_FALL_S * 1000)
    os.close(first_process)
