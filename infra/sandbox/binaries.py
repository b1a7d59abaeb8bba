"""Executables by key, in a folder of one size; a file that does not hold what was put is never given out."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

_DIGEST_BYTES = 32
_KEPT_SHARE = 0.8  # room made at once, so that not every new one throws an old one out


class BinaryCache:
    """Executables of earlier compilations. Safe from threads and processes.

    A folder that cannot be made, read or written keeps nothing: that costs time, and never a verdict.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, key: str) -> bytes | None:
        """The executable, or None: not there, or no longer whole."""
        path = self._folder / key
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, binary = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        is_whole = hashlib.sha256(key.encode() + binary).digest() == digest
        with suppress(OSError):
            if is_whole:
                os.utime(path)  # used now: others go first
            else:
                path.unlink()
        return binary if is_whole else None

    def put(self, key: str, binary: bytes) -> None:
        """Keep an executable if there is a place; the least recently used make room."""
        with suppress(OSError):
            self._write(self._folder / key, hashlib.sha256(key.encode() + binary).digest() + binary)
            self._make_room()

    def _write(self, path: Path, content: bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).rename(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _make_room(self) -> None:
        found = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process makes room too
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self._max_bytes:
            return
        for _, size, path in sorted(found):
            if total <= self._max_bytes * _KEPT_SHARE:
                return
            path.unlink(missing_ok=True)
            total -= size
