"""Local files that are whole or not there: written aside, brought to disk, then given their name."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def aside_of(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to first; its folder is made, and what is left there at the end goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file, replacing an older one."""
    with aside_of(target) as aside:
        shutil.copyfile(source, aside)
        _sync(aside)
        aside.replace(target)


def create_whole(path: Path, content: bytes) -> bool:
    """Create a file, only if absent. Returns False when it is there already."""
    with aside_of(path) as aside:
        aside.write_bytes(content)
        _sync(aside)
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        return True


def link_whole(source: Path, target: Path) -> None:
    """Place `source` at `target` unless something is there; a hard link where the file system allows it."""
    if target.exists():
        return
    with aside_of(target) as aside:
        try:
            os.link(source, aside)
        except OSError:
            shutil.copyfile(source, aside)
        aside.replace(target)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
