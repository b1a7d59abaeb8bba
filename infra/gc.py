"""Collection of garbage: what no alias, no newest data version, no recent run and no recipe's last call reaches.

Safe beside runs that work at the same time. Nothing younger than the grace goes; a step that uses what is there makes
it young again (`Store.find_whole`, `Store.put_file`), and the age is looked at again right before each delete. A blob
goes only when no manifest names it. Manifests go first, children before parents, so whatever is left after a kill is
whole, and the next collection goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import Field

from infra.aliases import aliases
from infra.ancestry import Ancestry
from infra.config import Config
from infra.data_versions import last_version
from infra.fingerprint import fingerprint
from infra.leftovers import Leftovers
from infra.objects import Stored
from infra.run import LAST, RunRecord, read_identity, read_runs
from infra.store import Store

DAY_S, HOUR_S = 86_400.0, 3_600.0
# A run that says that it runs may be dead, or in the midst of a long step: from outside nobody can tell.
RUNNING_DAYS = 30.0
SMALL_FOLDERS = ("manifests", "details", "runs", "aliases", "data-versions", "row_cache")


class GcPolicy(Config):
    """What stays."""

    keep_days: float = Field(default=30.0, ge=0, description="younger runs keep all that they used or made")
    grace_hours: float = Field(
        default=48.0, ge=0, description="nothing younger goes; under 24 only while no other run uses the store"
    )


class Piece(Config):
    """One thing that goes: a name within the store, or a local folder."""

    name: str
    bytes: int


class Garbage(Config):
    """What would go, or went, in the order of deletion."""

    manifests: tuple[Piece, ...] = Field(default=(), description="children before parents")
    details: tuple[Piece, ...] = Field(default=(), description="cards, curves and costs of artifacts that go")
    blobs: tuple[Piece, ...] = ()
    unfinished: tuple[Piece, ...] = Field(default=(), description="writes of processes that were killed")
    checkouts: tuple[Piece, ...] = Field(default=(), description="local folders of artifacts that go")
    copies: tuple[Piece, ...] = Field(default=(), description="local copies of a remote store's blobs")
    scratch: tuple[Piece, ...] = Field(default=(), description="local folders of work that nobody goes on with")

    @property
    def bytes(self) -> int:
        """All bytes that go."""
        return sum(piece.bytes for name in type(self).model_fields for piece in getattr(self, name))

    @property
    def by_step(self) -> dict[str, int]:
        """Step → its manifests that go."""
        return dict(sorted(Counter(_step_of(piece.name) for piece in self.manifests).items()))


class Collector:
    """Finds and deletes garbage; `now` is in seconds since 1970."""

    def __init__(self, store: Store, scratch: Path, policy: GcPolicy, now: float | None = None) -> None:
        self._store, self._policy = store, policy
        self._now = time.time() if now is None else now
        self._cutoff = self._now - policy.grace_hours * HOUR_S
        self._leftovers = Leftovers(store, scratch, self._cutoff)

    # Finding

    def find(self) -> Garbage:
        """What nothing reaches. Deletes nothing."""
        # Blobs before manifests: one that is published meanwhile is then known to name its blobs.
        blobs, listed = self._store.objects("blobs"), self._store.objects("manifests")
        ancestry = self._ancestry(listed)
        kept = ancestry.reach(self._roots(listed))
        going = ancestry.children_first(ancestry.manifests.keys() - kept)
        by_key = {_key_of(stored.name): stored for stored in listed if _is_manifest(stored.name)}
        named = ancestry.blobs(kept)
        details = [stored for stored in self._store.objects("details") if not stored.name.endswith(".tmp")]
        small = (stored for folder in SMALL_FOLDERS for stored in self._store.objects(folder))
        local = self._leftovers.find({f"{m.step}-{m.digest[:16]}" for k, m in ancestry.manifests.items() if k in kept})
        return Garbage(
            manifests=_pieces(by_key[key] for key in going),
            details=_pieces(each for each in details if _key_of(each.name) not in kept and self._is_old(each)),
            blobs=_pieces(each for each in blobs if Path(each.name).name not in named and self._is_old(each)),
            unfinished=_pieces(each for each in small if each.name.endswith(".tmp") and self._is_old(each)),
            checkouts=_pieces(local.checkouts),
            copies=_pieces(each for each in local.copies if Path(each.name).name not in named),
            scratch=_pieces(local.scratch),
        )

    def _ancestry(self, listed: Iterable[Stored]) -> Ancestry:
        names = [stored.name for stored in listed if _is_manifest(stored.name)]
        found = self._store.read_manifests(names)
        return Ancestry({_key_of(name): manifest for name, manifest in found.items() if manifest is not None})

    def _roots(self, listed: Iterable[Stored]) -> Iterator[str]:
        """Fingerprints that stay, with all that they were made from.

        Raises:
            StoreError: a note cannot be read. What it names is not known, so nothing may go.
        """
        yield from (alias.fingerprint for alias in aliases(self._store))
        for recipe in sorted({name.split("/")[1] for name in self._store.notes("data-versions/*")}):
            if (version := last_version(self._store, recipe)) is not None:
                yield from (text.rpartition("/")[2] for text in (version.queries, version.samples))
        for run in read_runs(self._store):
            if self._is_recent(run):
                yield from (step.artifact.fingerprint or "" for step in run.steps)
                yield from (text.rpartition("/")[2] for text in run.inputs)
        for name in self._store.notes(f"{LAST}/*"):
            if (identity := read_identity(self._store, name)) is not None:
                yield fingerprint(identity)
        yield from (_key_of(stored.name) for stored in listed if not self._is_old(stored))

    def _is_recent(self, run: RunRecord) -> bool:
        days = max(self._policy.keep_days, RUNNING_DAYS) if run.state == "running" else self._policy.keep_days
        return max([run.started, *(step.at for step in run.steps)]) > self._now - days * DAY_S

    def _is_old(self, stored: Stored) -> bool:
        return stored.modified <= self._cutoff

    # Deleting

    def collect(self, garbage: Garbage) -> Garbage:
        """Delete what `find` found and what is garbage still; what went.

        Killed at any moment, it leaves whole artifacts only; the next collection goes on.
        """
        gone = self._collect_manifests(garbage.manifests)
        listed = self._store.objects("manifests")
        now_there = {_key_of(stored.name) for stored in listed}
        ancestry = self._ancestry(listed)
        named = ancestry.blobs(ancestry.manifests)
        return Garbage(
            manifests=gone,
            details=self._delete(garbage.details, lambda piece: _key_of(piece.name) not in now_there),
            blobs=self._delete(garbage.blobs, lambda piece: Path(piece.name).name not in named),
            unfinished=self._delete(garbage.unfinished, lambda piece: True),
            checkouts=tuple(piece for piece in garbage.checkouts if self._leftovers.remove_folder(piece.name)),
            copies=tuple(piece for piece in garbage.copies if self._leftovers.remove_file(piece.name)),
            scratch=tuple(piece for piece in garbage.scratch if self._leftovers.remove_scratch(piece.name)),
        )

    def _collect_manifests(self, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        ancestry = self._ancestry(self._store.objects("manifests"))
        spared: set[str] = set()

        def is_garbage(piece: Piece) -> bool:
            """Not what a run found again since the marking, nor what that was made from."""
            stored = self._store.stored(piece.name)
            if stored is not None and not self._is_old(stored):
                spared.update(ancestry.reach([_key_of(piece.name)]))
            return _key_of(piece.name) not in spared

        return self._delete(pieces, is_garbage)

    def _delete(self, pieces: Iterable[Piece], is_garbage: Callable[[Piece], bool]) -> tuple[Piece, ...]:
        """Delete one after the other what is garbage and still old at that moment."""
        gone = []
        for piece in pieces:
            if is_garbage(piece) and (stored := self._store.stored(piece.name)) is not None and self._is_old(stored):
                self._store.delete(piece.name)
                gone.append(piece)
        return tuple(gone)


def _is_manifest(name: str) -> bool:
    return name.endswith(".json")


def _step_of(name: str) -> str:
    return name.split("/")[1]


def _key_of(name: str) -> str:
    """Fingerprint in the name of a manifest or of its details."""
    return Path(name).name.partition(".")[0]


def _pieces(found: Iterable[Stored]) -> tuple[Piece, ...]:
    return tuple(Piece(name=stored.name, bytes=stored.bytes) for stored in found)
