"""What is refused before anything is computed: texts that would cost time or memory and mean nothing."""

from __future__ import annotations

import re

MAX_DEPTH = 60
_MAX_EXPONENT = 10_000
_TOWER = re.compile(r"\^[{(]{0,3}-?(\d+)[)}]{0,3}\^[{(]{0,3}-?(\d+)")
_LONG_EXPONENT = re.compile(r"\^[{(]{0,3}-?\d{5,}")
_LARGE_FACTORIAL = re.compile(r"\d{5,}[})]{0,3}!|![)}]{0,3}!")
_LARGE_BINOMIAL = re.compile(r"\\[dt]?binom\{?\d{6,}")
_RELATION = re.compile(r"[=<>]|\\(?:le|ge|ne|cup|cap)(?![a-zA-Z])")
_MAX_RELATIONS = 40
_MAX_SIGNS = 6  # each doubles what is to be compared
# Characters that show nothing: zero width, direction marks, soft hyphen, byte order mark, controls.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\u00ad\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(answer: str) -> str:
    r"""An answer without invisible characters; half of a surrogate pair, which no file can hold, as U+FFFD.

    >>> clean("1\u200b2\x00")
    '12'
    """
    return _SURROGATE.sub("\ufffd", _INVISIBLE.sub("", answer))


def too_deep(text: str) -> str | None:
    """Why a text's brackets are refused; None: they are not."""
    depth = deepest = 0
    for character in text:
        if character in "{([":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "})]":
            depth -= 1
    return f"brackets {deepest} deep" if deepest > MAX_DEPTH else None


def too_large(text: str) -> str | None:
    """Why a computer algebra system must not see a text: it would build the number. None: it may."""
    if any(_is_high(found[1], found[2]) for found in _TOWER.finditer(text)):
        return "a tower of powers"
    if _LONG_EXPONENT.search(text):
        return f"an exponent above {_MAX_EXPONENT}"
    if _LARGE_FACTORIAL.search(text):
        return "a large or repeated factorial"
    if len(_RELATION.findall(text)) > _MAX_RELATIONS or text.count(r"\pm") > _MAX_SIGNS:
        return "a chain of relations or of two signs"
    return "a large binomial" if _LARGE_BINOMIAL.search(text) else None


def _is_high(lower: str, upper: str) -> bool:
    return len(lower) > 4 or len(upper) > 2 or int(lower) ** int(upper) > _MAX_EXPONENT
