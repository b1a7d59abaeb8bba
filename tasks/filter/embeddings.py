"""Vectors of texts that were encoded before, kept under the store: a grown data set pays for its new rows only.

A segment is one NumPy file: keys of 16 bytes beside float32 rows, 1.6 kB a text at 384 dimensions. Its name is the hash
of its bytes, so that a segment that is written twice is there once.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha256
from io import BytesIO

import numpy as np

from infra.store import Store
from tasks.filter.encoder import Encoder, Vectors

_KEY_BYTES = 16
_SEGMENT_ROWS = 4096  # a crash loses so many vectors at most


class KeptVectors:
    """An encoder that asks another one only for texts that nobody has encoded with it before.

    Attributes:
        hits: texts that were answered from what is kept.
        misses: texts that the encoder was asked for.
    """

    def __init__(self, encoder: Encoder, store: Store) -> None:
        self.identity, self._encoder, self._store = encoder.identity, encoder, store
        self._folder = f"row_cache/vectors-{encoder.identity[:16]}"
        self._places: dict[bytes, int] = {}
        self._blocks: list[Vectors] = []
        self._starts: list[int] = [0]
        self.hits = self.misses = 0
        for name in sorted(store.notes(self._folder)):
            self._load(store.read_note(name) or b"")

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._encoder.dim

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32[len(texts), dim]."""
        keys = [_key(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._places}
        self.hits, self.misses = self.hits + len(texts) - len(new), self.misses + len(new)
        missing = list(new)
        for start in range(0, len(missing), _SEGMENT_ROWS):
            part = missing[start : start + _SEGMENT_ROWS]
            self._keep(part, self._encoder.encode([new[key] for key in part]))
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return np.stack([self._row(self._places[key]) for key in keys])

    def _row(self, place: int) -> Vectors:
        block = int(np.searchsorted(self._starts, place, side="right")) - 1
        row: Vectors = self._blocks[block][place - self._starts[block]]
        return row

    def _keep(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        content = BytesIO()
        np.save(content, np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), _KEY_BYTES))
        np.save(content, vectors)
        name = f"{self._folder}/{sha256(content.getvalue()).hexdigest()}.npy"
        self._store.note(name, content.getvalue())
        self._add(keys, vectors)

    def _load(self, content: bytes) -> None:
        """Take up one segment; notes are written whole, so one that cannot be read is an error."""
        file = BytesIO(content)
        keys, vectors = np.load(file), np.load(file)
        self._add([bytes(key) for key in keys], vectors)

    def _add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        start = self._starts[-1]
        for number, key in enumerate(keys):
            self._places.setdefault(key, start + number)
        self._blocks.append(vectors)
        self._starts.append(start + len(vectors))


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
