"""Unprivileged users of this machine, one a jail at a time: limits and kills go by user."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.sandbox.isolation import interpreter_for_others
from infra.sandbox.limits import SandboxError

# No system account has these by custom.
FIRST_USER = 63_000
NUM_USERS = 256
_KILL_ALL = "import os, sys; os.setresuid(*[int(sys.argv[1])] * 3); os.kill(-1, 9)"


@contextmanager
def leased_user(is_wanted: bool) -> Iterator[int | None]:
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
            if processes_of(user):
                continue
            yield user
            return
        finally:
            os.close(descriptor)
    raise SandboxError(f"all {NUM_USERS} jail users are busy; run fewer jails at a time")


def kill_user(user: int) -> None:
    """Kill what left its process group. All at once, or a fork bomb is faster than the killer."""
    while set(processes_of(user)) - {"Z"}:
        killer = [str(interpreter_for_others()), "-I", "-S", "-c", _KILL_ALL, str(user)]
        subprocess.run(killer, check=False, stderr=subprocess.DEVNULL, timeout=60)


def processes_of(user: int) -> list[str]:
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
