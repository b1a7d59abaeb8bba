"""Numbered data versions: written once, counted for each recipe alone, the newest last."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import ValidationError

from infra.data_versions import DataVersion, last_version, publish_version
from infra.store import Store


def version(number: int = 1, recipe: str = "smoke", **fields: Any) -> DataVersion:
    base = {
        "queries": "verify-labels@label-queries/abc",
        "queries_digest": "q" * 64,
        "num_queries": 10,
        "samples": "select-samples@select-samples/def",
        "samples_digest": "s" * 64,
        "num_samples": 5,
        "run": "20260101-000000-abcdef",
        "at": 1.5,
    }
    return DataVersion.model_validate({"recipe": recipe, "number": number} | base | fields)


def test_a_recipe_without_a_version_has_none(any_store: Store) -> None:
    assert last_version(any_store, "smoke") is None


def test_what_is_published_is_read_again(any_store: Store) -> None:
    assert publish_version(any_store, version()) == version()
    assert last_version(any_store, "smoke") == version()


def test_a_taken_number_is_never_written_over(any_store: Store) -> None:
    publish_version(any_store, version(run="first"))
    publish_version(any_store, version(2, run="second"))
    late = publish_version(any_store, version(run="late"))
    assert late == version(3, run="late")
    assert last_version(any_store, "smoke") == late
    assert len(any_store.notes("data-versions/smoke")) == 3


def test_recipes_count_apart(local_store: Store) -> None:
    publish_version(local_store, version(recipe="smoke", run="a"))
    assert publish_version(local_store, version(recipe="smoke.2", run="b")).number == 1
    last = last_version(local_store, "smoke")
    assert last is not None
    assert last.run == "a"


def test_the_tenth_version_is_newer_than_the_ninth(local_store: Store) -> None:
    for number in (*range(1, 12), 999, 1000):
        publish_version(local_store, version(number))
        assert last_version(local_store, "smoke") == version(number)


def test_two_who_publish_at_once_get_two_numbers(local_store: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        published = list(threads.map(lambda number: publish_version(local_store, version(run=f"{number}")), range(8)))
    assert sorted(each.number for each in published) == list(range(1, 9))
    last = last_version(local_store, "smoke")
    assert last is not None
    assert last.number == 8


def test_numbers_begin_at_one() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        version(0)
