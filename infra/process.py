"""Long-lived children whose whole tree dies with us: `ChildProcess`, and the supervisor that this file is when run.

We start a supervisor (this file, standard library only), which starts the command in a process group of its own and
holds one end of a pipe. The pipe carries the order to stop; when it closes, because we were killed, the supervisor
kills the tree. It is also the tree's subreaper: a grandchild that left the group (torchrun gives each rank a session)
comes back to it when its parent dies, and is killed too. Linux only.

Why not the parent-death signal alone: PR_SET_PDEATHSIG fires when the *thread* that forked ends, so a child started in
a worker thread would die with the thread, and it reaches no grandchild. The supervisor has one thread, so towards the
command it is safe and covers the supervisor's own death.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

# Seconds that the supervisor may take, after the grace, to kill and reap what is left.
KILL_ALLOWANCE_S = 10.0
# Seconds between looks at whether our parent still lives, for the case that a fork of it holds the pipe open.
PARENT_POLL_S = 1.0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class ChildProcess:
    """A running command and its whole tree; standard output and error go to one log file.

    Raises:
        FileNotFoundError: there is no such program on the PATH of `env`.
    """

    def __init__(
        self, command: Sequence[str], *, name: str, log: Path, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        if shutil.which(command[0], path=env.get("PATH")) is None:
            raise FileNotFoundError(f"{name}: no program `{command[0]}`; install it or put its folder on PATH")
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to translate into stop()
            )

    @property
    def pid(self) -> int:
        """Process id of the supervisor; the command is its child."""
        return self._supervisor.pid

    @property
    def returncode(self) -> int | None:
        """Exit code of the command, 128 + n when signal n ended it; None while it runs."""
        return self._supervisor.poll()

    @property
    def running(self) -> bool:
        """True until the command and its whole tree are gone."""
        return self.returncode is None

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the command to end by itself; its exit code.

        Raises:
            TimeoutError: it still runs; it is left running.
        """
        try:
            return self._supervisor.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout_s} s; see {self.log}, or stop() it") from None

    def stop(self, grace_s: float = 10.0) -> int:
        """SIGTERM to the group, SIGKILL to the tree once the command has ended or `grace_s` are over; the exit code."""
        pipe = self._supervisor.stdin
        assert pipe is not None
        with suppress(BrokenPipeError, ValueError):  # it has ended, or was stopped before
            pipe.write(f"{grace_s}\n".encode())
            pipe.flush()
        try:
            return self._supervisor.wait(grace_s + KILL_ALLOWANCE_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            return self._supervisor.wait()
        finally:
            with suppress(BrokenPipeError):
                pipe.close()

    def tail(self, num_lines: int = 30) -> str:
        """The last lines of the log, for error messages."""
        with self.log.open("rb") as stream:
            # 400 bytes a line is plenty, and the log of a server that failed a thousand requests is large.
            stream.seek(max(0, self.log.stat().st_size - 400 * num_lines))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-num_lines:])

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def end_process(process: int, timeout_s: float) -> bool:
    """Ask a process that is no child of ours to end, and wait until it is gone; False: it still runs."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free on `host` a moment ago; another process may take it before you do."""
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True when a server could listen on the port now."""
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


def supervise(command: Sequence[str]) -> int:
    """Run `command` until it ends, an order comes on standard input, or our parent is gone; its tree is dead after.

    Returns:
        The command's exit code; 128 + n when signal n ended it.
    """
    parent = os.getppid()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_die_with_supervisor)
    try:
        grace_s = _watch(child.pid, parent)
        if grace_s > 0:
            os.killpg(child.pid, signal.SIGTERM)
            _ended(child.pid, grace_s)
    finally:
        _kill_tree(child)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _die_with_supervisor() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed; ChildProcess needs Linux 3.4 or later")


def _watch(child: int, parent: int) -> float:
    """Seconds of grace that the command is to get; 0 when it has ended or when our parent is gone."""
    ended = os.pidfd_open(child)
    while True:
        ready, _, _ = select.select([sys.stdin, ended], [], [], PARENT_POLL_S)
        if sys.stdin in ready:
            return float(sys.stdin.readline() or 0)
        if ended in ready or os.getppid() != parent:
            return 0.0
        _reap_orphans(child)


def _ended(child: int, timeout_s: float) -> bool:
    """Wait for the command's end without reaping it: as a zombie it keeps its group's number from being reused."""
    ready, _, _ = select.select([os.pidfd_open(child)], [], [], timeout_s)
    return bool(ready)


def _kill_tree(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    # Killing a process hands its children to us, their subreaper: round by round until nobody is left.
    while orphans := _children():
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in orphans:
            os.waitpid(pid, 0)


def _reap_orphans(child: int) -> None:
    for pid in _children():
        if pid != child:
            os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
