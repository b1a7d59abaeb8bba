"""What a step reads and writes through: rows, drops, files, numbers, cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, Field

from infra.artifacts import Dataset, Drop, File
from infra.config import Config
from infra.progress import Progress, progress_bar
from infra.row_cache import RowCache
from infra.rows import schema_of, write_shard
from infra.store import Store

Row = TypeVar("Row", bound=BaseModel)
Resource = TypeVar("Resource")
SHARD_ROWS = 50_000


class Identified(Protocol):
    """A row that the ledger can name."""

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...


class Waiting(NamedTuple):
    """A local file that is to be published."""

    source: Path
    path: str  # within the artifact
    rows: int | None = None
    is_ours: bool = False  # a shard, which goes once it is in the store


class Cost(Config):
    """What a step used; seconds are filled in by the step."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    cache_hits: int = Field(default=0, description="rows answered by the row cache instead of paid work")


class Output:
    """Handed to a step's function. Everything written is published together when the function returns.

    Attributes:
        scratch: local folder named by the step's fingerprint; a retry, a crash or a new run finds what was left there.
        store: for reading inputs.
    """

    def __init__(self, step: str, scratch: Path, store: Store, resources: Resources) -> None:
        self.step, self.scratch, self.store = step, scratch, store
        self._resources = resources
        self._pending: dict[str, list[BaseModel]] = {}
        self._models: dict[str, type[BaseModel]] = {}
        self._waiting: list[Waiting] = []
        self._kept_ids: set[str] = set()
        self._dropped_ids: set[str] = set()
        self._doubled_ids: set[str] = set()
        self.funnel: dict[str, Counter[str]] = {}
        self.rows_in = 0
        self.rows_kept = 0
        self.cost = Cost()
        self.summary: dict[str, Any] = {}
        self.notes: list[str] = []
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self._caches: dict[str, RowCache] = {}

    # Rows

    def rows(self, dataset: Dataset, model: type[Row]) -> Iterator[Row]:
        """Rows of an input, in order."""
        return self.store.rows(dataset, model)

    def keep(self, row: BaseModel, of: Identified | None = None) -> None:
        """Write a row. `of` is the query that it stands for; many rows may stand for one. By default the row itself."""
        query: Any = of if of is not None else row
        self._write("kept", row)
        self.rows_kept += 1
        if query.id not in self._kept_ids:
            self._kept_ids.add(query.id)
            self._count(query.source, "kept")
        elif of is None:
            self._doubled_ids.add(query.id)

    def drop(self, query: Identified, reason: str, evidence: str = "") -> None:
        """Write a query into the ledger as dropped, with its reason and the evidence."""
        row = Drop(query_id=query.id, source=query.source, step=self.step, reason=str(reason), evidence=evidence)
        (self._doubled_ids if query.id in self._dropped_ids else self._dropped_ids).add(query.id)
        self._write("dropped", row)
        self._count(query.source, str(reason))

    def attach(self, name: str, row: BaseModel) -> None:
        """Write a row into a side table of the artifact (evidence, responses), outside of the ledger's count."""
        self._write(name, row)

    def _count(self, source: str, reason: str) -> None:
        self.funnel.setdefault(source, Counter())[reason] += 1

    def _write(self, table: str, row: BaseModel) -> None:
        rows = self._pending.setdefault(table, [])
        self._models.setdefault(table, type(row))
        rows.append(row)
        if len(rows) >= SHARD_ROWS:
            self._flush(table)

    def _flush(self, table: str) -> None:
        number = sum(file.path.startswith(f"{table}-") for file in self._waiting)
        path = self.scratch / f"{table}-{number:05d}.parquet"
        rows = self._pending.pop(table)
        write_shard(path, self._models[table], rows)
        self._waiting.append(Waiting(path, path.name, rows=len(rows), is_ours=True))

    # Files, numbers, cost

    def add_folder(self, folder: Path, prefix: str) -> None:
        """Publish all files below a local folder as `prefix/…`; they stay there until the step has ended."""
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.add_file(path, f"{prefix}/{path.relative_to(folder).as_posix()}")

    def add_file(self, source: Path, path: str) -> None:
        """Publish one local file under a name inside the artifact; it stays there until the step has ended."""
        self._waiting.append(Waiting(source, path))

    def summarize(self, **fields: Any) -> None:
        """Set fields that the artifact's reference carries (train_step, scores, …). Part of the artifact's digest."""
        self.summary |= fields

    def log(self, position: int, **values: float) -> None:
        """Add points to curves (loss, reward, length); they go to MLflow and into the card, never into the digest."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append((position, float(value)))

    def note(self, markdown: str) -> None:
        """Add a paragraph, a table or a sample to the card."""
        self.notes.append(markdown)

    def spend(self, **amounts: float) -> None:
        """Add to the cost: prompt_tokens, completion_tokens, usd, cache_hits."""
        total = {name: getattr(self.cost, name) + amount for name, amount in amounts.items()}
        self.cost = self.cost.model_copy(update=total)

    def progress(self, total: int | None, label: str = "") -> AbstractContextManager[Progress]:
        """A progress bar (or, without a terminal, a line now and then): `with … as bar: bar.advance(); bar.say(…)`."""
        return progress_bar(f"{self.step} {label}".strip(), total)

    def cache(self, namespace: str) -> RowCache:
        """The row cache of a namespace, one for the whole run; what was put is in the store when the step ends."""
        # A resource that a step opened goes on with it in later steps, when the scratch of this one is gone.
        place = self.scratch.parent
        opened: RowCache = self._resources.get(
            f"row cache {namespace}", lambda: closing(RowCache(self.store, namespace, place))
        )
        return self._caches.setdefault(namespace, opened)

    def resource(self, name: str, open_it: Callable[[], AbstractContextManager[Resource]]) -> Resource:
        """A thing that lives as long as the run (an inference server, a pool): opened at first use, shared by steps."""
        return self._resources.get(name, open_it)

    # For the step decorator

    def finish(self, is_dataset: bool) -> list[File]:
        """Put everything into the store; the artifact's files. Adds rows, columns and funnel to a dataset's summary.

        Only now, so that the bytes are young when the manifest names them: those that a step of days had put on its
        first would be garbage before its last.
        """
        for table in list(self._pending):
            self._flush(table)
        files = [self._put(each) for each in self._waiting]
        if is_dataset:
            model = self._models.get("kept")
            columns = {f.name: str(f.type) for f in schema_of(model)} if model else {}
            self.summarize(rows=self.rows_kept, columns=columns, funnel=self.sorted_funnel())
        return sorted(files, key=lambda file: file.path)

    def _put(self, waiting: Waiting) -> File:
        file = self.store.put_file(waiting.source, waiting.path, rows=waiting.rows)
        if waiting.is_ours:
            waiting.source.unlink()
        return file

    def sorted_funnel(self) -> dict[str, dict[str, int]]:
        """Source → reason (or `kept`) → queries."""
        return {source: dict(sorted(counts.items())) for source, counts in sorted(self.funnel.items())}

    def check_conservation(self, rows_in: int) -> None:
        """Every query that came in was kept or dropped, once.

        Raises:
            ConservationError: a query is missing from the ledger, or is in it twice.
        """
        both = self._kept_ids & self._dropped_ids
        if both:
            raise ConservationError(f"{self.step}: {len(both)} queries both kept and dropped, such as {min(both)}")
        if self._doubled_ids:
            raise ConservationError(
                f"{self.step}: {len(self._doubled_ids)} queries kept or dropped twice, such as "
                f"{min(self._doubled_ids)}; give `of=query` where many rows stand for one"
            )
        accounted = len(self._kept_ids) + len(self._dropped_ids)
        if accounted != rows_in:
            raise ConservationError(
                f"{self.step}: {rows_in} in, but {len(self._kept_ids)} kept + {len(self._dropped_ids)} dropped; "
                "every query must be kept or dropped with a reason"
            )

    def close(self) -> None:
        """Have what the step put into row caches in the store; they go on."""
        for cache in self._caches.values():
            cache.close()


class ConservationError(RuntimeError):
    """A step lost or invented a query."""


class Resources:
    """Things that live as long as a run."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}
        self._stack = ExitStack()

    def get(self, name: str, open_it: Callable[[], AbstractContextManager[Resource]]) -> Resource:
        """The resource of a name, opened now if it is not open."""
        if name not in self._open:
            self._open[name] = self._stack.enter_context(open_it())
        resource: Resource = self._open[name]
        return resource

    def close(self) -> None:
        """Close all, last opened first; one that fails to close does not keep the others open."""
        self._open.clear()
        self._stack.close()


def write_json(path: Path, value: Any) -> None:
    """Write JSON aside, then rename: a reader sees the old or the new text, never half."""
    aside = path.with_suffix(path.suffix + ".tmp")
    aside.write_text(json.dumps(value, indent=1), encoding="utf-8")
    aside.replace(path)
