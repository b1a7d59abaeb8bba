r"""Answers of several parts: lists, sets, tuples, intervals, unions and matrices, compared part by part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tasks.records import Outcome
from tasks.rewards.math_number import NotExactError, TooLargeError
from tasks.rewards.math_text import split_list
from tasks.rewards.math_units import parse_quantity

METHOD = "parts"
_TUPLE = re.compile(r"^(\\\{|[(\[])(.*?)(\\\}|[)\]])$")
_NAME = re.compile(r"^([a-zA-Z]|\\[a-z]+)=(?=[^=])")
_MATRIX = re.compile(r"^[(\[|]?\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\1\}[)\]|]?$")
_MAX_PARTS = 200  # comparing in any order is quadratic


class Ruling(NamedTuple):
    """What a rule found, and which."""

    outcome: Outcome
    method: str
    detail: str = ""


class Open(NamedTuple):
    """Two texts that only algebra can compare; what was no part of the mathematics is taken off."""

    gold: str
    answer: str


Rule = Callable[[str, str], Ruling | Open]


def ruling(is_equal: bool, method: str) -> Ruling:
    """The ruling that two answers are equal, or different."""
    return Ruling(Outcome.EQUAL if is_equal else Outcome.DIFFERENT, method)


def by_parts(gold: str, answer: str, rule: Rule) -> Ruling | None:
    """Rule on two normalised answers by their parts; None where they have none, or algebra must see the whole."""
    if r"\begin" in gold or r"\begin" in answer:
        return _by_cells(gold, answer, rule)
    if r"\cup" in gold or r"\cup" in answer:
        return _by_pieces(gold, answer, rule)
    left, right = _parts(gold), _parts(answer)
    if left.brackets and right.brackets and left.brackets != right.brackets and len(left.items) == 2:
        return ruling(False, METHOD) if _all_numbers(left) and _all_numbers(right) else None
    if len(left.items) != len(right.items):
        # Compounds and functions' arguments are one part; their count says nothing.
        is_open = _is_compound(gold) or _is_compound(answer) or _is_wrapped_tuple(left, right)
        return None if is_open else ruling(False, METHOD)
    if len(left.items) == 1 and left.items[0] == gold and right.items[0] == answer:
        return None
    if left.is_ordered or right.is_ordered:
        return _in_order(left.items, right.items, rule)
    return _in_any_order(left.items, right.items, rule)


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
    if found and found[1] == r"\{":
        items = list(dict.fromkeys(items))  # a set holds nothing twice
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
    return any(mark in text for mark in (r"\cap", r"\in", "=", "<", ">", r"\le", r"\ge", r"\setminus", "|"))


def _is_wrapped_tuple(left: _Parts, right: _Parts) -> bool:
    """One side is a tuple, the other one part that may hold a tuple: `P(1,2)`."""
    return any(
        one.brackets and len(other.items) == 1 and re.search(r"[(\[]", other.items[0])
        for one, other in ((left, right), (right, left))
    )


def _all_numbers(parts: _Parts) -> bool:
    return all(_is_number(item) for item in parts.items)


def _is_number(item: str) -> bool:
    try:
        parse_quantity(item)
    except TooLargeError:
        return True
    except NotExactError:
        return r"\infty" in item
    return True


def _in_order(gold: list[str], answer: list[str], rule: Rule) -> Ruling | None:
    is_open = False
    for left, right in zip(gold, answer, strict=True):
        found = rule(left, right)
        if isinstance(found, Open):
            is_open = True
        elif found.outcome is not Outcome.EQUAL:
            return found if found.outcome is not Outcome.DIFFERENT else ruling(False, METHOD)
    return None if is_open else ruling(True, METHOD)


def _in_any_order(gold: list[str], answer: list[str], rule: Rule) -> Ruling | None:
    left = list((Counter(gold) - Counter(answer)).elements())
    right = list((Counter(answer) - Counter(gold)).elements())
    if len(left) > _MAX_PARTS:
        return Ruling(Outcome.ANSWER_UNPARSEABLE, "guard", f"{len(answer)} parts")
    is_open = False
    for item in right:
        found = [rule(candidate, item) for candidate in left]
        match = next((i for i, r in enumerate(found) if isinstance(r, Ruling) and r.outcome is Outcome.EQUAL), None)
        if match is not None:
            left.pop(match)
        elif any(isinstance(r, Open) for r in found):
            is_open = True
        else:
            return ruling(False, METHOD)
    return None if is_open else ruling(True, METHOD)


def _by_pieces(gold: str, answer: str, rule: Rule) -> Ruling | None:
    """Unions, in any order. Pieces that differ prove nothing: (1,2]∪(2,3) is (1,3)."""
    left, right = _pieces(gold), _pieces(answer)
    found = _in_any_order(left, right, rule) if len(left) == len(right) else None
    return found if found and found.outcome is Outcome.EQUAL else None


def _pieces(text: str) -> list[str]:
    separated = re.sub(r"^[a-z]\\in ?(?=[(\[])", "", text).replace(r"\cup", ";")
    return [piece.strip() for piece in split_list(separated)]


def _by_cells(gold: str, answer: str, rule: Rule) -> Ruling | None:
    left, right = _cells(gold), _cells(answer)
    if left is None or right is None:
        return None
    if [len(row) for row in left] != [len(row) for row in right]:
        return ruling(False, METHOD)
    return _in_order([cell for row in left for cell in row], [cell for row in right for cell in row], rule)


def _cells(text: str) -> list[list[str]] | None:
    """Rows of a matrix; a tuple stands for a column."""
    found = _MATRIX.match(text)
    if found:
        rows = [row for row in re.split(r"\\newrow ?", found[2]) if row.strip()]
        return [[cell.strip() for cell in row.split("&")] for row in rows]
    parts = _parts(text)
    return [[item] for item in parts.items] if parts.brackets else None
