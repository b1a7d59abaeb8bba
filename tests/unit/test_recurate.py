"""Re-curation's end: a version is published once, and its event is told exactly once, also after an end in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import flows.recurate
from flows.curate import Curated
from flows.recipe import Recipe, load_recipe
from flows.recurate import PUBLISHED, _publish, _with_keepers
from infra.artifacts import Dataset
from infra.data_versions import last_version
from infra.run import Run, active
from infra.runtime import Runtime


class FakeEvents:
    """Stands where Prefect's events go."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def emit(self, **event: Any) -> None:
        self.told.append(event)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> FakeEvents:
    fake = FakeEvents()
    monkeypatch.setattr("prefect.events.emit_event", fake.emit)
    monkeypatch.setattr(flows.recurate, "show", lambda key, markdown: None)
    monkeypatch.setattr(flows.recurate, "data_card", lambda *_: "")  # the versions here are names alone
    return fake


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with active(Run("smoke", Runtime(store=str(tmp_path / "store")), id_="a-run")) as current:
        current.dispatcher = SimpleNamespace()  # type: ignore[assignment]  # there is a server
        yield current


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("smoke")


def curated(digest: str) -> Curated:
    queries = Dataset(name="queries", digest=digest * 64, uri="", rows=3, step="verify-labels", fingerprint="f" * 64)
    samples = queries.model_copy(update={"name": "samples", "step": "select-samples"})
    return Curated(queries=queries, samples=samples, benchmarks=())


def test_the_first_version_is_published_and_told_with_its_recipe(run: Run, events: FakeEvents, recipe: Recipe) -> None:
    _publish(run, curated("a"), recipe, announce=True)
    version = last_version(run.store, "smoke")
    assert version is not None
    assert (version.number, version.num_queries, version.run) == (1, 3, "a-run")
    (event,) = events.told
    assert (event["event"], event["payload"]["number"]) == (PUBLISHED, 1)
    assert Recipe.model_validate(event["payload"]["recipe_fields"]) == recipe


def test_what_stands_is_not_published_or_told_again(run: Run, events: FakeEvents, recipe: Recipe) -> None:
    for _ in range(3):
        _publish(run, curated("a"), recipe, announce=True)
    version = last_version(run.store, "smoke")
    assert version is not None
    assert (version.number, len(events.told)) == (1, 1)


def test_an_event_that_was_lost_is_told_by_the_next_run(
    run: Run, events: FakeEvents, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ConnectionError("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(flows.recurate, "_emit", away)
        with pytest.raises(ConnectionError):
            _publish(run, curated("a"), recipe, announce=True)
    assert events.told == []
    _publish(run, curated("a"), recipe, announce=True)
    assert [event["payload"]["number"] for event in events.told] == [1]


def test_a_version_of_the_command_line_is_told_by_the_next_scheduled_run(
    run: Run, events: FakeEvents, recipe: Recipe
) -> None:
    server, run.dispatcher = run.dispatcher, None
    _publish(run, curated("a"), recipe, announce=True)
    assert events.told == []
    run.dispatcher = server
    _publish(run, curated("a"), recipe, announce=True)
    assert len(events.told) == 1


def test_nobody_is_told_where_nobody_asked(run: Run, events: FakeEvents, recipe: Recipe) -> None:
    _publish(run, curated("a"), recipe, announce=False)
    assert events.told == []


def test_queries_of_the_version_that_stands_are_the_keepers_of_the_next(
    run: Run, events: FakeEvents, recipe: Recipe
) -> None:
    assert _with_keepers(recipe, last_version(run.store, "smoke")) == recipe
    _publish(run, curated("a"), recipe, announce=False)
    version = last_version(run.store, "smoke")
    assert version is not None
    assert _with_keepers(recipe, version).filter.keepers == version.queries


def test_keepers_that_a_recipe_names_stay(run: Run, events: FakeEvents, recipe: Recipe) -> None:
    _publish(run, curated("a"), recipe, announce=False)
    chosen = recipe.model_copy(update={"filter": recipe.filter.model_copy(update={"keepers": "verify-labels/abc123"})})
    assert _with_keepers(chosen, last_version(run.store, "smoke")) == chosen
