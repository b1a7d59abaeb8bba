r"""What can be said of two answers without a computer algebra system: by text, by exact numbers, by their parts.

Decides the cases that math_verify gets wrong (lists of unequal length, units, bases, tiny powers, intervals written as
inequalities), and most of the others in microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from tasks.records import Outcome
from tasks.rewards.math_dimensions import parse_unit
from tasks.rewards.math_guard import too_deep, too_large
from tasks.rewards.math_kinds import are_apart, choice_letter, kind_of
from tasks.rewards.math_number import NotExactError, TooLargeError
from tasks.rewards.math_parts import Open, Ruling, by_parts, ruling
from tasks.rewards.math_policy import Policy
from tasks.rewards.math_text import in_latex, normalise, split_list, without_text_marks, words_of
from tasks.rewards.math_units import Quantity, Split, equal_quantities, equal_units, parse_quantity, split_unit

_CHAIN = re.compile(r"^([^<>\\]+?)(<|\\le) ?([a-zA-Z])(<|\\le) ?([^<>=\\]+|[-+]?\\infty ?)$")
_FALLING = re.compile(r"^([^<>\\]+?)(>|\\ge) ?([a-zA-Z])(>|\\ge) ?([^<>=\\]+|-\\infty ?)$")
_MEMBER = re.compile(r"^([a-zA-Z])\\in ?([(\[].*[)\]])$")
_BOUND = re.compile(r"^([a-zA-Z])(<|>|\\le|\\ge) ?(-?[\w.{}/]+|-?\\frac\{[^{}]*\}\{[^{}]*\})$")
_BOUNDED = re.compile(r"^(-?[\d./]+|-?\\frac\{[^{}]*\}\{[^{}]*\})(<|>|\\le|\\ge) ?([a-zA-Z])$")
_BUILT_SET = re.compile(r"^\\\{ ?([a-zA-Z]) ?(?:\\mid|\||:) ?(\1.*|.*\1.*) ?\\\}$")
_RATIO = re.compile(r"^\d{1,9}(?:\.\d{1,9})?(?::\d{1,9}(?:\.\d{1,9})?)+$")
_CLOCK = re.compile(r"^\d{1,2}:[0-5]\d(?::[0-5]\d)?$")
_CAPITALS = re.compile(r"^[A-Z]{3,}$")
_PRIMES = re.compile(r"(?<=[a-zA-Z])'")
_FUNCTION = re.compile(r"^[\s$]*([a-zA-Z])('*)(?:\([a-z]\))?\s*=")
_TRANSPOSES = re.compile(r"(?<=[A-Z])\^\{?(?:T|\\top)\}?(?![a-zA-Z])")
_CALLED = re.compile(r"([a-zA-Z]\(-?[\d.]+\)) ?=")
_MIRRORED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_EXCLUDED = re.compile(r"^([a-zA-Z])\\ne ?(.+)$")
# Names that tell one thing from another: the lines x = 3 and y = 3, the roots x_1 = 3 and x_2 = 3.
_AXIS = re.compile(r"^[\s$]*(?:([xyz])|([a-zA-Z]_\{?\w+\}?))\s*=\s*[^=]*$")


def decide(gold: str, answer: str, policy: Policy) -> Ruling | Open:
    """Rule on two answers; `Open` where only algebra can tell."""
    gold, answer = in_latex(gold), in_latex(answer)
    texts = normalise(gold), normalise(answer)
    left, right = as_interval(texts[0]), as_interval(texts[1])
    axes = _AXIS.match(gold), _AXIS.match(answer)
    if axes[0] and axes[1] and any(a and b and a != b for a, b in zip(axes[0].groups(), axes[1].groups(), strict=True)):
        return ruling(False, "kind")
    if _is_derivative_of(gold, answer):
        return ruling(False, "kind")
    variables = [_variable(text) for text in texts]
    if all(variables) and variables[0] != variables[1]:
        return ruling(False, "kind")
    if left == right:
        return ruling(True, "string")
    return _refuse(left, right, too_deep) or _decide(left, right, policy, Open(gold, answer))


def _decide(gold: str, answer: str, policy: Policy, given: Open) -> Ruling | Open:
    return (
        _by_number(gold, answer, policy)
        or _by_letter(gold, answer)
        or _by_words(gold, answer)
        or _by_kind(gold, answer)
        or _by_unit(gold, answer, policy)
        or _by_exclusion(gold, answer, policy)
        or _by_marks(gold, answer)
        or by_parts(gold, answer, lambda left, right: decide(left, right, policy))
        or _refuse(gold, answer, too_large)
        or given
    )


def _is_derivative_of(gold: str, answer: str) -> bool:
    """Whether both name one function before `=`, with another number of primes."""
    left, right = _FUNCTION.match(gold), _FUNCTION.match(answer)
    return left is not None and right is not None and left[1] == right[1] and left[2] != right[2]


def _by_number(gold: str, answer: str, policy: Policy) -> Ruling | None:
    left = _quantity(gold, Outcome.GOLD_UNPARSEABLE)
    right = _quantity(answer, Outcome.ANSWER_UNPARSEABLE)
    for found in (left, right):
        if isinstance(found, Ruling):
            return found
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return ruling(equal_quantities(left, right, policy), "numeric")
    return None


def _quantity(text: str, too_large: Outcome) -> Quantity | Ruling | None:
    try:
        return parse_quantity(text)
    except TooLargeError as error:
        return Ruling(too_large, "guard", str(error))
    except NotExactError:
        return None


def _by_letter(gold: str, answer: str) -> Ruling | None:
    letter, other = choice_letter(gold), choice_letter(answer)
    is_bare = min(len(without_text_marks(text)) for text in (gold, answer)) <= 3
    return ruling(letter == other, "choice") if letter and other and is_bare else None


def _by_words(gold: str, answer: str) -> Ruling | None:
    left, right = words_of(gold), words_of(answer)
    return None if left is None or right is None else ruling(left == right, "string")


def _by_kind(gold: str, answer: str) -> Ruling | None:
    left, right = kind_of(gold), kind_of(answer)
    return Ruling(Outcome.DIFFERENT, "kind", f"{left}, {right}") if are_apart(left, right) else None


def _by_unit(gold: str, answer: str, policy: Policy) -> Ruling | Open | None:
    """Units of values that are no exact numbers: `3\\sqrt{2}` cm."""
    left, right = split_unit(gold), split_unit(answer)
    if (left is None and right is None) or len(split_list(gold)) > 1 or len(split_list(answer)) > 1:
        return None  # each part of a list has its own unit
    bodies = Open(left.body if left else gold, right.body if right else answer)
    if left and right and left.unit and right.unit:
        return _by_two_units(left, right, policy)
    if (left and left.is_symbol) or (right and right.is_symbol):
        return ruling(False, "kind") if bodies.gold == bodies.answer else None
    return decide(*bodies, policy)


def _by_exclusion(gold: str, answer: str, policy: Policy) -> Ruling | Open | None:
    r"""What is left out: `x \ne 1`."""
    left, right = _EXCLUDED.match(gold), _EXCLUDED.match(answer)
    return decide(left[2], right[2], policy) if left and right and left[1] == right[1] else None


def _by_marks(gold: str, answer: str) -> Ruling | None:
    """What the parser drops or reorders: ratios of three, clock times, `HHT`, primes, transposes, `f(2)=`."""
    if _RATIO.match(gold) and _RATIO.match(answer):
        left, right = ([Fraction(part) for part in text.split(":")] for text in (gold, answer))
        is_same = len(left) == len(right) and all(a * right[0] == b * left[0] for a, b in zip(left, right, strict=True))
        return ruling(is_same and not (_CLOCK.match(gold) and gold != answer), "parts")
    capitals = [without_text_marks(text) for text in (gold, answer)]
    if all(_CAPITALS.match(text) for text in capitals):
        return ruling(capitals[0] == capitals[1], "string")
    calls = [sorted(_CALLED.findall(text)) for text in (gold, answer)]
    is_other = _num_marks(gold, answer) != _num_marks(answer, gold) or (all(calls) and calls[0] != calls[1])
    return ruling(False, "kind") if is_other else None


def _num_marks(text: str, other: str) -> tuple[bool, int]:
    """Whether a text has primes, and how many transposes; without the name before `=` where the other has none."""
    text = text if "=" in other else text.rpartition("=")[2]
    return bool(_PRIMES.search(text)), len(_TRANSPOSES.findall(text))


def _by_two_units(left: Split, right: Split, policy: Policy) -> Ruling | Open:
    if equal_units(left.unit or "", right.unit or "") is False:
        return Ruling(Outcome.DIFFERENT, "kind", f"{left.unit}, {right.unit}")
    units = parse_unit(left.unit or ""), parse_unit(right.unit or "")
    if not units[0] or not units[1] or units[0].scale == units[1].scale:
        return decide(left.body, right.body, policy)
    factor = units[1].scale / units[0].scale
    return decide(left.body, rf"\frac{{{factor.numerator}}}{{{factor.denominator}}}\cdot({right.body})", policy)


def _refuse(gold: str, answer: str, danger_of: Callable[[str], str | None]) -> Ruling | None:
    for text, outcome in ((gold, Outcome.GOLD_UNPARSEABLE), (answer, Outcome.ANSWER_UNPARSEABLE)):
        danger = danger_of(text)
        if danger:
            return Ruling(outcome, "guard", danger)
    return None


def _variable(text: str) -> str:
    """The variable of an inequality in one; empty where there is none, or it is a set's own."""
    places = ((_CHAIN, 3), (_FALLING, 3), (_BOUND, 1), (_BOUNDED, 3), (_MEMBER, 1))
    return next((found[place] for pattern, place in places if (found := pattern.match(text))), "")


