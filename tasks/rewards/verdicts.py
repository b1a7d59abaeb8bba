"""Verdicts with the score that their outcome means."""

from __future__ import annotations

from tasks.records import Outcome, Verdict


def verdict(
    outcome: Outcome, method: str, *, extracted: str | None = None, detail: str = "", ms: float = 0.0
) -> Verdict:
    """1 for EQUAL and PASSED, None for a fault, 0 otherwise."""
    score = None if outcome.is_fault else float(outcome.is_right)
    return Verdict(outcome=outcome, score=score, extracted=extracted, method=method, ms=ms, detail=detail)
