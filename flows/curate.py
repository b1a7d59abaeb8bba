"""Phases 1 to 4 in a row: what `post_train` begins with, and all that `recurate` does."""

from __future__ import annotations

from typing import NamedTuple

from flows.filter import filter_queries
from flows.ingest import ingest
from flows.recipe import Recipe
from flows.synthesize import synthesize
from flows.verify import verify
from infra.artifacts import Dataset
from infra.runtime import Runtime


class Curated(NamedTuple):
    """A data version: queries to train on by RL, samples to fine-tune on, and the benchmarks that they do not leak."""

    queries: Dataset
    samples: Dataset
    benchmarks: tuple[Dataset, ...]


def curate(recipe: Recipe, runtime: Runtime) -> Curated:
    """Raw files → verified queries and teacher samples."""
    mixture = ingest(recipe, runtime)
    queries = verify(filter_queries(mixture, recipe), recipe)
    return Curated(queries=queries, samples=synthesize(queries, recipe), benchmarks=mixture.benchmarks)
