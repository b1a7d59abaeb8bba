"""Writers in processes of their own that publish one small artifact, and can be killed in any of their system calls.

A template process has everything imported and forks a writer for each job, so that a kill costs milliseconds. What it
counts are the calls that reach the disk or the network, whichever way the store is written: so a change of the store
meets the same test.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.artifacts import Manifest
from infra.store import NondeterminismError, Store

STEP = "make-thing"
FORKED = multiprocessing.get_context("fork")
# Events that Python announces before it does them; fsync and sendfile are wrapped.
DISK_EVENTS = {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.truncate", "os.utime"}


@dataclass(frozen=True)
class Job:
    """One writer's work: in each round it publishes `contents` under the round's number."""

    uri: str
    local: str
    options: dict[str, Any] = field(default_factory=dict)
    contents: tuple[str, ...] = ("one", "two", "three" * 1000)
    sampled: bool = False
    rounds: int = 1
    kill_at: int | None = None


@dataclass(frozen=True)
class Result:
    """How one writer ended: what it published in each round, or how it was refused, or that it was killed."""

    exit_code: int
    digests: tuple[str, ...] = ()
    refusals: int = 0

    @property
    def was_killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL


def fingerprint_of(number: int) -> str:
    """The fingerprint of a round."""
    return f"{number:064x}"


class Publisher:
    """The template process, driven by lines of JSON."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.publisher"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, *jobs: Job) -> list[Result]:
        """Run the jobs side by side, round by round; their results."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
        self._process.stdin.flush()
        return [Result(**found) for found in json.loads(self._process.stdout.readline())]

    def close(self) -> None:
        """End the template, which ends at the end of its input."""
        self._process.communicate(timeout=30)


@contextmanager
def publisher() -> Iterator[Publisher]:
    """A template process that lives as long as the block."""
    opened = Publisher()
    try:
        yield opened
    finally:
        opened.close()


# In the template


def main() -> None:
    """Serve jobs until the input ends."""
    for line in sys.stdin:
        jobs = [Job(**job | {"contents": tuple(job["contents"])}) for job in json.loads(line)]
        print(json.dumps([asdict(result) for result in run_side_by_side(jobs)]), flush=True)


def run_side_by_side(jobs: Sequence[Job]) -> list[Result]:
    """A forked writer for each job; they begin every round together."""
    barrier, said = FORKED.Barrier(len(jobs)), [FORKED.Pipe(duplex=False) for _ in jobs]
    writers = [
        FORKED.Process(target=write, args=(job, barrier, sending)) for job, (_, sending) in zip(jobs, said, strict=True)
    ]
    for writer in writers:
        writer.start()
    for _, sending in said:
        sending.close()  # ours; then a writer that is killed ends its pipe
    return [_result(writer, receiving) for writer, (receiving, _) in zip(writers, said, strict=True)]


def _result(writer: Any, receiving: Any) -> Result:
    try:
        digests, refusals = receiving.recv()
    except EOFError:
        digests, refusals = (), 0
    writer.join()
    return Result(exit_code=writer.exitcode, digests=tuple(digests), refusals=refusals)


def write(job: Job, barrier: Any, sending: Any) -> None:
    """Publish as a step does: files, then the note beside them, then the manifest."""
    if job.kill_at is not None:
        kill_in_call(job.kill_at, job.uri)
    store = Store(job.uri, Path(job.local), job.options)
    digests, refusals = [], 0
    for number in range(job.rounds):
        barrier.wait(60)
        try:
            digests.append(publish(store, job, number).digest)
        except NondeterminismError:
            refusals += 1
    sending.send((digests, refusals))


def publish(store: Store, job: Job, number: int) -> Manifest:
    """One artifact of one file for each content."""
    source = Path(job.local) / f"source-{os.getpid()}"
    source.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for index, content in enumerate(job.contents):
        source.write_text(f"{number} {content}")
        files.append(store.put_file(source, f"file-{index}"))
    source.unlink()
    manifest = Manifest(
        kind="folder",
        name="thing",
        step=STEP,
        version=1,
        sampled=job.sampled,
        fingerprint=fingerprint_of(number),
        config={},
        parents={},
        files=tuple(files),
        summary={},
    )
    store.note(f"details/{STEP}/{manifest.fingerprint}.json", b"{}")
    return store.publish(manifest)


def kill_in_call(kill_at: int, uri: str) -> None:
    """From now on the `kill_at`-th call that touches the store's folder, or any socket, is this process's last."""
    count = 0

    def is_last() -> bool:
        nonlocal count
        count += 1
        return count == kill_at

    if "://" in uri:
        _watch_sockets(is_last)
    else:
        _watch_disk(is_last, uri)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _watch_sockets(is_last: Callable[[], bool]) -> None:
    """Die with half a request sent, or with a whole one sent whose answer is never read."""
    send, recv = socket.socket.send, socket.socket.recv

    def half_sent(self: socket.socket, content: Any, *flags: int) -> int:
        if is_last():
            send(self, bytes(content)[: len(content) // 2])
            _die()
        return send(self, content, *flags)

    def unread(self: socket.socket, *arguments: int) -> bytes:
        if is_last():
            _die()
        return recv(self, *arguments)

    socket.socket.send, socket.socket.recv = half_sent, unread  # type: ignore[method-assign]


def _watch_disk(is_last: Callable[[], bool], folder: str) -> None:
    """Die before a file below the folder is opened, filled, synced, linked, renamed or removed."""
    fsync, sendfile = os.fsync, os.sendfile

    def announced(event: str, arguments: tuple[Any, ...]) -> None:
        if event in DISK_EVENTS and any(folder in str(part) for part in arguments) and is_last():
            _die()

    def half_filled(out: int, source: int, offset: int, count: int) -> int:
        if is_last():
            sendfile(out, source, offset, 1)
            _die()
        return sendfile(out, source, offset, count)

    def unsynced(file: int) -> None:
        if is_last():
            _die()
        fsync(file)

    os.fsync, os.sendfile = unsynced, half_filled  # type: ignore[assignment]
    sys.addaudithook(announced)


if __name__ == "__main__":
    main()
