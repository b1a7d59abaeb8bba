"""Progress on long work: a live bar on a terminal, otherwise a line now and then. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

console = Console(stderr=True)
LINE_EVERY_S = 15.0


class Progress(Protocol):
    """What a step tells about its way."""

    def advance(self, amount: int = 1) -> None:
        """Add to what is done."""

    def say(self, text: str) -> None:
        """Show a few words beside the bar, such as the last loss."""


def announce(phase: str, label: str, outcome: str) -> None:
    """One line for a finished step."""
    console.print(f"{phase:<14} {label:<28} {outcome}", highlight=False)


def tell(line: str) -> None:
    """One line about what comes, such as what it will cost."""
    console.print(f"  {line}", highlight=False, markup=False)


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Progress]:
    """Show progress towards `total` (None: unknown) while the block runs."""
    if console.is_terminal:
        with _rich_columns() as live:
            yield _Bar(live, label, total)
    else:
        lines = _Lines(label, total)
        yield lines
        lines.end()


def _rich_columns() -> RichProgress:
    return RichProgress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[said]}"),
        console=console,
        transient=True,
    )


class _Bar:
    def __init__(self, live: RichProgress, label: str, total: int | None) -> None:
        self._live = live
        self._task = live.add_task(label, total=total, said="")

    def advance(self, amount: int = 1) -> None:
        self._live.advance(self._task, amount)

    def say(self, text: str) -> None:
        self._live.update(self._task, said=text)


class _Lines:
    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total = label, total
        self._done, self._said, self._last = 0, "", time.monotonic()

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        if time.monotonic() - self._last > LINE_EVERY_S:
            self.end()

    def say(self, text: str) -> None:
        self._said = text

    def end(self) -> None:
        self._last = time.monotonic()
        console.print(f"  {self._label} {self._done}/{self._total or '?'} {self._said}".rstrip(), highlight=False)
