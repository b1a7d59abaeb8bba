"""Linear equations with a whole, non-negative solution: "Solve for x: 3x + 4 = 19."."""

import re
from random import Random

from pydantic import Field

from infra.config import Config
from tasks.procedural.families.problem import FamilyName, Problem, Solution, numbers_in
from tasks.procedural.families.wording import canonical

_TEMPLATES = ("Solve for x: {}.", "Find x if {}.", "Let {}. What is x?")
_EQUATION = r"(\d+)x ([+-]) (\d+) = (\d+)"
_QUESTIONS = (
    re.compile(rf"solve for x: {_EQUATION}\."),
    re.compile(rf"find x if {_EQUATION}\."),
    re.compile(rf"let {_EQUATION}\. what is x\?"),
)


class EquationRanges(Config):
    """Which equations are made; the solver reads any of the form ax + b = c or ax - b = c."""

    max_coefficient: int = Field(default=5, ge=2, description="Largest factor of x; the smallest is 2")
    max_constant: int = Field(default=9, ge=1, description="Largest number added to or taken from the product")
    max_solution: int = Field(default=9, ge=1, description="Largest x; the smallest is 1")


def make(rng: Random, ranges: EquationRanges) -> Problem:
    """Draw an equation backwards from its solution, and one of the phrasings."""
    coefficient, x = rng.randint(2, ranges.max_coefficient), rng.randint(1, ranges.max_solution)
    product = coefficient * x
    sign = rng.choice("+-")
    constant = rng.randint(1, ranges.max_constant if sign == "+" else min(ranges.max_constant, product))
    right = product + constant if sign == "+" else product - constant
    text = rng.choice(_TEMPLATES).format(f"{coefficient}x {sign} {constant} = {right}")
    return Problem(text, (FamilyName.EQUATION, *numbers_in(text)), _solution(coefficient, sign, constant, right))


def solve(text: str) -> Solution | None:
    """Read an equation from its text; None when there is none, or no whole non-negative solution."""
    plain = canonical(text)
    for question in _QUESTIONS:
        if found := question.fullmatch(plain):
            coefficient, constant, right = int(found[1]), int(found[3]), int(found[4])
            product = right - constant if found[2] == "+" else right + constant
            whole = coefficient > 0 and product >= 0 and product % coefficient == 0
            return _solution(coefficient, found[2], constant, right) if whole else None
    return None


def _solution(coefficient: int, sign: str, constant: int, right: int) -> Solution:
    inverse, product = ("-", right - constant) if sign == "+" else ("+", right + constant)
    x = product // coefficient
    steps = (f"{right}{inverse}{constant}={product}", f"{product}/{coefficient}={x}")
    return Solution(FamilyName.EQUATION, steps, str(x))
