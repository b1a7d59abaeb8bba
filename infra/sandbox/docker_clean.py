"""Ends a program with all that it started, and deletes what it left. Run in its container as its user, from this text.

What it kills might strike first, as it is of the same user; so nobody believes it: the container's keeper looks after.
"""

import os
import shutil
import signal
import time

_WRITABLE = ("/tmp", "/dev/shm", "/dev/mqueue")
_TRIES = 400


def _kill_all() -> None:
    """All at once, or a fork bomb is faster than its killer; the kernel leaves out the first process, and us."""
    for _ in range(_TRIES):
        try:
            os.kill(-1, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # nobody is left, or only the keeper
            return
        time.sleep(0.005)


def _wipe(folder: str) -> None:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)  # noqa: PTH101 - pathlib would double the start
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)  # noqa: PTH108 - as above


if __name__ == "__main__":
    _kill_all()
    for folder in _WRITABLE:
        if os.access(folder, os.W_OK):
            _wipe(folder)
