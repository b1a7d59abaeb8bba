"""Numbered data versions of a recipe: what re-curation publishes, and what training is asked about."""

from __future__ import annotations

from pydantic import Field

from infra.config import Config
from infra.store import Store


class DataVersion(Config):
    """One published version: note `data-versions/<recipe>/<number>.json`, written once."""

    recipe: str
    number: int = Field(ge=1)
    queries: str = Field(description="`label@step/fingerprint` of the queries for RL")
    queries_digest: str
    num_queries: int
    samples: str = Field(description="`label@step/fingerprint` of the samples for fine-tuning")
    samples_digest: str
    num_samples: int
    run: str = Field(description="the run that published it")
    at: float = Field(description="seconds since 1970")


def _folder(recipe: str) -> str:
    return f"data-versions/{recipe}"


def last_version(store: Store, recipe: str) -> DataVersion | None:
    """The newest version of a recipe, or None."""
    names = store.notes(_folder(recipe))
    return store.read_note_as(names[-1], DataVersion, "a data version") if names else None


def publish_version(store: Store, version: DataVersion) -> DataVersion:
    """Publish under the version's number, or the next free one when somebody was quicker."""
    while not store.create_note(f"{_folder(version.recipe)}/{version.number:06d}.json", _text(version)):
        version = version.model_copy(update={"number": version.number + 1})
    return version


def is_announced(store: Store, version: DataVersion) -> bool:
    """True when the event that the version is published was emitted."""
    return store.read_note(_announcement(version)) is not None


def mark_announced(store: Store, version: DataVersion) -> None:
    """Remember that the event was emitted."""
    store.note(_announcement(version), b"{}")


def _announcement(version: DataVersion) -> str:
    return f"data-versions-announced/{version.recipe}/{version.number:06d}.json"


def _text(version: DataVersion) -> bytes:
    return version.model_dump_json(indent=1).encode()
