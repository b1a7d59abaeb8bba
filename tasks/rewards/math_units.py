r"""Quantities: an exact number with a unit, a percent sign or a base. `5 cm` is not `5 m`, nor `1011_2` `1011`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from tasks.rewards.math_number import NotExactError, Number, equal_numbers, parse_number
from tasks.rewards.math_text import without_text_marks

_BASE = re.compile(r"^\(?(-?[0-9A-Fa-f]+)\)?_\{?(\w+)\}?$")
_PERCENT = re.compile(r"^(.*?) ?(?:\\?%|percent)$")
_MARKED_UNIT = re.compile(r"^(.*[\d})!]) ?\\(?:text|mathrm|rm|mbox|textrm)\{ *([^{}]*?) *\}(\^\{?[-\d]+\}?)?$")
_PLAIN_UNIT = re.compile(r"^(.*[\d})!]) ?((?:[a-zA-Z]+[ /]?)+)(\^\{?[-\d]+\}?)?$")
_DEGREES = re.compile(r"^(.*[\d})]) ?\^\{?\\circ\}?(?: ?\\(?:text|mathrm)\{ *([CF]) *\}| ?([CF]))?$")
_ENDINGS = re.compile(r"(?<=[a-z]{3})(?<!ss)s$")

# Unit → (dimension, how many of the dimension's base unit). Units of equal dimension are converted.
_SCALES: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(scale))
    for dimension, names in {
        "length": {"mm": "1/1000", "cm": "1/100", "dm": "1/10", "m": "1", "km": "1000"},
        "mass": {"mg": "1/1000", "g": "1", "kg": "1000"},
        "time": {"ms": "1/1000", "s": "1", "min": "60", "h": "3600"},
        "volume": {"ml": "1/1000", "l": "1"},
        "money": {"cent": "1/100", "dollar": "1"},
    }.items()
    for name, scale in names.items()
}
_SAME = {
    "millimeter": "mm", "centimeter": "cm", "meter": "m", "metre": "m", "kilometer": "km", "gram": "g",
    "kilogram": "kg", "second": "s", "sec": "s", "minute": "min", "hour": "h", "hr": "h", "liter": "l",
    "litre": "l", "milliliter": "ml", "mL": "ml", "L": "l", "degree": "degree", "deg": "degree",
    "inches": "inch", "feet": "foot", "ft": "foot",
}  # fmt: skip
_NO_UNIT = frozenset({"unit", "square unit", "cubic unit", "sq unit", "units squared"})
_OTHERS = (
    "inch", "foot", "yard", "mile", "day", "week", "month", "year", "pound", "ounce", "mph", "rad", "radian", "N", "J",
    "W", "V", "A", "K", "C", "F", "Hz", "Pa", "mol", "eV", "people", "student", "book", "way", "coin", "apple", "point",
    "unit", "square", "cubic",
)  # fmt: skip
_KNOWN = frozenset({*_SCALES, *_SAME, *_SAME.values(), *_OTHERS})


class Quantity(NamedTuple):
    """A number as it was answered. `unit` None: none was named. `base` None: ten."""

    number: Number
    unit: str | None = None
    is_percent: bool = False
    base: str | None = None


def parse_quantity(text: str) -> Quantity:
    """Read a normalised answer.

    Raises:
        NotExactError: it is no exact number with at most a unit, a percent sign or a base.
        TooLargeError: the number is too large to build.
    """
    based = _BASE.match(without_text_marks(text))
    if based:
        return Quantity(Number(Fraction(int(based[1], 16))), base=based[2])
    text = text.removesuffix(r"\dollar").strip()
    if text.startswith(r"\dollar"):
        return Quantity(parse_number(text.removeprefix(r"\dollar").strip()), unit="dollar")
    percent = _PERCENT.match(without_text_marks(text) if "percent" in text else text)
    if percent:
        return Quantity(parse_number(percent[1]), is_percent=True)
    degrees = _DEGREES.match(text)
    if degrees:
        scale = degrees[2] or degrees[3]
        return Quantity(parse_number(degrees[1]), unit=f"degree {scale}" if scale else "degree")
    try:
        return Quantity(parse_number(text))
    except NotExactError:
        return _with_unit(text)


def _with_unit(text: str) -> Quantity:
    marked = _MARKED_UNIT.match(text)
    if marked:
        return Quantity(parse_number(marked[1]), unit=_unit(marked[2], marked[3]))
    plain = _PLAIN_UNIT.match(text)
    if plain and _is_known(plain[2]):
        return Quantity(parse_number(plain[1]), unit=_unit(plain[2], plain[3]))
    raise NotExactError(text)


def _is_known(words: str) -> bool:
    return all(_singular(word) in _KNOWN for word in re.split(r"[ /]", words.strip()) if word != "per")


def _singular(word: str) -> str:
    word = _ENDINGS.sub("", word)
    return _SAME.get(word, word)


def _unit(words: str, exponent: str | None) -> str | None:
    parts = [_singular(word) for word in re.split(r"[ /]", words.replace(".", "").strip()) if word not in {"", "per"}]
    unit = " ".join(parts)
    if exponent:
        unit += re.sub(r"[{}]", "", exponent)
    if len(parts) == 2 and parts[0] in {"square", "sq", "cubic"} and unit not in _NO_UNIT:
        unit = f"{parts[1]}^{'3' if parts[0] == 'cubic' else '2'}"
    return None if unit in _NO_UNIT or not unit or unit.startswith("unit^") else unit


def equal_quantities(gold: Quantity, answer: Quantity, min_digits: int) -> bool:
    """Equal in value, unit and base. A unit or percent sign that one side leaves out is taken from the other."""
    if gold.base != answer.base:
        return False
    if gold.is_percent or answer.is_percent:
        return _equal_percents(gold, answer, min_digits)
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return _equal_converted(gold, answer, min_digits)
    return equal_numbers(gold.number, answer.number, min_digits)


def _equal_percents(gold: Quantity, answer: Quantity, min_digits: int) -> bool:
    if equal_numbers(gold.number, answer.number, min_digits):
        return True
    return gold.is_percent != answer.is_percent and equal_numbers(_as_share(gold), _as_share(answer), min_digits)


def _as_share(quantity: Quantity) -> Number:
    """`50%` as 0.5."""
    if not quantity.is_percent:
        return quantity.number
    decimals = None if quantity.number.decimals is None else quantity.number.decimals + 2
    return Number(quantity.number.value / 100, decimals)


def _equal_converted(gold: Quantity, answer: Quantity, min_digits: int) -> bool:
    scales = [_SCALES.get(quantity.unit or "") for quantity in (gold, answer)]
    if scales[0] is None or scales[1] is None or scales[0][0] != scales[1][0]:
        return False
    factor = scales[1][1] / scales[0][1]
    return equal_numbers(gold.number, Number(answer.number.value * factor), min_digits)
