"""The objects of a store as a listing tells them: name, size, age."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
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


def part_without_stars(folder: str) -> str:
    """The folder above the first part that is a `*`: what has to be listed."""
    return "/".join(takewhile(lambda part: part != "*", folder.split("/")))


def is_below(name: str, folder: str) -> bool:
    """True for an object right below a folder, in whose name a part that is a `*` stands for any."""
    parts, wanted = name.split("/")[:-1], folder.split("/")
    return len(parts) == len(wanted) and all(want in ("*", part) for part, want in zip(parts, wanted, strict=True))
