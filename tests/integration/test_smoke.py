"""Recipe `smoke`, whole: real math-verify, DeepSpeed, vLLM, Prefect and MLflow; it learns, and a second run is cached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.recipe import load_recipe
from infra.artifacts import Artifact, Dataset, Drop, Manifest
from infra.rows import read_shard
from infra.store import Store
from tasks.procedural.corpus import make_corpus
from tasks.procedural.truth import BlemishKind
from tasks.records import Query
from tasks.verify.steps import Correction
from tests.integration.cli import Ended, posttrain

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smoke") / "store"


@pytest.fixture(scope="module")
def first(store_folder: Path) -> Ended:
    return posttrain("run", "smoke", "--store", str(store_folder), "--json")


@pytest.fixture(scope="module")
def store(first: Ended, store_folder: Path) -> Store:
    assert first.code == 0, first.stderr[-4000:]
    return Store(str(store_folder), store_folder)
