"""What goes between phases as JSON comes back equal, and what cannot go is refused."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter

from infra.artifacts import Artifact, Checkpoint, Dataset, Raw
from infra.config import Config, ConfigError
from infra.lookup import UnknownArtifactError
from infra.passing import artifacts_in, decode, encode, form_of
from infra.store import Store
from tests.unit.small_world import World


class Settings(Config):
    steps: tuple[int, ...] = Field(default=(1, 2), description="two of them")
    rate: float = 0.5


class Pair(NamedTuple):
    queries: Dataset
    benchmarks: tuple[Dataset, ...]


class Outer(NamedTuple):
    pair: Pair
    policy: Checkpoint
    note: str


@pytest.fixture
def world(local_store: Store, tmp_path: Path) -> World:
    return World(local_store, tmp_path)


def there_and_back(world: World, annotation: Any, value: Any) -> Any:
    return decode(annotation, json.loads(json.dumps(encode(value))), world.store, "recipe")


def dataset(world: World, name: str) -> Dataset:
    made = world.make(name)
    assert isinstance(made, Dataset)
    return made


def checkpoint(world: World, name: str) -> Checkpoint:
    made = world.make(name, kind="checkpoint")
    assert isinstance(made, Checkpoint)
    return made


@pytest.mark.parametrize("label", ["merge", "prompts grpo-1", "a@b", "x/y"])
def test_an_artifact_goes_as_a_text_that_carries_its_label(world: World, label: str) -> None:
    made = dataset(world, "queries").model_copy(update={"name": label})
    assert encode(made) == f"{label}@make-queries/{made.fingerprint}"
    assert there_and_back(world, Dataset, made) == made


def test_artifacts_inside_named_tuples_inside_named_tuples(world: World) -> None:
    pair = Pair(dataset(world, "queries"), (dataset(world, "math"), dataset(world, "code")))
    outer = Outer(pair, checkpoint(world, "policy"), "by hand")
    assert there_and_back(world, Outer, outer) == outer
    assert there_and_back(world, Pair, Pair(pair.queries, ())) == Pair(pair.queries, ())


def test_an_artifact_that_may_be_missing(world: World) -> None:
    made = dataset(world, "queries")
    assert there_and_back(world, Dataset | None, made) == made
    assert there_and_back(world, Dataset | None, None) is None


def test_a_config(world: World) -> None:
    assert there_and_back(world, Settings, Settings(steps=(3,), rate=0.25)) == Settings(steps=(3,), rate=0.25)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(PLAIN)
def test_a_plain_value_is_left_as_it_is(value: Any) -> None:
    assert encode(value) == value
    assert decode(type(value), encode(value), store=None, recipe="recipe") == value  # type: ignore[arg-type]


def test_a_raw_file_cannot_go(world: World) -> None:
    raw = Raw(name="a.jsonl", digest="ab" * 32, uri="/a.jsonl")
    with pytest.raises(UnknownArtifactError, match=r"a\.jsonl is a raw file; name what was made from it"):
        encode((raw,))


@pytest.mark.parametrize("value", [{"a": 1}, {1, 2}, b"bytes", object()])
def test_what_is_neither_artifact_nor_config_nor_plain_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be passed between phases; use artifacts, configs or plain values"):
        encode((value,))


def test_a_label_is_the_last_artifact_under_the_recipes_name(world: World) -> None:
    identity = {"step": "make-merge"}
    made = world.make("merge", fingerprint=_fingerprint(identity))
    world.store.note("runs/last/recipe/merge.json", json.dumps(identity).encode())
    assert decode(Dataset, "merge", world.store, "recipe") == made
    with pytest.raises(UnknownArtifactError, match="remembers no step of recipe another yet"):
        decode(Dataset, "merge", world.store, "another")


def _fingerprint(identity: dict[str, str]) -> str:
    from infra.fingerprint import fingerprint

    return fingerprint(identity)


def test_another_kind_of_artifact_is_refused_by_name(world: World) -> None:
    text = encode(dataset(world, "queries"))
    with pytest.raises(ConfigError, match=r"queries@.* is a dataset; this phase takes a checkpoint here: name one"):
        decode(Checkpoint, text, world.store, "recipe")
    assert isinstance(decode(Artifact, text, world.store, "recipe"), Dataset)


def test_an_artifact_that_is_gone_is_refused(world: World) -> None:
    with pytest.raises(UnknownArtifactError, match="not in the store"):
        decode(Dataset, f"merge@make-merge/{'0' * 64}", world.store, "recipe")


def test_an_artifact_whose_files_are_gone_is_refused_with_the_remedy(world: World) -> None:
    text = encode(dataset(world, "queries"))
    for blob in world.store.objects("blobs"):
        world.store.delete(blob.name)
    with pytest.raises(ConfigError, match=r"`queries@.*` is not whole in the store .*; run its recipe again"):
        decode(Dataset, text, world.store, "recipe")


def test_an_artifact_that_is_handed_over_is_young_again(world: World) -> None:
    queries = dataset(world, "queries")
    path = Path(queries.uri)
    os.utime(path, (0, 0))
    decode(Dataset, encode(queries), world.store, "recipe")
    assert time.time() - path.stat().st_mtime < 60


def test_artifacts_are_found_in_whatever_a_phase_takes(world: World) -> None:
    one, two = dataset(world, "one"), checkpoint(world, "two")
    assert list(artifacts_in([(one, None), {"n": 1}, [two], "text", one])) == [one, two, one]


@pytest.mark.parametrize("annotation", [Pair, Outer, Dataset, Dataset | None, tuple[Checkpoint, ...], Settings, int])
def test_a_form_takes_text_in_the_place_of_artifacts(annotation: Any) -> None:
    schema = json.dumps(TypeAdapter(form_of(annotation)).json_schema())
    assert "digest" not in schema.replace("digits of a digest", "")
    TypeAdapter(form_of(annotation))


def test_what_is_encoded_fits_the_form(world: World) -> None:
    pair = Pair(dataset(world, "queries"), (dataset(world, "math"),))
    for annotation, value in ((Pair, pair), (tuple[Dataset, ...], (pair.queries,)), (Dataset | None, pair.queries)):
        filled = TypeAdapter(form_of(annotation)).validate_python(encode(value))
        again = filled.model_dump() if isinstance(filled, Config) else filled
        assert decode(annotation, again, world.store, "recipe") == value


def test_a_forms_fields_say_what_to_fill_in() -> None:
    schema = TypeAdapter(form_of(Pair)).json_schema()
    assert "label of a step" in schema["properties"]["queries"]["description"]
