"""avg@k, its interval and paired gains, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from tasks.benchmark.scores import Z_95, average_at_k, paired_gain


def test_average_at_k_by_hand() -> None:
    score = average_at_k([0.0, 0.5, 1.0, 0.5], k=2)
    # Mean 0.5; squared deviations 0.25 + 0 + 0.25 + 0, over n - 1 = 3; standard error sqrt(1/6) / 2.
    half = Z_95 * math.sqrt(0.5 / 3) / 2
    assert score.mean == pytest.approx(0.5)
    assert (score.low, score.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert (score.k, score.n) == (2, 4)


def test_interval_stays_in_the_range_of_a_score() -> None:
    score = average_at_k([0.0, 0.0, 0.0, 1.0], k=1)
    assert score.low == 0.0
    assert average_at_k([1.0, 1.0], k=1).high == 1.0


def test_paired_gain_compares_problem_by_problem() -> None:
    before = {"a": 0.0, "b": 0.5, "c": 0.25, "only before": 1.0}
    after = {"a": 0.5, "b": 1.0, "c": 0.75}
    gain = paired_gain(before, after)
    # Every problem gains 0.5, so the paired interval has no width though the scores differ.
    assert (gain.mean, gain.low, gain.high, gain.n) == (0.5, 0.5, 0.5, 3)


def test_no_problem_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        average_at_k([], k=8)
