"""What a leak is: the row of evidence that every way of finding leaks gives, and that a contamination report reads."""

from __future__ import annotations

from typing import NamedTuple

from tasks.filter.reasons import DropReason
from tasks.filter.text import head


class Leak(NamedTuple):
    """What a query shares with a query of a benchmark."""

    benchmark: str
    benchmark_id: str
    reason: DropReason
    score: float  # 1 for equal texts; else what `how` names
    how: str
    theirs: str  # start of the benchmark's text
    ours: str

    @property
    def evidence(self) -> str:
        """The ledger's line."""
        texts = f"theirs: {head(self.theirs)!r}; ours: {head(self.ours)!r}"
        return f"{self.benchmark} {self.benchmark_id}: {self.how}; {texts}"
