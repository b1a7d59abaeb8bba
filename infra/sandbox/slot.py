"""A slot: a jail with a zygote that starts one program after another, seen from the host."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from infra.sandbox.isolation import ENVIRONMENT, resources, slot_command
from infra.sandbox.launch import START_S, Pipe, await_end, first_process, read_some
from infra.sandbox.limits import Limits, SandboxError
from infra.sandbox.order import Order
from infra.sandbox.process import Status
from infra.sandbox.users import leased_user

_LONGEST_REPORT = 4096
_OWN_PROCESSES = 3


class SlotError(SandboxError):
    """A slot that can be used no more; another may do."""


class Slot:
    """One zygote's jail. Not safe from threads: one program at a time.

    Raises:
        SlotError: the zygote does not start.
    """

    def __init__(self, bubblewrap: Path, shown: Mapping[Path, Path]) -> None:
        self._open = ExitStack()
        self._is_busy = self._is_spent = False
        try:
            self.user = self._open.enter_context(leased_user(os.geteuid() == 0))
            self._start(bubblewrap, shown)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise SlotError(f"no jail can be made: {error}") from error
            raise

    def _start(self, bubblewrap: Path, shown: Mapping[Path, Path]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._host = self._open.enter_context(ours)
        ours.settimeout(START_S)
        with theirs:
            info = Pipe.open()
            command = slot_command(bubblewrap, self.user, info.write_end, theirs.fileno(), shown)
            try:
                popen = _starter(os.getpid()).submit(_popen, command, [theirs.fileno(), info.write_end]).result()
            except OSError as error:
                os.close(info.read_end)
                raise SlotError(f"the jail does not start: {error}") from error
            finally:
                os.close(info.write_end)
        self._open.callback(_end, popen, info.read_end)
        if self._receive() != b"hello":
            assert popen.stderr is not None
            os.set_blocking(popen.stderr.fileno(), False)
            raise SlotError(f"the jail did not start: {read_some(popen.stderr.fileno())[-500:].decode()}")

    def _receive(self) -> bytes:
        try:
            return self._host.recv(_LONGEST_REPORT)
        except OSError as error:
            raise SlotError(f"a slot's zygote does not answer: {error}") from error

    def start(self, order: Order, limits: Limits) -> SlotProcess:
        """Fork a program; returns once its first byte is to be run.

        Raises:
            SlotError: the zygote failed; close this slot.
        """
        kernel_limits = resources(limits)
        if self.user is None:
            # Within this user's own namespace bubblewrap's first process, the zygote and init count too.
            kernel_limits["RLIMIT_NPROC"] += _OWN_PROCESSES
        settings = {"limits": kernel_limits, "file_bytes": limits.file_bytes, "user": self.user}
        settings |= {"kind": order.kind, "command": list(order.command) or None, "environment": ENVIRONMENT}
        try:
            with _pipes(self.user) as pipes, _in_memory(order.content) as content:
                self._is_busy = True
                passed = [*pipes.theirs, content, *([] if order.out is None else [order.out])]
                socket.send_fds(self._host, [b"run " + json.dumps(settings).encode()], passed)
        except OSError as error:
            raise SlotError(f"a slot's zygote is gone, or takes no program: {error}") from error
        return SlotProcess(self, pipes.ours())

    def await_gone(self) -> None:
        """Kill the program, and wait until nothing of it runs.

        Raises:
            SlotError: the zygote does not say so; all of the slot has been ended.
        """
        if not self._is_busy:
            return
        try:
            with suppress(OSError):
                self._host.send(b"kill")
            told = self._receive()
            if told not in {b"gone", b"left"}:
                raise SlotError("a slot's zygote ended")
            self._is_busy, self._is_spent = False, told == b"left"
        except SlotError:
            self.close()
            raise

    @property
    def is_free(self) -> bool:
        """True when the next program may start, and finds nothing of those before."""
        return not self._is_busy and not self._is_spent

    def close(self) -> None:
        """End the zygote with all it started; harmless twice."""
        self._open.close()


class SlotProcess:
    """A program in a slot (see `process.Process`)."""

    def __init__(self, slot: Slot, ours: tuple[int, int, int, int]) -> None:
        self._slot = slot
        self.stdin, self.stdout, self.stderr, self.ended = ours
        try:
            told = b""
            if select.select([self.ended], [], [], START_S)[0]:
                told = os.read(self.ended, 1)
            if told != b"r":
                reason = os.read(self.ended, _LONGEST_REPORT) if told else b"no answer"
                raise SlotError(f"the program did not start: {reason.decode(errors='replace')}")
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise

    def status(self) -> Status:
        """How the program ended, from the first process of its namespace."""
        told = os.read(self.ended, _LONGEST_REPORT)
        if not told:
            raise SandboxError("a jail's first process was killed from outside, so how the program ended is unknown")
        found = json.loads(told)
        return Status(found["code"], found["cpu_s"], found["rss"] * 1024)

    def kill(self) -> None:
        """End the program's namespace."""
        self._slot.await_gone()


