"""Sandbox: finds the best jail that works here, and runs Python programs in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.sandbox.isolation import Box, interpreter_for_others, jail_command
from infra.sandbox.jail import Jail
from infra.sandbox.launch import Launched, Pipe
from infra.sandbox.limits import Ending, Execution, Language, Level, Limits, Program, SandboxError

# Unprivileged users that no system account has by custom; one a jail at a time, since limits and kills go by user.
FIRST_USER = 63_000
NUM_USERS = 256
LOCAL_LEVELS = (Level.BUBBLEWRAP, Level.OWN_USER, Level.LIMITS)
_PROBE = "import os; print(os.getuid())"
_KILL_ALL = "import os, sys; os.setresuid(*[int(sys.argv[1])] * 3); os.kill(-1, 9)"


class Sandbox:
    """Runs untrusted Python programs. Safe from threads; every call has a jail of its own.

    Args:
        level: insist on a level; by default the best that a probe finds working.
        bubblewrap: its program; by default the one on the search path.
    """

    def __init__(self, level: Level | None = None, bubblewrap: Path | None = None) -> None:
        found = shutil.which("bwrap")
        self._bubblewrap = bubblewrap or (Path(found) if found else None)
        self._wanted = level
        self._level: Level | None = None
        self._lock = threading.Lock()

    @property
    def level(self) -> Level:
        """The level in use; probed at the first look.

        Raises:
            SandboxError: no level, or not the wanted one, works here.
        """
        with self._lock:
            if self._level is None:
                self._level = self._probe()
            return self._level

    def _probe(self) -> Level:
        troubles = []
        # Limits alone would run strangers' code as root, so root has to ask for that by name.
        levels = [level for level in LOCAL_LEVELS if level is not Level.LIMITS or os.geteuid() != 0]
        for level in [self._wanted] if self._wanted else levels:
            try:
                with self._jail(level, _PROBE, Limits()) as jail:
                    done = jail.feed("")
                if done.outcome is Ending.FINISHED:
                    return level
                troubles.append(f"{level}: {done.outcome} {done.stderr[-200:]}")
            except SandboxError as error:
                troubles.append(f"{level}: {error}")
        raise SandboxError(f"no jail works here ({'; '.join(troubles)}); `apt-get install bubblewrap`")

    def run(self, program: Program, stdin: str, limits: Limits) -> Execution:
        """Run a program with its whole input; a failure of the jail itself is `SANDBOX_FAILURE`."""
        try:
            with self._jail(self.level, _python(program), limits) as jail:
                return jail.feed(stdin)
        except SandboxError as error:
            return Execution(Ending.SANDBOX_FAILURE, "", str(error), 0.0)

    @contextmanager
    def open(self, program: Program, limits: Limits) -> Iterator[Jail]:
        """A program to speak with by lines; killed when the block ends.

        Raises:
            SandboxError: the jail does not start.
        """
        with self._jail(self.level, _python(program), limits) as jail:
            yield jail

    def close(self) -> None:
        """Nothing is kept between programs."""

    @contextmanager
    def _jail(self, level: Level, program: str, limits: Limits) -> Iterator[Jail]:
        self._check(level)
        has_user = os.geteuid() == 0 and level is not Level.LIMITS
        folder = tempfile.TemporaryDirectory(prefix="jail-", ignore_cleanup_errors=True)
        with folder as name, _leased_user(has_user) as user:
            ready, info = Pipe.open(), Pipe.open()
            box = _furnish(Box(Path(name), user, ready.write_end, info.write_end), program)
            started = time.monotonic()
            launched = Launched(jail_command(level, self._bubblewrap, box, limits), box.work, ready, info)
            jail = Jail(launched, limits, started)
            try:
                yield jail
            finally:
                jail.end()
                if user is not None and level is Level.OWN_USER:
                    _kill_user(user)

    def _check(self, level: Level) -> None:
        if level is Level.BUBBLEWRAP and self._bubblewrap is None:
            raise SandboxError("bubblewrap is not installed; install it (`apt-get install bubblewrap`)")
        if level is Level.OWN_USER and (os.geteuid() != 0 or interpreter_for_others() is None):
            raise SandboxError("a user of its own needs root here, and a Python that every user may start")


def _python(program: Program) -> str:
    if program.language is not Language.PYTHON:
        raise SandboxError(f"no jail for {program.language} here")
    return program.source


def _furnish(box: Box, program: str) -> Box:
    box.program.write_text(program, encoding="utf-8")
    box.work.mkdir()
    if box.user is not None:
        box.folder.chmod(0o711)
        os.chown(box.work, box.user, box.user)
    return box


@contextmanager
def _leased_user(is_wanted: bool) -> Iterator[int | None]:
    """A uid that no other jail of this machine uses, by a lock that ends with this process."""
    if not is_wanted:
        yield None
        return
    for user in range(FIRST_USER, FIRST_USER + NUM_USERS):
        descriptor = os.open(Path(tempfile.gettempdir()) / f"posttrain-jail-{user}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            # The dead count towards the limit of processes until init reaps them, which it may do seconds later.
            if _processes_of(user):
                continue
            yield user
            return
        finally:
            os.close(descriptor)
    raise SandboxError(f"all {NUM_USERS} jail users are busy; run fewer jails at a time")


def _kill_user(user: int) -> None:
    """Kill what left its process group. All at once, or a fork bomb is faster than the killer."""
    while set(_processes_of(user)) - {"Z"}:
        killer = [str(interpreter_for_others()), "-I", "-S", "-c", _KILL_ALL, str(user)]
        subprocess.run(killer, check=False, stderr=subprocess.DEVNULL, timeout=60)


def _processes_of(user: int) -> list[str]:
    """State letter of every process of a user, `Z` for the dead that nobody has reaped."""
    states = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields["Uid"].split()[0]) == user:
                states.append(fields["State"].split()[0])
    return states
