"""What lies on the local disk beside the store and can be made again: scratch, checkouts, copies of remote blobs."""

from __future__ import annotations

import fcntl
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from infra.objects import Stored, objects_below
from infra.store import Store

_SCRATCH = re.compile(r".+-[0-9a-f]{24}")  # as infra.run.scratch_of names it
_GONE = ".gone-"


class Found(NamedTuple):
    """Local leftovers; names are absolute paths, bytes those that only this place holds."""

    checkouts: list[Stored]
    copies: list[Stored]
    scratch: list[Stored]


class Leftovers:
    """Finds and removes what is older than `cutoff`, in seconds since 1970."""

    def __init__(self, store: Store, scratch: Path, cutoff: float) -> None:
        self._store, self._scratch, self._cutoff = store, scratch, cutoff

    def find(self, kept_checkouts: set[str]) -> Found:
        """Checkouts that are not kept, copies of blobs, and scratch folders in which no process works."""
        checkouts = (_weighed(path) for path in _folders(self._store.local / "checkouts"))
        scratch = (_weighed(path) for path in _folders(self._scratch) if _is_scratch(path.name))
        return Found(
            checkouts=[each for each in checkouts if Path(each.name).name not in kept_checkouts and self._goes(each)],
            copies=[each for each in self._copies() if each.modified <= self._cutoff],
            scratch=[each for each in scratch if self._goes(each) and _is_idle(Path(each.name))],
        )

    def _copies(self) -> Iterator[Stored]:
        if not self._store.is_local:  # otherwise the blobs themselves lie there
            root = self._store.local
            for name, size, modified in objects_below(root / "blobs", root):
                yield Stored(str(root / name), size, modified)

    def _goes(self, folder: Stored) -> bool:
        return folder.modified <= self._cutoff or _GONE in folder.name

    # Removing

    def remove_folder(self, name: str) -> bool:
        """Remove a folder that is still old; True when it went."""
        folder = Path(name)
        if not folder.exists() or not self._goes(_weighed(folder)):
            return False
        # Out of the way first: a removal that is killed leaves no folder with half of its files under its name.
        gone = folder if _GONE in folder.name else folder.with_name(f"{folder.name}{_GONE}{uuid.uuid4().hex}")
        folder.replace(gone)
        shutil.rmtree(gone)
        return True

    def remove_file(self, name: str) -> bool:
        """Remove a copy of a blob; whoever needs it fetches it again."""
        Path(name).unlink(missing_ok=True)
        return True

    def remove_scratch(self, name: str) -> bool:
        """Remove a scratch folder, unless a process took it up meanwhile; True when it went."""
        with _tried(Path(name)) as is_ours:
            if not is_ours:
                return False
            self._rescue_answers(Path(name))
            return self.remove_folder(name)

    def _rescue_answers(self, folder: Path) -> None:
        """Answers that a killed run paid for and had not uploaded: they go to the store's row cache."""
        if not self._store.is_local:
            for path in sorted((folder / "row_cache").rglob("*.jsonl")):
                self._store.note(path.relative_to(folder).as_posix(), path.read_bytes())


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _is_scratch(name: str) -> bool:
    return _SCRATCH.fullmatch(name.partition(_GONE)[0]) is not None


def _weighed(folder: Path) -> Stored:
    """A folder with the time of its youngest entry, and its bytes less those that are hard links to blobs."""
    size, youngest = 0, math.inf  # gone meanwhile: as young as can be
    with suppress(FileNotFoundError):
        youngest = folder.lstat().st_mtime
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                status = (Path(place) / name).lstat()
                youngest = max(youngest, status.st_mtime)
                size += status.st_size if name in files and status.st_nlink == 1 else 0
    return Stored(str(folder), size, youngest)


def _is_idle(folder: Path) -> bool:
    with _tried(folder) as is_ours:
        return is_ours


@contextmanager
def _tried(folder: Path) -> Iterator[bool]:
    """The lock of a scratch folder, which infra.step holds while it works there; False when it is taken.

    The lock file stays: were it removed, one process could lock the old file while another locks a new one.
    """
    lock = folder.with_suffix(".lock")
    if not lock.exists():
        yield True
        return
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
