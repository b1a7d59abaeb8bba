"""What sort of thing an answer is; two sorts that no reading makes equal are told apart before anything is computed."""

from __future__ import annotations

import re
from enum import StrEnum

from tasks.rewards.math_number import NotExactError, TooLargeError
from tasks.rewards.math_text import split_list, without_text_marks, words_of
from tasks.rewards.math_units import parse_quantity, split_unit


class Kind(StrEnum):
    """Sort of an answer, as its text shows it."""

    SCALAR = "scalar"
    PERCENT = "percent"
    UNIT = "unit"  # a value with a unit; the value may be `3\sqrt{2}`
    BASE = "base"  # digits with a base
    SET = "set"
    LIST = "list"  # several values, in any order
    TUPLE = "tuple"  # `(1,2)`: a point, or an open interval
    INTERVAL = "interval"
    MATRIX = "matrix"
    EQUATION = "equation"  # or an inequality
    TEXT = "text"
    CHOICE = "choice"  # one capital letter A to J
    EXPRESSION = "expression"


_CHOICE = re.compile(r"^\(?([A-J])\)?$")
_MATRIX = re.compile(r"\\begin\{[a-zA-Z]*(?:matrix|array)\}")
_RELATION = re.compile(r"[=<>]|\\(?:le|ge|ne|equiv)(?![a-zA-Z])")
_NUMBERS = frozenset({Kind.SCALAR, Kind.PERCENT, Kind.UNIT, Kind.BASE})
# A gold of one of these kinds is never an answer of the others of its row, whatever the values are.
_APART: dict[Kind, frozenset[Kind]] = {
    Kind.TEXT: _NUMBERS | {Kind.TUPLE, Kind.INTERVAL, Kind.MATRIX},
    Kind.MATRIX: _NUMBERS | {Kind.TEXT, Kind.CHOICE, Kind.SET, Kind.INTERVAL},
    Kind.INTERVAL: _NUMBERS | {Kind.TEXT, Kind.CHOICE, Kind.MATRIX},
    Kind.CHOICE: _NUMBERS | {Kind.TUPLE, Kind.INTERVAL, Kind.MATRIX},
    Kind.TUPLE: _NUMBERS | {Kind.TEXT, Kind.CHOICE, Kind.SET},
    Kind.SET: frozenset({Kind.TUPLE, Kind.INTERVAL, Kind.MATRIX}),
    Kind.SCALAR: frozenset({Kind.TEXT, Kind.CHOICE, Kind.MATRIX, Kind.INTERVAL, Kind.TUPLE}),
}


def kind_of(text: str) -> Kind:
    r"""Kind of a normalised answer.

    >>> [str(kind_of(text)) for text in ("1/2", r"50\%", "5 cm", "[1,2)", "(1,2)", r"\{1,2\}", "1,2", "x+1", "(B)")]
    ['scalar', 'percent', 'unit', 'interval', 'tuple', 'set', 'list', 'expression', 'choice']
    """
    if _CHOICE.match(text):
        return Kind.CHOICE
    if words_of(text) is not None:
        return Kind.TEXT
    return _number_kind(text) or _compound_kind(text)


def _number_kind(text: str) -> Kind | None:
    try:
        found = parse_quantity(text)
    except TooLargeError:
        return Kind.SCALAR
    except NotExactError:
        return None
    if found.base:
        return Kind.BASE
    if found.is_percent:
        return Kind.PERCENT
    return Kind.UNIT if found.unit else Kind.SCALAR


def _compound_kind(text: str) -> Kind:
    if _MATRIX.search(text):
        return Kind.MATRIX
    if _RELATION.search(text):
        return Kind.EQUATION
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return Kind.SET
    num_parts = len(split_list(text))
    if num_parts > 1:
        return Kind.LIST
    if text[:1] in "([" and text[-1:] in ")]" and len(split_list(text[1:-1])) > 1:
        is_tuple = text[0] == "(" and text[-1] == ")" and r"\infty" not in text
        return Kind.TUPLE if is_tuple else Kind.INTERVAL
    return Kind.UNIT if split_unit(text) else Kind.EXPRESSION


def are_apart(gold: Kind, answer: Kind) -> bool:
    """Whether no answer of the one kind equals a gold of the other."""
    return answer in _APART.get(gold, frozenset())


def choice_letter(text: str) -> str | None:
    r"""The letter that a normalised answer to a choice commits to: `(B)`, `B. green`, `\text{B}`; None: none.

    >>> choice_letter("(B)"), choice_letter(r"\text{(B) } 5"), choice_letter("BC"), choice_letter("(B)+1")
    ('B', 'B', None, None)
    """
    text = without_text_marks(text)
    found = re.match(r"^(?:[Oo]ption|[Cc]hoice|[Aa]nswer)? ?:? ?\(?([A-J])(?:\)|[).:] ?(?![-+*/^_=]).*)?$", text)
    return found[1] if found else None
