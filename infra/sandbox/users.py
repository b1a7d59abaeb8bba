"""Unprivileged users of this machine, one a jail at a time: limits and kills go by user."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infra.sandbox.isolation import interpreter_for_others
from infra.sandbox.limits import SandboxError

# No system account has these by custom.
FIRST_USER = 63_000
NUM_USERS = 256
_RUN = Path("/run")  # the same for all of a machine, whatever their folder of temporary files is
_FOLDER = "posttrain-jails"
_KILL_ALL = "import os, sys; os.setresuid(*[int(sys.argv[1])] * 3); os.kill(-1, 9)"


@contextmanager
def leased_user(is_wanted: bool) -> Iterator[int | None]:
    """A uid that no other jail of this machine uses, by a lock that ends with this process.

    Raises:
        SandboxError: no lock can be had.
    """
    if not is_wanted:
        yield None
        return
    folder = lock_folder()
    for user in range(FIRST_USER, FIRST_USER + NUM_USERS):
        descriptor = _locked(folder / f"{user}.lock")
        if descriptor is None:
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


def lock_folder() -> Path:
    """Folder of the locks, where nobody else can put or hold one.

    Raises:
        SandboxError: it is another's, open to others, or cannot be made.
    """
    for above in (_RUN, Path(tempfile.gettempdir())):
        folder = above / _FOLDER
        with suppress(OSError):  # told by what is found there
            folder.mkdir(mode=0o700)
        if os.access(folder, os.W_OK, follow_symlinks=False):
            return _checked(folder)
    raise SandboxError(f"no place for the locks of jail users: {folder} cannot be written; set TMPDIR to a folder")


def _checked(folder: Path) -> Path:
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode != stat.S_IFDIR | 0o700:
        raise SandboxError(f"{folder} holds the locks of jail users, and is not a folder of ours alone; remove it")
    return folder


def _locked(path: Path) -> int | None:
    """Descriptor of a lock that is ours now; None: another has it."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SandboxError(f"no lock for a jail's user: {error}; see the rights of {path}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise SandboxError(f"no lock for a jail's user: {error}; its folder's file system has to have locks") from error
    return descriptor


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
