"""What an endpoint's headers say about asking again: Retry-After and x-ratelimit-*."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")


def pause_s(headers: Mapping[str, str], tokens: int) -> float:
    """Seconds in which the endpoint would refuse another request of so many tokens; 0 where it does not say."""
    waits = (retry_after_s(headers), _allowance_s(headers, "requests", 1), _allowance_s(headers, "tokens", tokens))
    return max(waits)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Retry-After as seconds or as a date, or OpenAI's `retry-after-ms`."""
    precise = _number(headers.get("retry-after-ms"))
    if precise is not None:
        return precise / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    at, now = _date(text), _date(headers.get("date")) or datetime.now(UTC)
    return max(0.0, (at - now).total_seconds()) if at else 0.0


def span_s(text: str) -> float | None:
    """A span such as `6m0s`, `20ms` or `1.5`, in seconds; None where it is none.

    >>> span_s("6m0s"), span_s("20ms"), span_s("1.5"), span_s("soon")
    (360.0, 0.02, 1.5, None)
    """
    parts = _SPAN.findall(text)
    if parts and "".join(f"{amount}{unit}" for amount, unit in parts) == text.strip():
        return sum(float(amount) * _UNITS_S[unit] for amount, unit in parts)
    return _number(text)


def _allowance_s(headers: Mapping[str, str], what: str, needed: int) -> float:
    """Time to the next allowance. An endpoint tells how long until all of it is back, which it fills evenly."""
    left = _number(headers.get(f"x-ratelimit-remaining-{what}"))
    reset_s = span_s(headers.get(f"x-ratelimit-reset-{what}", ""))
    if left is None or reset_s is None or left >= needed:
        return 0.0
    whole = _number(headers.get(f"x-ratelimit-limit-{what}")) or 0.0
    return reset_s * (min(1.0, (needed - left) / (whole - left)) if whole > left else 1.0)


def _number(text: str | None) -> float | None:
    # Digits only: `nan` and `inf` are numbers to Python.
    return float(text) if text and re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else None


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
