"""Comparisons of two numbers: "Which is larger, 37 or 52?"."""

import re
from random import Random

from pydantic import Field

from infra.config import Config
from tasks.procedural.families.problem import FamilyName, Problem, Solution
from tasks.procedural.families.wording import canonical

_QUESTIONS = (
    re.compile(r"which is (?P<side>larger|smaller), (?P<left>\d+) or (?P<right>\d+)\?"),
    re.compile(r"which of (?P<left>\d+) and (?P<right>\d+) is (?P<side>larger|smaller)\?"),
)


class ComparisonRanges(Config):
    """Which comparisons are made."""

    max_number: int = Field(default=99, ge=30, le=9999, description="Largest number to compare; the smallest is 1")


def make(rng: Random, ranges: ComparisonRanges) -> Problem:
    """Draw two different numbers, a side and one of the phrasings."""
    left, right = rng.sample(range(1, ranges.max_number + 1), 2)
    side = rng.choice(("larger", "smaller"))
    text = rng.choice((f"Which is {side}, {left} or {right}?", f"Which of {left} and {right} is {side}?"))
    return Problem(text, (FamilyName.COMPARISON, min(left, right), max(left, right)), _solution(side, left, right))


def solve(text: str) -> Solution | None:
    """Read a comparison from its text; None when there is none, or the numbers are equal."""
    plain = canonical(text)
    for question in _QUESTIONS:
        if found := question.fullmatch(plain):
            left, right = int(found["left"]), int(found["right"])
            return _solution(found["side"], left, right) if left != right else None
    return None


def _solution(side: str, left: int, right: int) -> Solution:
    small, large = sorted((left, right))
    if side == "larger":
        return Solution(FamilyName.COMPARISON, (f"{small}<{large}",), str(large))
    return Solution(FamilyName.COMPARISON, (f"{large}>{small}",), str(small))
