"""Phase 1: raw files and data sets of the hub → one data version of queries, and the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from flows.recipe import Recipe
from infra.artifacts import Dataset, Folder, Raw
from infra.config import ConfigError
from infra.phase import phase
from infra.run import require_run
from infra.runtime import Runtime
from infra.store import raw_file
from tasks.ingest.config import ReadConfig
from tasks.ingest.hub import hub_raw
from tasks.ingest.steps import generate_corpus, ingest_benchmark, ingest_source, merge


class Mixture(NamedTuple):
    """What the pipeline starts from."""

    queries: Dataset
    benchmarks: tuple[Dataset, ...]


@phase
def ingest(recipe: Recipe, runtime: Runtime) -> Mixture:
    """Read every source and benchmark of the recipe."""
    config = recipe.ingest
    corpus = generate_corpus(config=config.corpus) if config.corpus is not None else None
    sources = tuple(
        ingest_source(_raw(source, corpus, runtime), config=source, label=f"ingest {source.name}")
        for source in config.sources
    )
    benchmarks = tuple(
        ingest_benchmark(_raw(each, corpus, runtime), config=each, label=each.name) for each in config.benchmarks
    )
    return Mixture(queries=merge(sources), benchmarks=benchmarks)


def _raw(config: ReadConfig, corpus: Folder | None, runtime: Runtime) -> Raw:
    """A data set of the hub, or a raw file: of the generated corpus, or below the profile's raw folder."""
    if config.file is None:
        return hub_raw(config)
    if corpus is not None:
        return require_run().store.file(corpus, config.file)
    if runtime.raw_folder is None:
        raise ConfigError(f"source {config.name} reads {config.file}, but no raw folder is set; give --raw FOLDER")
    return raw_file(Path(runtime.raw_folder).expanduser() / config.file, config.file)
