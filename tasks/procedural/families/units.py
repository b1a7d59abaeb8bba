"""Unit conversions to a smaller unit: "Convert 3 hours to minutes."."""

import re
from random import Random
from typing import NamedTuple

from pydantic import Field

from infra.config import Config
from tasks.procedural.families.problem import FamilyName, Problem, Solution
from tasks.procedural.families.wording import canonical


class _Pair(NamedTuple):
    large: str
    small: str


_FACTORS = {
    _Pair("hours", "minutes"): 60,
    _Pair("minutes", "seconds"): 60,
    _Pair("days", "hours"): 24,
    _Pair("weeks", "days"): 7,
    _Pair("years", "months"): 12,
    _Pair("feet", "inches"): 12,
    _Pair("yards", "feet"): 3,
    _Pair("meters", "centimeters"): 100,
}
_QUESTIONS = (
    re.compile(r"convert (?P<amount>\d+) (?P<large>\w+) to (?P<small>\w+)\."),
    re.compile(r"how many (?P<small>\w+) are in (?P<amount>\d+) (?P<large>\w+)\?"),
)


class UnitRanges(Config):
    """Which conversions are made."""

    max_amount: int = Field(default=60, ge=3, description="Largest amount to convert; the smallest is 2")


def make(rng: Random, ranges: UnitRanges) -> Problem:
    """Draw an amount, a pair of units and one of the phrasings."""
    amount, pair = rng.randint(2, ranges.max_amount), rng.choice(tuple(_FACTORS))
    large, small = pair
    text = rng.choice((f"Convert {amount} {large} to {small}.", f"How many {small} are in {amount} {large}?"))
    return Problem(text, (FamilyName.UNITS, amount, large, small), _solution(amount, _FACTORS[pair]))


def solve(text: str) -> Solution | None:
    """Read a conversion from its text; None when there is none, or the units do not belong together."""
    plain = canonical(text)
    for question in _QUESTIONS:
        if found := question.fullmatch(plain):
            factor = _FACTORS.get(_Pair(found["large"], found["small"]))
            return None if factor is None else _solution(int(found["amount"]), factor)
    return None


def _solution(amount: int, factor: int) -> Solution:
    product = amount * factor
    return Solution(FamilyName.UNITS, (f"{amount}*{factor}={product}",), str(product))
