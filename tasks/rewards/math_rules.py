r"""What can be said of two answers without a computer algebra system: by text, by exact numbers, by their parts.

Decides the cases that math_verify gets wrong (lists of unequal length, units, bases, tiny powers, intervals written as
inequalities), and most of the others in microseconds.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tasks.records import Outcome
from tasks.rewards.math_number import NotExactError, TooLargeError
from tasks.rewards.math_text import normalise, split_list, words_of
from tasks.rewards.math_units import Quantity, equal_quantities, parse_quantity

_CHAIN = re.compile(r"^([^<>\\]+?)(<|\\le) ?([a-zA-Z])(<|\\le) ?([^<>=\\]+|[-+]?\\infty ?)$")
_MEMBER = re.compile(r"^[a-zA-Z]\\in ?([(\[].*[)\]])$")
_BOUND = re.compile(r"^([a-zA-Z])(<|>|\\le|\\ge) ?(-?[\w.{}/]+|-?\\frac\{[^{}]*\}\{[^{}]*\})$")
_TUPLE = re.compile(r"^(\\\{|[(\[])(.*?)(\\\}|[)\]])$")
_NAME = re.compile(r"^([a-zA-Z]|\\[a-z]+)=(?=[^=])")
_DEEP_POWER = re.compile(r"\^(?:[{(][^{}()]*)?\d\)?\^[{(]?-?\d")
_LONG_EXPONENT = re.compile(r"\^\{?\(?-?\d{5,}")
_LARGE_FACTORIAL = re.compile(r"\d{5,}\}?\)?!|!\)*!")


class Ruling(NamedTuple):
    """What a rule found, and which."""

    outcome: Outcome
    method: str
    detail: str = ""


def decide(gold: str, answer: str, min_digits: int) -> Ruling | None:
    """Rule on two answers; None where only algebra can tell."""
    left, right = as_interval(normalise(gold)), as_interval(normalise(answer))
    if left == right:
        return Ruling(Outcome.EQUAL, "string")
    return (
        _by_words(left, right)
        or _by_number(left, right, min_digits)
        or _by_parts(left, right, min_digits)
        or _refuse_dangerous(left, right)
    )


def _ruling(is_equal: bool, method: str) -> Ruling:
    return Ruling(Outcome.EQUAL if is_equal else Outcome.DIFFERENT, method)


def _by_words(gold: str, answer: str) -> Ruling | None:
    left, right = words_of(gold), words_of(answer)
    return None if left is None or right is None else _ruling(left == right, "string")


def _by_number(gold: str, answer: str, min_digits: int) -> Ruling | None:
    left = _quantity(gold, Outcome.GOLD_UNPARSEABLE)
    right = _quantity(answer, Outcome.ANSWER_UNPARSEABLE)
    for found in (left, right):
        if isinstance(found, Ruling):
            return found
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return _ruling(equal_quantities(left, right, min_digits), "numeric")
    return None


def _quantity(text: str, too_large: Outcome) -> Quantity | Ruling | None:
    try:
        return parse_quantity(text)
    except TooLargeError as error:
        return Ruling(too_large, "guard", str(error))
    except NotExactError:
        return None


def _by_parts(gold: str, answer: str, min_digits: int) -> Ruling | None:
    left, right = _parts(gold), _parts(answer)
    if left.brackets and right.brackets and left.brackets != right.brackets:
        return _ruling(False, "parts") if _all_numbers(left) and _all_numbers(right) else None
    if len(left.items) != len(right.items):
        # `(1,2)\cup(3,4)` and other compounds are one part; their count says nothing.
        is_open = _is_compound(gold) or _is_compound(answer) or _is_wrapped_tuple(left, right)
        return None if is_open else _ruling(False, "parts")
    if len(left.items) == 1 and not (left.is_ordered or right.is_ordered):
        return None
    if left.is_ordered or right.is_ordered:
        return _in_order(left.items, right.items, min_digits)
    return _in_any_order(left.items, right.items, min_digits)


class _Parts(NamedTuple):
    items: list[str]
    brackets: str
    is_ordered: bool


def _parts(text: str) -> _Parts:
    found = _TUPLE.match(text)
    if found and found[1] != r"\{" and len(split_list(text)) == 1 and _is_one_bracket(text):
        items = split_list(found[2])
        if len(items) > 1:
            return _Parts(_without_names(items), found[1] + found[3], True)
    items = [part for item in split_list(text) for part in _both_signs(item)]
    return _Parts(_without_names(items), "", len({_name(item) for item in items} - {""}) > 1)


def _is_one_bracket(text: str) -> bool:
    depth = 0
    for index, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if depth == 0 and index < len(text) - 1:
            return False
    return True


def _both_signs(item: str) -> list[str]:
    if item.count(r"\pm") != 1:
        return [item]
    plus, minus = (re.sub(r"\\pm ?", sign, item) for sign in ("+", "-"))
    return [plus.removeprefix("+"), minus]


def _name(item: str) -> str:
    found = _NAME.match(item)
    return found[1] if found else ""


def _without_names(items: list[str]) -> list[str]:
    """Items without `x=`; where several variables are named, in the order of their names, so that order tells them."""
    if len({_name(item) for item in items} - {""}) > 1:
        items = sorted(items, key=_name)
    return [_NAME.sub("", item) for item in items]


def _is_compound(text: str) -> bool:
    return any(mark in text for mark in (r"\cup", r"\cap", r"\begin", r"\in", "=", "<", ">", r"\le", r"\ge"))


def _is_wrapped_tuple(left: _Parts, right: _Parts) -> bool:
    """One side is a tuple, the other one part that may hold a tuple: `P(1,2)`."""
    return any(
        one.brackets and len(other.items) == 1 and re.search(r"[(\[]", other.items[0])
        for one, other in ((left, right), (right, left))
    )


def _all_numbers(parts: _Parts) -> bool:
    return all(isinstance(_quantity(item, Outcome.DIFFERENT), Quantity) for item in parts.items)


def _in_order(gold: list[str], answer: list[str], min_digits: int) -> Ruling | None:
    rulings = [decide(left, right, min_digits) for left, right in zip(gold, answer, strict=True)]
    return _all_of(rulings)


def _all_of(rulings: list[Ruling | None]) -> Ruling | None:
    for ruling in rulings:
        if ruling is not None and ruling.outcome is not Outcome.EQUAL:
            return ruling if ruling.outcome is not Outcome.DIFFERENT else _ruling(False, "parts")
    return None if None in rulings else _ruling(True, "parts")


def _in_any_order(gold: list[str], answer: list[str], min_digits: int) -> Ruling | None:
    left = list(gold)
    is_open = False
    for item in answer:
        rulings = [decide(candidate, item, min_digits) for candidate in left]
        match = next((i for i, r in enumerate(rulings) if r is not None and r.outcome is Outcome.EQUAL), None)
        if match is not None:
            left.pop(match)
        elif None in rulings:
            is_open = True
        else:
            return _ruling(False, "parts")
    return None if is_open else _ruling(True, "parts")


def as_interval(text: str) -> str:
    r"""An inequality in one variable as the interval it means; other text as it is.

    >>> as_interval("1<x<2"), as_interval(r"x\in[0,1)"), as_interval(r"x\ge 3")
    ('(1,2)', '[0,1)', '[3,\\infty)')
    """
    chain, member, bound = _CHAIN.match(text), _MEMBER.match(text), _BOUND.match(text)
    if chain:
        ends = f"{chain[1].strip()},{chain[5].strip()}"
        return f"{'(' if chain[2] == '<' else '['}{ends}{')' if chain[4] == '<' else ']'}"
    if member:
        return member[1]
    if bound:
        end = bound[3].strip()
        return {"<": rf"(-\infty,{end})", r"\le": rf"(-\infty,{end}]", ">": rf"({end},\infty)"}.get(
            bound[2], rf"[{end},\infty)"
        )
    return text


def _refuse_dangerous(gold: str, answer: str) -> Ruling | None:
    """Powers that algebra would try to build."""
    for text, outcome in ((gold, Outcome.GOLD_UNPARSEABLE), (answer, Outcome.ANSWER_UNPARSEABLE)):
        if _DEEP_POWER.search(text) or _LONG_EXPONENT.search(text) or _LARGE_FACTORIAL.search(text):
            return Ruling(outcome, "guard", "a power or factorial too large to build")
    return None
