"""One program in a jail: its pipes with a cap, its clock, and its certain end."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from infra.sandbox.limits import Ending, Execution, Limits, SandboxError
from infra.sandbox.process import Process, Status

_CHUNK = 65_536
_STDERR_BYTES = 16_384
# What Python, libstdc++, the loader and the kernel say when an allocation fails.
_MEMORY_SIGNS = (
    b"MemoryError",
    b"std::bad_alloc",
    b"Cannot allocate memory",
    b"virtual memory exhausted",
    b"out of memory",
)
_SIGN_BYTES = 400
_NEARLY_ALL = 0.85
_FALLEN = Execution(Ending.SANDBOX_FAILURE, "", "what held the program failed", 0.0)


class JailEndedError(Exception):
    """The program is over, or is to be ended, before it said what was waited for."""

    def __init__(self, outcome: Ending) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Jail:
    """A running jailed program, spoken with by lines. Not safe from threads; call `end` in any case.

    Args:
        process: just started; its clock begins now.
        limits: those of time and output are held here, the others by what holds the process.
        started: `time.monotonic()` when the jail began to be made, for the milliseconds.

    Raises:
        SandboxError: no descriptor is left to watch it with; it has been killed.
    """

    def __init__(self, process: Process, limits: Limits, started: float | None = None) -> None:
        self._process, self._limits = process, limits
        now = time.monotonic()
        self._started = now if started is None else started
        self._deadline = now + limits.wall_s
        self._stdout, self._stderr, self._pending = bytearray(), bytearray(), memoryview(b"")
        self._num_read = 0
        self._is_over = False
        self._execution: Execution | None = None
        self._stdin_closes = self._stdin_closed = False
        self._status: Status | None = None
        try:
            self._selector = selectors.DefaultSelector()
        except OSError as error:
            process.kill()
            for descriptor in (process.stdin, process.stdout, process.stderr, process.ended):
                os.close(descriptor)
            raise SandboxError(f"the program cannot be watched: {error}") from error
        self._watch()

    def _watch(self) -> None:
        self._selector.register(self._process.ended, selectors.EVENT_READ, self._read_exit)
        for descriptor, read in (
            (self._process.stdout, self._read_stdout),
            (self._process.stderr, self._read_stderr),
        ):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, read)
        os.set_blocking(self._process.stdin, False)

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
        self._write(stdin.encode("utf-8", errors="surrogateescape"))
        try:
            self._pump(lambda: self._is_over, self._deadline)
        except JailEndedError as ended:
            return self.end(ended.outcome)
        return self.end()

    def end(self, outcome: Ending | None = None) -> Execution:
        """Kill whatever is left of the program; `outcome` None: judge by its exit code. Twice: as the first time.

        Raises:
            SandboxError: what holds the program failed.
        """
        if self._execution is None:
            self._execution = _FALLEN  # stands when the next line raises
            self._kill()
            self._execution = self._judged(outcome)
        return self._execution

    def _judged(self, outcome: Ending | None) -> Execution:
        if outcome is None:
            outcome = self._exit_outcome() if self._is_over else Ending.FINISHED
        if outcome is Ending.FINISHED and self._num_read > self._limits.output_bytes:
            outcome = Ending.OUTPUT_LIMIT
        cpu_s = self._status.cpu_s if self._status else None
        rss = self._status.max_rss_bytes if self._status else None
        ms = (time.monotonic() - self._started) * 1000
        return Execution(outcome, self._text(self._stdout), self._text(self._stderr), ms, cpu_s, rss)

    def _exit_outcome(self) -> Ending:
        status = self._end_status()
        if status.code == -signal.SIGXCPU or self._is_cpu_kill(status):
            return Ending.TIME_LIMIT
        if status.code == 0:
            return Ending.FINISHED
        return Ending.MEMORY_LIMIT if self._is_memory(status) else Ending.FAILED

    def _end_status(self) -> Status:
        if self._status is None:
            self._status = self._process.status()
        return self._status

    def _is_cpu_kill(self, status: Status) -> bool:
        # A program that ignores the soft limit's signal is killed by the hard one.
        return status.code == -signal.SIGKILL and (status.cpu_s or 0.0) >= self._limits.cpu_s

    def _is_memory(self, status: Status) -> bool:
        if any(sign in self._stderr[-_SIGN_BYTES:] for sign in _MEMORY_SIGNS):
            return True
        # A failed malloc that nobody checks ends in a fault, with the memory nearly full.
        is_fault = status.code in {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT}
        return is_fault and (status.max_rss_bytes or 0) > _NEARLY_ALL * self._limits.memory_bytes

    def _kill(self) -> None:
        try:
            self._process.kill()
            with suppress(OSError):
                self._drain()
            if self._is_over:
                self._end_status()
        finally:
            self._selector.close()
            for descriptor in (self._process.stdout, self._process.stderr, self._process.ended):
                os.close(descriptor)
            self._close_stdin()

    # Pipes

    def _close_stdin(self) -> None:
        if not self._stdin_closed:
            self._stdin_closed = True
            os.close(self._process.stdin)

    def _write(self, content: bytes) -> None:
        self._pending = memoryview(bytes(self._pending) + content)
        if not self._stdin_closed and self._process.stdin not in self._selector.get_map():
            self._selector.register(self._process.stdin, selectors.EVENT_WRITE, self._write_stdin)

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
        self._selector.unregister(self._process.ended)
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
        try:
            self._pending = self._pending[os.write(descriptor, self._pending[:_CHUNK]) :]
        except BrokenPipeError:
            self._pending = memoryview(b"")
        if not self._pending:
            self._selector.unregister(descriptor)
            if self._stdin_closes:
                self._close_stdin()
        return 0

    @staticmethod
    def _text(content: bytes | bytearray) -> str:
        return bytes(content).decode("utf-8", errors="replace")
