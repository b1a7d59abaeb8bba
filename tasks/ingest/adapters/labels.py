"""Pieces that several schemas share: turns, option lists, and labels as sources write them."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Any

from tasks.ingest.native import FieldError
from tasks.records import Message

LETTERS = string.ascii_uppercase
_OPTION_MARK = re.compile(r"^\s*\(?[A-Z][).:]\s*")


def user_turn(text: str) -> tuple[Message, ...]:
    """A dialog of one question; empty text gives no dialog."""
    return (Message(role="user", content=text.strip()),) if text.strip() else ()


def label(value: Any) -> str | None:
    """A ground truth as text: whole floats lose their `.0`, one pair of dollars around the whole is taken off.

    >>> label(142.0), label("$\\\\frac12$"), label(" ")
    ('142', '\\\\frac12', None)
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value).strip()
    inner = text.strip("$").strip()
    is_wrapped = text.startswith("$") and text.endswith("$") and "$" not in inner
    return (inner if is_wrapped else text) or None


def whole_number(value: Any) -> str | None:
    """A label that is a whole number by the rules of its contest: `025` is 25, and `336^\\circ` is 336."""
    text = label(value)
    if text is None:
        return None
    digits = re.fullmatch(r"(\d+)(?:\.0)?(?:\s*\^\{?\\circ\}?)?", text)
    return str(int(digits[1])) if digits else text


def option_text(option: str) -> str:
    """An option without its mark: `(A)2` is `2`."""
    return _OPTION_MARK.sub("", option).strip()


def with_options(stem: str, options: Sequence[str]) -> str:
    """The prompt of a multiple-choice query: the stem, then one lettered line an option."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([stem.strip(), "", *lines])


def letter_of(value: Any, num_options: int) -> str:
    """The letter of the right option, from `D`, `(D)` or an index from 0.

    Raises:
        FieldError: it names no option.
    """
    if isinstance(value, int) and 0 <= value < num_options:
        return LETTERS[value]
    letter = str(value).strip().strip("().").upper()
    if len(letter) != 1 or letter not in LETTERS[:num_options]:
        raise FieldError(f"right option {value!r} is none of the {num_options} options")
    return letter