class _Pipes(NamedTuple):
    stdin: Pipe
    stdout: Pipe
    stderr: Pipe
    report: Pipe

    @property
    def theirs(self) -> tuple[int, int, int, int]:
        return self.stdin.read_end, self.stdout.write_end, self.stderr.write_end, self.report.write_end

    def ours(self) -> tuple[int, int, int, int]:
        return self.stdin.write_end, self.stdout.read_end, self.stderr.read_end, self.report.read_end


@contextmanager
def _pipes(user: int | None) -> Iterator[_Pipes]:
    """Pipes of a program. The ends that it has are closed here in any case, ours where the program does not start."""
    with ExitStack() as ours:
        with ExitStack() as theirs:
            opened = []
            for of_read, of_write in ((theirs, ours), (ours, theirs), (ours, theirs), (ours, theirs)):
                opened.append(Pipe.open())  # one by one: the next may find no descriptor left
                of_read.callback(os.close, opened[-1].read_end)
                of_write.callback(os.close, opened[-1].write_end)
            pipes = _Pipes(*opened)
            if user is not None:
                for descriptor in pipes.theirs[:3]:
                    os.fchown(descriptor, user, user)  # or it could not open /dev/stdin
            yield pipes
        ours.pop_all()


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("program")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, 0o555)
        yield descriptor
    finally:
        os.close(descriptor)


@cache
def _starter(_process: int) -> ThreadPoolExecutor:
    # A child dies with the *thread* that started it, so that thread has to live as long as this process.
    return ThreadPoolExecutor(1, "slots")


def _popen(command: list[str], passed: list[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env=ENVIRONMENT,
        pass_fds=passed,
        start_new_session=True,
    )


def _end(popen: subprocess.Popen[bytes], info: int) -> None:
    inside = first_process(info)
    os.close(info)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait()
    if popen.stderr is not None:
        popen.stderr.close()
    if inside is not None:
        await_end(inside)


class Slots:
    """Slots that threads share: started at first use, kept for the next program."""

    def __init__(self, bubblewrap: Path, shown: Mapping[Path, Path] | None = None) -> None:
        self._bubblewrap, self._shown = bubblewrap, shown or {}
        self._lock = threading.Lock()
        self._idle: list[Slot] = []
        self._process = os.getpid()

    @contextmanager
    def start(self, order: Order, limits: Limits) -> Iterator[SlotProcess]:
        """A started program, on a slot of its own while the block lasts.

        Raises:
            SandboxError: no slot starts, twice.
        """
        slot = self._take()
        try:
            try:
                process = slot.start(order, limits)
            except SlotError:
                slot.close()
                slot = Slot(self._bubblewrap, self._shown)
                process = slot.start(order, limits)
            yield process
        finally:
            self._give_back(slot)

    def _take(self) -> Slot:
        with self._lock:
            if self._process != os.getpid():  # a fork of this process: the slots are the parent's
                self._idle, self._process = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        return Slot(self._bubblewrap, self._shown)

    def _give_back(self, slot: Slot) -> None:
        with self._lock:
            if slot.is_free:
                self._idle.append(slot)
                return
        slot.close()

    def close(self) -> None:
        """End all idle slots."""
        with self._lock:
            slots, self._idle = self._idle, []
        if self._process == os.getpid():
            for slot in slots:
                slot.close()
