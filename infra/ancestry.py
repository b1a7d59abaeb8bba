"""From manifests to what they were made from: what an artifact needs to stay explainable and whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from infra.artifacts import Manifest, Parent


class Ancestry:
    """Manifests by fingerprint, with the way from each to its parents."""

    def __init__(self, manifests: Mapping[str, Manifest]) -> None:
        self.manifests = manifests
        self._by_digest: dict[str, set[str]] = defaultdict(set)
        self._holding: dict[str, set[str]] = defaultdict(set)
        for key, manifest in manifests.items():
            self._by_digest[manifest.digest].add(key)
            for file in manifest.files if manifest.kind == "folder" else ():
                self._holding[file.sha256].add(key)

    def parents(self, key: str) -> set[str]:
        """Fingerprints of the manifests that one was made from, as far as they are there."""
        groups = self.manifests[key].parents.values()
        return {found for group in groups for parent in group for found in self._found(parent)} - {key}

    def _found(self, parent: Parent) -> set[str]:
        if parent.fingerprint in self.manifests:
            return {str(parent.fingerprint)}
        # A step that gave the same content stands for one that is gone; a file, for the folders that hold it.
        return self._by_digest.get(parent.digest, set()) | self._holding.get(parent.digest, set())

    def reach(self, roots: Iterable[str]) -> set[str]:
        """The roots that are there, and all their ancestors."""
        reached: set[str] = set()
        waiting = [root for root in roots if root in self.manifests]
        while waiting:
            key = waiting.pop()
            if key not in reached:
                reached.add(key)
                waiting.extend(self.parents(key))
        return reached

    def children_first(self, chosen: set[str]) -> list[str]:
        """The chosen ones, so that whoever stops after any of them has left no child without a parent."""
        parents_first: dict[str, None] = {}
        opened: set[str] = set()
        waiting = sorted(chosen)
        while waiting:
            key = waiting[-1]
            above = sorted((self.parents(key) & chosen) - opened)
            opened.add(key)
            if above:
                waiting.extend(above)
            else:
                parents_first.setdefault(waiting.pop())
        return list(reversed(parents_first))

    def blobs(self, keys: Iterable[str]) -> set[str]:
        """SHA-256 of every file of the manifests."""
        return {file.sha256 for key in keys for file in self.manifests[key].files}
