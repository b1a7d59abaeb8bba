"""The objects of a store as a listing tells them: name, size, age."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Stored(NamedTuple):
    """One object of a store."""

    name: str
    bytes: int
    modified: float  # seconds since 1970


def objects_below(folder: Path, root: Path) -> Iterator[Stored]:
    """Every file below a local folder, named from `root`.

    Raises:
        OSError: a folder cannot be read. Who deletes what is not on this list must know that it is whole.
    """
    for place, _, names in os.walk(folder, onerror=_unless_gone):
        for name in names:
            path = Path(place) / name
            with suppress(FileNotFoundError):  # an unfinished write that ended meanwhile
                status = path.stat()
                yield Stored(path.relative_to(root).as_posix(), status.st_size, status.st_mtime)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
