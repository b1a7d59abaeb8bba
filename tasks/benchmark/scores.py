"""avg@k with intervals, and paired gains: problems are the unit, since samples of one problem are not independent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from pydantic import Field

from infra.artifacts import Report, Score
from infra.config import Config
from infra.store import Store

Z_95 = 1.959964  # two-sided 95 % of the normal distribution


class ProblemScore(Config):
    """Row of a report's table `problems`: the mean over k samples of one problem."""

    benchmark: str
    query_id: str
    mean: float = Field(ge=0, le=1)
    k: int
    num_unjudged: int = Field(description="samples whose grading failed; they are left out of the mean")


class PairedGain(Config):
    """Mean over problems of (after - before), with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


def average_at_k(problem_means: Sequence[float], k: int) -> Score:
    """Mean over n problems of the per-problem means, with mean ± z·s/√n clipped to [0, 1].

    Raises:
        ValueError: no problem.
    """
    low, high = _interval(problem_means)
    mean = fmean(problem_means)
    return Score(mean=mean, low=max(0.0, low), high=min(1.0, high), k=k, n=len(problem_means))


def paired_gain(before: Mapping[str, float], after: Mapping[str, float]) -> PairedGain:
    """Gain over the problems that both have (query id → mean)."""
    differences = [after[key] - before[key] for key in sorted(before.keys() & after.keys())]
    low, high = _interval(differences)
    return PairedGain(mean=fmean(differences), low=low, high=high, n=len(differences))


def _interval(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        raise ValueError("no problem to average over; give the benchmark at least one row")
    half = Z_95 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return fmean(values) - half, fmean(values) + half


def problem_scores(store: Store, report: Report) -> dict[str, dict[str, float]]:
    """Benchmark → query id → mean."""
    scores: dict[str, dict[str, float]] = {}
    for row in store.rows(report, ProblemScore, prefix="problems"):
        scores.setdefault(row.benchmark, {})[row.query_id] = row.mean
    return scores
