"""Data sets in memory, and an output that reads them: what a step's inner function is called with in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from infra.artifacts import Dataset
from infra.output import Output, Resources
from infra.rows import read_shard
from infra.store import Store

Row = TypeVar("Row", bound=BaseModel)


class MemoryTables:
    """Tables by name, each a `Dataset`; `close` checks that every query has its end, and publishes."""

    def __init__(self, folder: Path, **tables: list[Any]) -> None:
        (folder / "scratch").mkdir(parents=True)
        self.resources = Resources()
        store = Store(str(folder / "store"), local=folder / "local")
        self.out = Output("step", scratch=folder / "scratch", store=store, resources=self.resources)
        self.sets = {name: Dataset(name=name, digest=name, uri="", rows=len(rows)) for name, rows in tables.items()}
        rows: Any = lambda dataset, model: iter(tables[dataset.name])  # noqa: E731
        self.out.rows = rows  # type: ignore[method-assign]

    def close(self) -> None:
        """End what was started, and have the rows in files."""
        if "queries" in self.sets and self.out.funnel:
            self.out.check_conservation(self.sets["queries"].rows)
        self.paths = {file.path: self.out.store.local_file(file) for file in self.out.finish(True)}
        self.out.close()
        self.resources.close()

    def read(self, table: str, model: type[Row]) -> list[Row]:
        """Rows of a table, in order."""
        path = self.paths.get(f"{table}-00000.parquet")
        return list(read_shard(path, model)) if path else []

    def bytes_of(self, table: str) -> bytes:
        """The first shard of a table."""
        return self.paths[f"{table}-00000.parquet"].read_bytes()
