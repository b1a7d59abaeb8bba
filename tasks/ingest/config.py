"""Which rows a recipe reads, and how."""

from __future__ import annotations

from collections import Counter
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from infra.config import Config
from tasks.ingest.adapters.registry import find_adapter
from tasks.ingest.catalogue import filled
from tasks.ingest.origin import OriginConfig
from tasks.procedural.config import CorpusConfig
from tasks.records import Domain


class ReadConfig(OriginConfig):
    """Rows of one native schema. In a recipe `catalogue = "NAME"` stands for the fields of that entry of the catalogue.

    The entry's fields are filled in before anything else is looked at, so what enters the fingerprint is what is read,
    and a recipe that spells the same fields out makes the same data version.
    """

    name: str = Field(min_length=1, description="name of the source or benchmark in every table, card and row id")
    adapter: str = Field(description="reads the native schema: a known name, or package.module:function")
    limit: int | None = Field(default=None, ge=1, description="read only that many rows, from the top; all by default")

    @field_validator("adapter")
    @classmethod
    def _known(cls, adapter: str) -> str:
        if ":" not in adapter:
            find_adapter(adapter)
        return adapter


class SourceConfig(ReadConfig):
    """Rows to train on."""

    domain: Domain | None = Field(default=None, description="overrides the domain that the adapter gives")
    license: str = Field(description="licence of the rows, carried by each of them")

    @model_validator(mode="before")
    @classmethod
    def _from_catalogue(cls, given: Any) -> Any:
        return filled(given, is_benchmark=False)


class BenchmarkConfig(ReadConfig):
    """Rows to evaluate on; never trained on."""

    @model_validator(mode="before")
    @classmethod
    def _from_catalogue(cls, given: Any) -> Any:
        return filled(given, is_benchmark=True)


class IngestConfig(Config):
    """The raw mixture, and the benchmarks that it must not contain."""

    sources: tuple[SourceConfig, ...] = Field(
        min_length=1, description="in order of trust: of two duplicates the one from the earlier source stays"
    )
    benchmarks: tuple[BenchmarkConfig, ...] = Field(default=(), description="evaluation sets")
    corpus: CorpusConfig | None = Field(
        default=None, description="generate the raw files instead of reading them from the profile's raw folder"
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        counts = Counter(each.name for each in (*self.sources, *self.benchmarks))
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"the name(s) {', '.join(twice)} occur twice; every source and benchmark needs its own")
        return self
