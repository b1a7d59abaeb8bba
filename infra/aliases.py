"""Aliases: names such as `champion` that people move from one artifact of a recipe to the next, with their history.

An alias is the note `aliases/<recipe>/<alias>.json`. What it names, and all that this was made from, outlives
`posttrain gc`.
"""

from __future__ import annotations

import re
import time
import uuid

from pydantic import Field

from infra.artifacts import Artifact
from infra.config import Config, ConfigError
from infra.store import Store, StoreError

FOLDER = "aliases"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


class Alias(Config):
    """Where an alias points, since when, and why."""

    recipe: str
    alias: str = Field(description="such as champion or candidate")
    step: str = Field(description="step that made the artifact")
    fingerprint: str
    digest: str
    name: str = Field(description="label of the artifact within its run")
    at: float = Field(description="when it was set, in seconds since 1970")
    reason: str = Field(description="why it was set")
    by: str = Field(description="who or what set it")


def read_alias(store: Store, recipe: str, alias: str) -> Alias | None:
    """Where an alias of a recipe points, or None."""
    return store.read_note_as(f"{FOLDER}/{recipe}/{alias}.json", Alias, "an alias")


def set_alias(store: Store, recipe: str, alias: str, artifact: Artifact, reason: str, by: str) -> Alias:
    """Point an alias at an artifact of the store.

    Raises:
        ConfigError: not a name for an alias.
        StoreError: the artifact is not in the store, whole.
    """
    if not _NAME.fullmatch(alias):
        raise ConfigError(f"alias `{alias}`: use small letters, digits, dots and hyphens, such as `champion`")
    # Looking makes its manifest young, so a collection of garbage that has begun leaves it.
    if artifact.fingerprint is None or store.find_whole(artifact.step, artifact.fingerprint) is None:
        raise StoreError(f"{artifact.name} is not in the store, whole; run its recipe again, then set `{alias}`")
    fields = {"step": artifact.step, "fingerprint": artifact.fingerprint, "digest": artifact.digest}
    fields |= {"name": artifact.name, "reason": reason, "by": by}
    made = Alias.model_validate({"recipe": recipe, "alias": alias, "at": time.time()} | fields)
    content = made.model_dump_json(indent=1).encode()
    # History first: killed in between, it tells of a move that was meant, and the alias still points to a whole thing.
    store.note(f"{FOLDER}/{recipe}/history/{alias}-{made.at:.6f}-{uuid.uuid4().hex[:6]}.json", content)
    store.note(f"{FOLDER}/{recipe}/{alias}.json", content)
    return made


def aliases(store: Store) -> list[Alias]:
    """Every alias of every recipe, by recipe and name."""
    return _read(store, f"{FOLDER}/*")


def alias_history(store: Store, recipe: str, alias: str) -> list[Alias]:
    """Where an alias pointed, oldest first; the last is where it points now."""
    moves = (move for move in _read(store, f"{FOLDER}/{recipe}/history") if move.alias == alias)
    return sorted(moves, key=lambda move: move.at)


def _read(store: Store, folder: str) -> list[Alias]:
    found = (store.read_note_as(name, Alias, "an alias") for name in store.notes(folder) if name.endswith(".json"))
    return [alias for alias in found if alias is not None]
