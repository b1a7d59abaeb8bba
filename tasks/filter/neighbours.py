"""Nearest vectors by inner product: every pair is compared while they are few, an inverted file's nearest lists later.

Both give the same answer whatever the number of threads; the file's lists are drawn by k-means with a fixed seed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.filter.encoder import Vectors
from tasks.filter.semantic_config import NeighbourConfig

_SEED = 1
_POINTS_PER_LIST = 64  # that k-means learns from


class Near(NamedTuple):
    """For each of some vectors the places of its nearest and their cosines, best first; place −1: there is none."""

    places: NDArray[np.int64]
    cosines: Vectors


class Neighbours:
    """A growing set of unit vectors. A vector's place is how many were added before it."""

    def __init__(self, dim: int, config: NeighbourConfig) -> None:
        import faiss

        self._faiss: Any = faiss
        self._config = config
        self._index: Any = faiss.IndexFlatIP(dim)
        self._dim = dim

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: Vectors) -> None:
        """Add vectors; the file of lists is made when there are more than `flat_rows`."""
        self._faiss.omp_set_num_threads(self._config.num_threads)
        self._index.add(np.ascontiguousarray(vectors))
        if len(self) > self._config.flat_rows and not hasattr(self._index, "nlist"):
            self._index = self._file_of(self._index.reconstruct_n(0, len(self)))

    def _file_of(self, vectors: Vectors) -> Any:
        faiss, config = self._faiss, self._config
        file = faiss.IndexIVFFlat(faiss.IndexFlatIP(self._dim), self._dim, config.num_lists, faiss.METRIC_INNER_PRODUCT)
        file.cp.seed, file.cp.max_points_per_centroid = _SEED, _POINTS_PER_LIST
        file.nprobe = config.num_probes
        file.train(vectors)
        file.add(vectors)
        return file

    def near(self, vectors: Vectors) -> Near:
        """The nearest of each vector, at most `num_neighbours`."""
        if not len(self):
            return Near(np.zeros((len(vectors), 0), np.int64), np.zeros((len(vectors), 0), np.float32))
        self._faiss.omp_set_num_threads(self._config.num_threads)
        cosines, places = self._index.search(np.ascontiguousarray(vectors), min(self._config.num_neighbours, len(self)))
        return Near(places, cosines)