def as_interval(text: str) -> str:
    r"""An inequality in one variable as the interval it means; other text as it is.

    >>> as_interval("1<x<2"), as_interval(r"x\in[0,1)"), as_interval(r"x\ge 3"), as_interval(r"\{x|x<3\}")
    ('(1,2)', '[0,1)', '[3,\\infty)', '(-\\infty,3)')
    """
    built = _BUILT_SET.match(text)
    text = built[2].strip() if built else text
    chain, falling, member = _CHAIN.match(text), _FALLING.match(text), _MEMBER.match(text)
    if chain:
        ends = f"{chain[1].strip()},{chain[5].strip()}"
        return f"{'(' if chain[2] == '<' else '['}{ends}{')' if chain[4] == '<' else ']'}"
    if falling:
        ends = f"{falling[5].strip()},{falling[1].strip()}"
        return f"{'(' if falling[4] == '>' else '['}{ends}{')' if falling[2] == '>' else ']'}"
    if member:
        return member[2]
    bound, bounded = _BOUND.match(text), _BOUNDED.match(text)
    if bound:
        return _half_line(bound[2], bound[3].strip())
    return _half_line(_MIRRORED[bounded[2]], bounded[1].strip()) if bounded else text


def _half_line(relation: str, end: str) -> str:
    return {"<": rf"(-\infty,{end})", r"\le": rf"(-\infty,{end}]", ">": rf"({end},\infty)"}.get(
        relation, rf"[{end},\infty)"
    )
