"""Carries a program's three streams between an engine's connection and pipes, as a jail speaks with every program."""

from __future__ import annotations

import os
import select
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from infra.sandbox.limits import SandboxError

_CHUNK = 65_536
_HEADER = struct.Struct(">B3xI")  # docker's API, "Stream format": which stream, three zeros, number of bytes
_STDOUT, _STDERR = 1, 2
_QUIET_S = 0.3
_FULL_S = 0.05


class Frame(NamedTuple):
    """Some bytes of standard output (1) or error (2)."""

    stream: int
    content: bytes


class FrameReader:
    """Cuts what comes over the connection into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, content: bytes) -> Iterator[Frame]:
        """The frames that are whole now."""
        self._buffer += content
        while len(self._buffer) >= _HEADER.size:
            stream, size = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            frame = Frame(stream, bytes(self._buffer[_HEADER.size : end]))
            del self._buffer[:end]
            yield frame


class Ends(NamedTuple):
    """Descriptors of one side of the pipes."""

    stdin: int
    stdout: int
    stderr: int
    ended: int


class Pipes(NamedTuple):
    """The jail's side, and the relay's."""

    jail: Ends
    relay: Ends


def open_pipes() -> Pipes:
    """Four pipes: the three streams, and one whose end says that the program is over."""
    (stdin, to_stdin), (stdout, to_stdout) = os.pipe(), os.pipe()
    (stderr, to_stderr), (ended, to_ended) = os.pipe(), os.pipe()
    return Pipes(Ends(to_stdin, stdout, stderr, ended), Ends(stdin, to_stdout, to_stderr, to_ended))


class Relay:
    """One program's streams, in a thread that ends with the program or with the jail's side of the pipes.

    Args:
        is_running: asked when the connection is silent: a child of the program may hold it open for ever.
    """

    def __init__(
        self, connection: socket.socket, ends: Ends, frames: FrameReader, is_running: Callable[[], bool]
    ) -> None:
        self._connection, self._ends, self._frames, self._is_running = connection, ends, frames, is_running
        self._pending = b""
        self._has_stdin = True
        self.is_over = self._is_dropping = False
        for descriptor in (ends.stdout, ends.stderr):
            os.set_blocking(descriptor, False)
        connection.setblocking(False)

    def start(self, early: Sequence[Frame] = ()) -> None:
        """Start the thread, which first passes on what the program has said by now."""
        threading.Thread(target=self._run, args=(early,), daemon=True, name="docker-relay").start()

    def drop(self) -> None:
        """Pass on nothing more, but go on reading: the engine starts no other program while one's output is stuck."""
        self._is_dropping = True

    def _run(self, early: Sequence[Frame]) -> None:
        # An OSError: the jail has closed its side, or the engine the connection. A SandboxError: the container is gone.
        with suppress(OSError, SandboxError), self._connection:
            for frame in early:
                self._pass_on(frame)
            while self._turn():
                pass
        self.is_over = True
        for descriptor in self._ends:  # `ended` last: by then the jail can read all that was said
            os.close(descriptor)

    def _turn(self) -> bool:
        """Wait for something to carry and carry it; False: it is over."""
        with selectors.DefaultSelector() as selector:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._pending else 0)
            selector.register(self._connection, wanted)
            if self._has_stdin and not self._pending:
                selector.register(self._ends.stdin, selectors.EVENT_READ)
            ready = {key.fd: events for key, events in selector.select(_QUIET_S)}
        if not ready:
            return self._is_running()
        if self._ends.stdin in ready:
            self._read_stdin()
        events = ready.get(self._connection.fileno(), 0)
        if events & selectors.EVENT_WRITE:
            self._pending = self._pending[self._connection.send(self._pending) :]
        return not events & selectors.EVENT_READ or self._carry_out()

    def _read_stdin(self) -> None:
        self._pending = os.read(self._ends.stdin, _CHUNK)
        if not self._pending:
            self._has_stdin = False
            self._connection.shutdown(socket.SHUT_WR)

    def _carry_out(self) -> bool:
        content = self._connection.recv(_CHUNK)
        for frame in self._frames.feed(content):
            self._pass_on(frame)
        return bool(content)

    def _pass_on(self, frame: Frame) -> None:
        target = self._ends.stdout if frame.stream == _STDOUT else self._ends.stderr
        view = memoryview(frame.content)
        while view and not self._is_dropping:
            if select.select([], [target], [], _FULL_S)[1]:
                view = view[os.write(target, view) :]
