"""Side-by-side timings: `make bench`, `make bench ONLY=C1`. No thresholds: a clock never fails a test.

Ours and a peer run in turn on the same input, after their outputs are found equal; the table shows median and spread.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

RUNS = 7


class Contest(NamedTuple):
    """What one benchmark compares. Each call does the whole work once and returns a value to be checked."""

    title: str
    unit: str
    amount: float
    ours: Callable[[], object]
    peers: dict[str, Callable[[], object]]
    limit: Callable[[], object]
    limit_name: str
    runs: int = RUNS


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def hold(contest: Contest) -> Table:
    """Check that the outputs are equal, then time all in turn."""
    expected = contest.ours()
    for name, peer in contest.peers.items():
        assert peer() == expected, f"{contest.title}: {name} gives another result"
    entries = {"ours": contest.ours, **contest.peers, f"limit: {contest.limit_name}": contest.limit}
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    for _ in range(contest.runs):
        for name, work in entries.items():
            seconds[name].append(timed(work))
    table = Table(title=f"{contest.title} ({contest.runs} runs in turn)", title_justify="left")
    for column in ("", f"{contest.unit}/s", "median s", "min s", "max s"):
        table.add_column(column, justify="right" if column else "left")
    for name, runs in seconds.items():
        rate = contest.amount / median(runs)
        told = f"{rate:,.0f}" if rate >= 10 else f"{rate:.3f}"
        table.add_row(name, told, f"{median(runs):.3f}", f"{min(runs):.3f}", f"{max(runs):.3f}")
    return table


def main(only: str | None) -> None:
    """Hold all contests, or the one whose file name starts with `only`."""
    console = Console()
    for path in sorted(Path(__file__).parent.glob("[a-z][0-9]_*.py")):
        if only is None or path.stem.upper().startswith(only.upper()):
            module = importlib.import_module(f"tests.benchmarks.{path.stem}")
            console.print(hold(module.contest()))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
