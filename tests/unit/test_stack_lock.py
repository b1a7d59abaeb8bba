"""The lock of a stack's home: held by one, freed with it, and looked at without a trace."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.stack.keeper import is_kept, take_lock


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_lock_is_held_by_one_and_not_by_its_children(tmp_path: Path) -> None:
    lock = take_lock(tmp_path)
    assert lock is not None
    assert take_lock(tmp_path) is None
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], close_fds=False)
    try:
        lock.close()
        wait_until(lambda: not is_kept(tmp_path))  # a child holds it from its fork to its exec
    finally:
        child.kill()
        child.wait()


def test_a_look_writes_nothing(tmp_path: Path) -> None:
    assert not is_kept(tmp_path / "no stack here")
    assert list(tmp_path.iterdir()) == []
    lock = take_lock(tmp_path)
    assert lock is not None
    assert is_kept(tmp_path)
    lock.close()
    assert not is_kept(tmp_path)
