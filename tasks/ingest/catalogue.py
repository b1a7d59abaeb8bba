"""The catalogue: every public source and benchmark that the two published systems name, and the local files."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from infra.config import Config
from tasks.ingest.adapters.registry import find_adapter
from tasks.ingest.origin import HUB_FIELDS, OriginConfig
from tasks.records import Domain

SOURCES = Path(__file__).parent / "sources.toml"
SCHEMAS = Path(__file__).parent / "schemas.toml"


class System(StrEnum):
    """A published system whose data a source is part of."""

    AM = "am"
    SK = "sk"


class Carries(StrEnum):
    """What a row brings to judge an answer by."""

    ANSWER = "answer"
    TESTS = "tests"
    CHOICES = "choices"
    CONSTRAINTS = "constraints"
    NONE = "none"


class Entry(OriginConfig):
    """One source or benchmark of the catalogue."""

    name: str = Field(min_length=1, description="name in every table, card and row id")
    adapter: str = Field(description="reads the native schema")
    domain: Domain = Field(description="what its rows ask for; where an adapter tells rows apart, what most ask for")
    license: str = Field(description="licence of the rows")
    carries: Carries = Field(description="what a row brings to judge an answer by")
    systems: tuple[System, ...] = Field(default=(), description="published systems that it is part of")
    is_benchmark: bool = Field(default=False, description="an evaluation set: never trained on")
    note: str = Field(default="", description="what to know before it is used")

    def recipe_fields(self, is_benchmark: bool) -> dict[str, Any]:
        """What a recipe's source, or benchmark, takes from this entry.

        Raises:
            ValueError: a benchmark is asked for as a source.
        """
        if self.is_benchmark and not is_benchmark:
            raise ValueError(f"{self.name} is a benchmark, and those are never trained on; name it under benchmarks")
        names = [*OriginConfig.model_fields, "name", "adapter", *([] if is_benchmark else ["license"])]
        return {name: getattr(self, name) for name in names if getattr(self, name)}


class Schema(Config):
    """The native rows that an adapter reads."""

    needs: tuple[str, ...] = Field(description="columns that every row must have")
    row: dict[str, Any] = Field(description="a row of that shape, made up, with the columns that the source publishes")


@cache
def catalogue() -> dict[str, Entry]:
    """Name → entry, sources before benchmarks, in the order of the file."""
    tables = tomllib.loads(SOURCES.read_text(encoding="utf-8"))
    groups = (("sources", False), ("benchmarks", True))
    entries = [
        Entry(name=name, is_benchmark=is_benchmark, **fields)
        for group, is_benchmark in groups
        for name, fields in tables[group].items()
    ]
    found = {entry.name: entry for entry in entries}
    assert len(found) == len(entries), "a source and a benchmark share a name"
    for entry in entries:
        find_adapter(entry.adapter)
    return found


@cache
def schemas() -> dict[str, Schema]:
    """Adapter → the native rows that it reads."""
    tables = tomllib.loads(SCHEMAS.read_text(encoding="utf-8"))
    return {adapter: Schema.model_validate(fields) for adapter, fields in tables.items()}


def find_entry(name: str) -> Entry:
    """The entry of a name.

    Raises:
        ValueError: there is none.
    """
    entries = catalogue()
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"the catalogue has no `{name}`; {hint}`posttrain sources` lists what it has")
    return entries[name]


def filled(given: Any, is_benchmark: bool) -> Any:
    """A recipe's table with what the catalogue says of the entry that it names under `catalogue`.

    What the table itself says wins; a `file` takes the place of the hub's data set as a whole, and the reverse.
    """
    if not isinstance(given, Mapping) or "catalogue" not in given:
        return given
    own = {key: value for key, value in given.items() if key != "catalogue"}
    fields = find_entry(str(given["catalogue"])).recipe_fields(is_benchmark)
    replaced = HUB_FIELDS if "file" in own else (*HUB_FIELDS, "file") if "hub" in own else ()
    return {key: value for key, value in fields.items() if key not in replaced} | own
