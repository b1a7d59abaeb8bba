"""Answers of expensive per-row work, kept under the store: a grown data set pays only for new rows.

Append-only JSON Lines segments, one a writer, so that a crash loses at most the line being written. On a local store a
segment grows in place; on S3 it grows in scratch and is uploaded when the cache closes.
"""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path
from typing import Any

from infra.store import Store


class RowCache:
    """Key → JSON value, for one namespace (`llm`, `verdicts`, …). Failures are never put here. Safe from threads."""

    def __init__(self, store: Store, namespace: str, scratch: Path) -> None:
        self._store = store
        self._folder = f"row_cache/{namespace}"
        self._segment = f"{self._folder}/{uuid.uuid4().hex}.jsonl"
        self._values: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._path = Path(store.uri) / self._segment if store.is_local else scratch / self._segment
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
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8")
            self._values[key] = value
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        """Close the segment, and upload it where the store is remote."""
        with self._lock:
            if self._file is None:
                return
            self._file.close()
            self._file = None
        if not self._store.is_local:
            self._store.note(self._segment, self._path.read_bytes())
            self._path.unlink()
