"""Answers of expensive per-row work, kept under the store: a grown data set pays only for new rows.

Append-only JSON Lines segments, one a writer, so that a crash loses at most the line being written. On a local store a
segment grows in place; on S3 it grows in a local folder, and is uploaded now and then and at the end. Its writer holds
a lock on it, so that whoever comes next uploads what a killed one left, and only that.
"""

from __future__ import annotations

import fcntl
import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from infra.store import Store

# On S3, where a machine may be lost with its disk: it takes the answers of so long with it at most.
UPLOAD_EVERY_S = 60.0


class RowCache:
    """Key → JSON value, for one namespace (`llm`, `verdicts`, …). Failures are never put here. Safe from threads.

    Args:
        store: where the answers last.
        namespace: a name a kind of work.
        local: folder on this machine for segments that are not in a remote store yet; its processes may share it.
    """

    def __init__(self, store: Store, namespace: str, local: Path) -> None:
        self.store, self.local = store, local
        self._folder = f"row_cache/{namespace}"
        self._root = Path(store.uri) if store.is_local else local
        self._path = Path()
        self._opened = 0.0
        self._values: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._file: Any = None
        self.hits = 0
        if not store.is_local:
            self._upload_leftovers()
        for name in store.notes(self._folder):
            self._load(store.read_note(name) or b"")

    def _upload_leftovers(self) -> None:
        """Segments of a writer that was killed before it could upload them."""
        for path in sorted((self._root / self._folder).glob("*.jsonl")):
            self._upload_if_left(path)

    def _upload_if_left(self, path: Path) -> None:
        try:
            segment = path.open("rb")
        except FileNotFoundError:
            return  # another process has uploaded it
        with segment:
            try:
                fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # it is still written
            if path.exists():
                self._upload(path)

    def _load(self, content: bytes) -> None:
        for line in content.split(b"\n"):
            try:
                key, value = json.loads(line)
            except ValueError:
                continue  # the last line of a writer that was killed
            self._values[key] = value

    def get(self, key: str) -> Any | None:
        """The value of a key, or None."""
        with self._lock:
            value = self._values.get(key)
            self.hits += value is not None
            return value

    def has(self, key: str) -> bool:
        """Whether there is a value, without counting a hit."""
        with self._lock:
            return key in self._values

    def beside(self, namespace: str) -> RowCache:
        """A cache of another namespace in the same place."""
        return RowCache(self.store, namespace, self.local)

    def items(self) -> list[tuple[str, Any]]:
        """All keys with their values, as they are now."""
        with self._lock:
            return list(self._values.items())

    def put(self, key: str, value: Any) -> None:
        """Keep a value; it is on disk when this returns."""
        line = json.dumps([key, value], ensure_ascii=False) + "\n"
        with self._lock:
            if self._file is None:
                self._open()
            self._values[key] = value
            self._file.write(line)
            self._file.flush()
            if not self.store.is_local and time.monotonic() - self._opened > UPLOAD_EVERY_S:
                self._end_segment()

    def close(self) -> None:
        """Have all that was put in the store. A value that is put later begins another segment."""
        with self._lock:
            if self._file is not None:
                self._end_segment()

    def _open(self) -> None:
        self._path = self._root / self._folder / f"{uuid.uuid4().hex}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".new")
        self._file = aside.open("a", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        aside.rename(self._path)  # nobody sees it without its lock
        self._opened = time.monotonic()

    def _end_segment(self) -> None:
        try:
            if not self.store.is_local:
                self._upload(self._path)
        finally:
            self._file.close()
            self._file = None

    def _upload(self, path: Path) -> None:
        self.store.note(f"{self._folder}/{path.name}", path.read_bytes())
        path.unlink()
