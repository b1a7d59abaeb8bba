"""What a judging host counts, as Prometheus reads it (text exposition format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tasks.records import Outcome, Verdict

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "posttrain_sandbox"
_BOUNDS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class JudgeMetrics:
    """Counts of one host since it started. Used from one event loop only."""

    def __init__(self) -> None:
        self._requests: Counter[int] = Counter()
        self._outcomes: Counter[Outcome] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0

    def count_request(self, status: int) -> None:
        """One answered request, by its HTTP status."""
        self._requests[status] += 1

    def count_verdict(self, verdict: Verdict, seconds: float) -> None:
        """One verdict, and the seconds in its slot."""
        self._outcomes[verdict.outcome] += 1
        self._seconds += seconds
        self._buckets.update(bound for bound in _BOUNDS_S if seconds <= bound)

    def text(self, gauges: Mapping[str, float]) -> str:
        """All of it, with what is so at this moment."""
        return "\n".join([*self._counters(), *self._histogram(), *_gauges(gauges)]) + "\n"

    def _counters(self) -> Iterator[str]:
        yield f"# TYPE {_PREFIX}_requests_total counter"
        for status, count in sorted(self._requests.items()):
            yield f'{_PREFIX}_requests_total{{status="{status}"}} {count}'
        yield f"# TYPE {_PREFIX}_verdicts_total counter"
        for outcome, count in sorted(self._outcomes.items()):
            yield f'{_PREFIX}_verdicts_total{{outcome="{outcome}"}} {count}'

    def _histogram(self) -> Iterator[str]:
        name, count = f"{_PREFIX}_seconds", self._outcomes.total()
        yield f"# TYPE {name} histogram"
        for bound in _BOUNDS_S:
            yield f'{name}_bucket{{le="{bound}"}} {self._buckets[bound]}'
        yield f'{name}_bucket{{le="+Inf"}} {count}'
        yield f"{name}_sum {self._seconds:.6f}"
        yield f"{name}_count {count}"


def _gauges(gauges: Mapping[str, float]) -> Iterator[str]:
    for name, value in gauges.items():
        yield f"# TYPE {_PREFIX}_{name} gauge"
        yield f"{_PREFIX}_{name} {value}"
