"""Aliases: where they point, and where they pointed."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.aliases import alias_history, aliases, read_alias, set_alias
from infra.artifacts import Artifact, Manifest
from infra.config import ConfigError
from infra.store import Store, StoreError


def made(store: Store, tmp_path: Path, name: str) -> Artifact:
    source = tmp_path / "source"
    source.write_text(name)
    base = {"kind": "checkpoint", "name": name, "step": "train", "version": 1, "sampled": False, "config": {}}
    rest = {"fingerprint": f"f-{name}", "parents": {}, "files": [store.put_file(source, "model/a")], "summary": {}}
    return store.reference(store.publish(Manifest.model_validate(base | rest)))


def test_an_alias_points_to_what_it_was_set_to_last_and_remembers(any_store: Store, tmp_path: Path) -> None:
    assert read_alias(any_store, "recipe", "champion") is None
    first, second = made(any_store, tmp_path, "first"), made(any_store, tmp_path, "second")
    set_alias(any_store, "recipe", "champion", first, "the first", "a")
    last = set_alias(any_store, "recipe", "champion", second, "better", "b")
    assert read_alias(any_store, "recipe", "champion") == last
    assert (last.step, last.fingerprint, last.digest, last.name) == ("train", "f-second", second.digest, "second")
    history = alias_history(any_store, "recipe", "champion")
    assert [(move.name, move.reason, move.by) for move in history] == [
        ("first", "the first", "a"),
        ("second", "better", "b"),
    ]


def test_aliases_are_listed_over_recipes_without_their_history(any_store: Store, tmp_path: Path) -> None:
    artifact = made(any_store, tmp_path, "model")
    for recipe, alias in (("b", "champion"), ("a", "champion"), ("a", "candidate")):
        set_alias(any_store, recipe, alias, artifact, "", "")
    assert [(each.recipe, each.alias) for each in aliases(any_store)] == [
        ("a", "candidate"),
        ("a", "champion"),
        ("b", "champion"),
    ]
    assert len(alias_history(any_store, "a", "champion")) == 1


def test_what_is_not_whole_in_the_store_gets_no_alias(local_store: Store, tmp_path: Path) -> None:
    artifact = made(local_store, tmp_path, "model")
    for path in Path(local_store.uri).glob("blobs/*/*"):
        path.unlink()
    with pytest.raises(StoreError, match="model is not in the store, whole; run its recipe again, then set `champion`"):
        set_alias(local_store, "recipe", "champion", artifact, "", "")
    assert aliases(local_store) == []


@pytest.mark.parametrize("alias", ["", "Champion", "../x", "a/b"])
def test_a_name_that_would_be_no_note_is_refused(local_store: Store, tmp_path: Path, alias: str) -> None:
    with pytest.raises(ConfigError, match="use small letters, digits, dots and hyphens"):
        set_alias(local_store, "recipe", alias, made(local_store, tmp_path, "model"), "", "")
