r"""Quantities: an exact number with a unit, a percent sign or a base. `5 cm` is not `5 m`, nor `1011_2` `1011`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from tasks.rewards.math_dimensions import parse_unit, singular
from tasks.rewards.math_number import NotExactError, Number, equal_numbers, parse_number
from tasks.rewards.math_policy import BasePolicy, PercentPolicy, Policy
from tasks.rewards.math_text import without_text_marks

_BASE = re.compile(r"^\(?(-?(?:[0-9][0-9A-Za-z]*|[A-Z]{2}[0-9A-Z]*))\)?_\{?(\w+)\}?$")
_BASE_NAMES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12,
    "sixteen": 16,
}  # fmt: skip
_PERCENT = re.compile(r"^(.*?) ?(?:\\?%|percent|per cent)$")
_EXPONENT = r"(\^\{?[-+\d]+\}?)?"
_MARK = r"\\(?:text|mathrm|rm|mbox|textrm|textbf|mathbf)"
_MARKED_UNIT = re.compile(rf"^(.*(?:[\d}})!]|\\pi)) ?((?:{_MARK}\{{[^{{}}]*\}}{_EXPONENT}[ /]?(?:\\cdot ?)?)+)$")
_WORD = r"[a-zA-Z]+(?:\^\{?-?\d\}?)?"
_PLAIN_UNIT = re.compile(rf"^(.*(?:[\d}})!]|\\pi(?= )))( ?)({_WORD}(?:[ /]{_WORD})*)$")
_DEGREES = re.compile(r"^(.*[\d})]) ?\^\{?\\circ\}?(?: ?\\(?:text|mathrm)\{ *([CF]) *\}| ?([CF]))?$")
_NO_UNIT = re.compile(r"^(?:(?:square|sq|cubic)\.? )?units?(?: squared| cubed)?(?:\^\{?\d\}?)?$")
# Marked letters that are numbers or variables, no unit: `2\text{pi}`, `3\mathrm{i}`.
_SYMBOLS = frozenset({"pi", "i", "e", "x", "y", "z", "n"})


_COMPOUND = re.compile(r"(?:\d{1,9} ?[a-zA-Z]{1,12} ?){1,3}\d{1,9}(?:\.\d{1,9})? ?[a-zA-Z]{1,12}")
_PART = re.compile(r"([\d.]+) ?([a-zA-Z]+)")


class Quantity(NamedTuple):
    """A number as it was answered. `unit` None: none was named. `base` None: ten.

    `is_symbol`: the unit is one bare letter right behind the number, and may as well be a variable: `2h`.
    """

    number: Number
    unit: str | None = None
    is_percent: bool = False
    base: str | None = None
    is_symbol: bool = False


def parse_quantity(text: str) -> Quantity:
    """Read a normalised answer.

    Raises:
        NotExactError: it is no exact number with at most a unit, a percent sign or a base.
        TooLargeError: the number is too large to build.
    """
    based = _BASE.match(without_text_marks(text)) if "_" in text else None
    if based:
        return _in_base(based[1], based[2])
    text = text.removesuffix(r"\dollar").strip()
    if text.startswith((r"\dollar", r"-\dollar")):
        return Quantity(parse_number(text.replace(r"\dollar", "", 1).strip()), unit="dollar")
    percent = _PERCENT.match(without_text_marks(text) if "cent" in text else text)
    if percent:
        return Quantity(parse_number(percent[1]), is_percent=True)
    degrees = _DEGREES.match(text)
    if degrees:
        scale = degrees[2] or degrees[3]
        return Quantity(parse_number(degrees[1]), unit=f"degree {scale}" if scale else "degree")
    compound = _compound(" ".join(without_text_marks(text).split()))
    if compound:
        return compound
    try:
        return Quantity(parse_number(text))
    except NotExactError:
        split = split_unit(text)
        if split is None:
            raise
        return Quantity(parse_number(split.body), unit=split.unit, is_symbol=split.is_symbol)


def _compound(text: str) -> Quantity | None:
    """`2 hours 30 minutes` in its last unit; None where its units do not fall within one dimension."""
    if not _COMPOUND.fullmatch(text):
        return None
    parts = _PART.findall(text)
    units = [parse_unit(word) for _, word in parts]
    known = [unit for unit in units if unit is not None]
    scales = [unit.scale for unit in known]
    is_falling = scales == sorted(set(scales), reverse=True)
    if len(known) < len(parts) or not is_falling or len({unit.dimensions for unit in known}) > 1:
        return None
    total = sum((Fraction(number) * scale for (number, _), scale in zip(parts, scales, strict=True)), Fraction(0))
    return Quantity(Number(total / scales[-1]), unit=parts[-1][1])


def _in_base(digits: str, base: str) -> Quantity:
    name = str(_BASE_NAMES.get(base, base))
    if not name.isdigit():
        raise NotExactError(f"a subscript that is no base: {base}")
    try:
        value = int(digits, max(int(name), 1))
    except ValueError:
        # Digits that the base does not have: an answer, though a wrong one.
        return Quantity(Number(Fraction(int(digits, 36))), base=f"not {name}")
    return Quantity(Number(Fraction(value)), base=name)


class Split(NamedTuple):
    """A text without its unit. `unit` None: the words say nothing (`square units`)."""

    body: str
    unit: str | None
    is_symbol: bool = False


def split_unit(text: str) -> Split | None:
    r"""Take the unit off `3\sqrt{2}\text{ cm}` or `5 m`; None where a text ends in none."""
    marked = _MARKED_UNIT.match(text)
    if marked:
        words = " ".join(without_text_marks(marked[2].replace("{}", "")).replace(r"\cdot", " ").split())
        return None if words in _SYMBOLS else Split(marked[1], _told_unit(words))
    plain = _PLAIN_UNIT.match(text)
    if plain and (parse_unit(plain[3]) or _NO_UNIT.match(plain[3]) or _is_counted(plain[3])):
        is_symbol = not plain[2] and len(plain[3]) == 1
        return Split(plain[1], _told_unit(plain[3]), is_symbol)
    return None


def _is_counted(words: str) -> bool:
    """Plain words behind a number name what is counted: `12 apples`; a few letters may be a product."""
    return bool(re.fullmatch(r"[a-zA-Z]{4,}(?: [a-zA-Z]+)*", words))


def _told_unit(words: str) -> str | None:
    words = words.replace("squared", "^2").replace("cubed", "^3").replace(" ^", "^").strip(" .")
    return None if not words or _NO_UNIT.match(words) else words


def equal_units(gold: str, answer: str) -> bool | None:
    """Whether two units are of one dimension, so that values can be compared; None: words, of which one is shared."""
    left, right = parse_unit(gold), parse_unit(answer)
    if left and right:
        return left.dimensions == right.dimensions
    if left or right:
        return False
    return None if _words(gold) & _words(answer) else False


def _words(unit: str) -> frozenset[str]:
    return frozenset(singular(word.lower()).rstrip("s") for word in re.findall(r"[a-zA-Z.]+", unit))


def equal_quantities(gold: Quantity, answer: Quantity, policy: Policy) -> bool:
    """Equal in value, unit and base. A unit or percent sign that one side leaves out is taken from the other."""
    if gold.base or answer.base:
        return _equal_in_base(gold, answer, policy.bases)
    if gold.is_percent or answer.is_percent:
        return _equal_percents(gold, answer, policy)
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return _equal_converted(gold, answer, policy.min_rounded_digits)
    if (gold.is_symbol and not answer.unit) or (answer.is_symbol and not gold.unit):
        return False
    return equal_numbers(gold.number, answer.number, policy.min_rounded_digits)


def _equal_in_base(gold: Quantity, answer: Quantity, policy: BasePolicy) -> bool:
    if gold.base == answer.base:
        return gold.number.value == answer.number.value
    if policy is BasePolicy.VALUE:
        return gold.number.value == answer.number.value
    if policy is BasePolicy.OPTIONAL and answer.base is None:
        return _digits_in(answer, gold.base) == gold.number.value
    return False


def _digits_in(answer: Quantity, base: str | None) -> int | None:
    try:
        return int(str(answer.number.value), int(base or 10))
    except ValueError:
        return None


def _equal_percents(gold: Quantity, answer: Quantity, policy: Policy) -> bool:
    if gold.is_percent == answer.is_percent:
        return equal_numbers(gold.number, answer.number, policy.min_rounded_digits)
    may_be_number = policy.percent in {PercentPolicy.EITHER, PercentPolicy.NUMBER}
    may_be_share = policy.percent in {PercentPolicy.EITHER, PercentPolicy.SHARE}
    digits = policy.min_rounded_digits
    return (may_be_number and equal_numbers(gold.number, answer.number, digits)) or (
        may_be_share and equal_numbers(_as_share(gold), _as_share(answer), digits)
    )


def _as_share(quantity: Quantity) -> Number:
    """`50%` as 0.5."""
    if not quantity.is_percent:
        return quantity.number
    decimals = None if quantity.number.decimals is None else quantity.number.decimals + 2
    return Number(quantity.number.value / 100, decimals)


def _equal_converted(gold: Quantity, answer: Quantity, min_digits: int | None) -> bool:
    is_comparable = equal_units(gold.unit or "", answer.unit or "")
    if is_comparable is None:
        return equal_numbers(gold.number, answer.number, min_digits)
    left, right = parse_unit(gold.unit or ""), parse_unit(answer.unit or "")
    if not is_comparable or left is None or right is None:
        return False
    if left.scale == right.scale:
        return equal_numbers(gold.number, answer.number, min_digits)
    return equal_numbers(gold.number, Number(answer.number.value * right.scale / left.scale), min_digits)
