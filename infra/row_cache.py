"""Answers of expensive per-row work, kept under the store: a grown data set pays only for new rows.

Append-only JSON Lines segments, one a writer, so that a crash loses at most the line being written. On a local store a
segment grows in place; on S3 it grows in scratch, and is uploaded and followed by another now and then, and at the end.
"""

from __future__ import annotations

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
    """Key → JSON value, for one namespace (`llm`, `verdicts`, …). Failures are never put here. Safe from threads."""

    def __init__(self, store: Store, namespace: str, scratch: Path) -> None:
        self._store = store
        self._folder = f"row_cache/{namespace}"
        self._root = Path(store.uri) if store.is_local else scratch
        self._segment = ""
        self._opened = 0.0
        self._values: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._file: Any = None
        self.hits = 0
        self._upload_leftovers(scratch)
        for name in store.notes(self._folder):
            self._load(store.read_note(name) or b"")

    def _upload_leftovers(self, scratch: Path) -> None:
        """Segments of a writer that was killed before it could upload them."""
        if self._store.is_local:
            return
        for path in sorted((scratch / self._folder).glob("*.jsonl")):
            self._store.note(f"{self._folder}/{path.name}", path.read_bytes())
            path.unlink()

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

    def put(self, key: str, value: Any) -> None:
        """Keep a value; it is on disk when this returns."""
        line = json.dumps([key, value], ensure_ascii=False) + "\n"
        with self._lock:
            if self._file is None:
                self._open()
            self._values[key] = value
            self._file.write(line)
            self._file.flush()
            if not self._store.is_local and time.monotonic() - self._opened > UPLOAD_EVERY_S:
                self._end_segment()

    def close(self) -> None:
        """Close the segment, and upload it where the store is remote."""
        with self._lock:
            if self._file is not None:
                self._end_segment()

    def _open(self) -> None:
        self._segment = f"{self._folder}/{uuid.uuid4().hex}.jsonl"
        self._opened = time.monotonic()
        path = self._root / self._segment
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def _end_segment(self) -> None:
        self._file.close()
        self._file = None
        if not self._store.is_local:
            path = self._root / self._segment
            self._store.note(self._segment, path.read_bytes())
            path.unlink()
