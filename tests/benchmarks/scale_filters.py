"""Rules, duplicates (equal and near) and leaks over generated rows, from 14,000 to 2.84 million, as the steps run:
Parquet shards in, signals, decisions, ledgers and shards out, on two cores. What a row costs should not grow.

    python -m tests.benchmarks.scale_filters [ROWS …]
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from infra.artifacts import Dataset, Manifest
from infra.fingerprint import fingerprint
from infra.rows import write_shard
from tasks.filter.config import FilterConfig
from tasks.filter.steps import (
    apply_rules,
    decontaminate,
    drop_duplicates,
    find_duplicate_signals,
    find_leak_signals,
    find_rule_signals,
)
from tasks.records import Query
from tests.unit.planted_queries import make_planted
from tests.unit.stored_queries import StoredQueries

SIZES = (14_000, 140_000, 1_400_000, 2_840_000)
NUM_ITEMS, PROCESSES = 5_000, 2
CONFIG = FilterConfig.model_validate({"dedup": {"near_duplicates": True}})


def main(sizes: Sequence[int]) -> None:
    """Print one row a size as soon as it is measured."""
    console = Console(width=150)
    for size in sizes:
        with TemporaryDirectory() as folder:
            console.print(told(size, measure(size, Path(folder))))


def measure(size: int, folder: Path) -> dict[str, float]:
    """Seconds of each step, in order."""
    stored = StoredQueries(folder, processes=PROCESSES)
    queries = generate(stored, size, folder)
    bench = stored.add(make_planted(NUM_ITEMS, seed=10**6, prefix="b").queries)
    seconds: dict[str, float] = {}

    def run(name: str, work: Callable[[], Dataset]) -> Dataset:
        started = time.perf_counter()
        made = work()
        seconds[name] = time.perf_counter() - started
        return made

    dedup, leaks = CONFIG.dedup, CONFIG.decontamination
    rules = run("rules", lambda: stored.run(find_rule_signals, queries).dataset)
    judged = run("apply rules", lambda: stored.run(apply_rules, queries, rules, config=CONFIG.rules).dataset)
    pairs = run("find duplicates", lambda: stored.run(find_duplicate_signals, judged, config=dedup.search).dataset)
    unique = run("drop duplicates", lambda: stored.run(drop_duplicates, judged, pairs, config=dedup).dataset)
    found = run("find leaks", lambda: stored.run(find_leak_signals, unique, (bench,), config=leaks.search).dataset)
    run("decontaminate", lambda: stored.run(decontaminate, unique, (found,), config=leaks).dataset)
    return seconds


def generate(stored: StoredQueries, size: int, folder: Path) -> Dataset:
    """A data version of planted rows; its shards are made by both cores, outside of what is measured."""
    rows = 50_000  # of a shard, as steps write them
    sizes = [min(rows, size - begin) for begin in range(0, size, rows)]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        paths = list(pool.map(partial(_write, folder), range(len(sizes)), sizes))
    files = [stored.store.put_file(path, path.name, rows=count) for path, count in zip(paths, sizes, strict=True)]
    for path in paths:
        path.unlink()
    manifest = Manifest(
        kind="dataset", name="generated", step="generate", version=1, sampled=False, parents={}, config={},
        fingerprint=fingerprint(size), files=tuple(files), summary={"rows": size, "columns": {}, "funnel": {}},
    )  # fmt: skip
    made = stored.store.reference(stored.store.publish(manifest))
    assert isinstance(made, Dataset)
    return made


def _write(folder: Path, number: int, size: int) -> Path:
    path = folder / f"kept-{number:05d}.parquet"
    write_shard(path, Query, make_planted(size, seed=number, prefix=f"s{number:03d}-").queries)
    return path


def told(size: int, seconds: dict[str, float]) -> Table:
    """Microseconds of wall clock a row for each step, and the most memory that this process and its workers held."""
    table = Table(title=f"{size:,} rows, {PROCESSES} processes", title_justify="left")
    own, child = (resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    columns = {name: f"{1e6 * each / size:.1f}" for name, each in seconds.items()}
    total = sum(seconds.values())
    columns |= {"µs a row": f"{1e6 * total / size:.1f}", "s": f"{total:.1f}", "GiB": f"{own + PROCESSES * child:.2f}"}
    for column in columns:
        table.add_column(column, justify="right")
    table.add_row(*columns.values())
    return table


if __name__ == "__main__":
    main([int(each.replace("_", "")) for each in sys.argv[1:]] or SIZES)
