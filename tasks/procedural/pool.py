"""A pool of problems that never gives the same question twice, in whatever wording."""

from collections.abc import Callable, Mapping
from random import Random

from tasks.procedural.config import MathRanges
from tasks.procedural.families import (
    arithmetic,
    chat,
    code,
    comparison,
    equation,
    instruction,
    multiple_choice,
    units,
)
from tasks.procedural.families.problem import FamilyName, Key, Problem

_MAX_TRIES = 5000
_MAX_TWIN_TRIES = 100


class ProblemPool:
    """Draws problems by family; every key is given out once, to the benchmarks or to the training rows."""

    def __init__(self, rng: Random, ranges: MathRanges) -> None:
        self._rng = rng
        self._arithmetic = ranges.arithmetic
        self._seen: set[Key] = set()
        self._makers: Mapping[FamilyName, Callable[[], Problem]] = {
            FamilyName.ARITHMETIC: lambda: arithmetic.make(rng, ranges.arithmetic),
            FamilyName.EQUATION: lambda: equation.make(rng, ranges.equation),
            FamilyName.COMPARISON: lambda: comparison.make(rng, ranges.comparison),
            FamilyName.UNITS: lambda: units.make(rng, ranges.units),
            FamilyName.CODE: lambda: code.make(rng),
            FamilyName.MULTIPLE_CHOICE: lambda: multiple_choice.make(rng),
            FamilyName.INSTRUCTION: lambda: instruction.make(rng),
            FamilyName.CHAT: lambda: chat.make(rng),
        }

    def draw(self, family: FamilyName) -> Problem:
        """A problem that was not drawn before; ValueError when the family's ranges hold no more."""
        for _ in range(_MAX_TRIES):
            problem = self._makers[family]()
            if self._claim(problem.key):
                return problem
        raise ValueError(f"no new {family} question in {_MAX_TRIES} draws; widen its ranges or ask for fewer rows")

    def draw_many(self, family: FamilyName, number: int) -> list[Problem]:
        """Several different problems of one family."""
        return [self.draw(family) for _ in range(number)]

    def draw_twin(self, problem: Problem) -> Problem | None:
        """A new chain in the words of another, with one other number; None when none is left."""
        for _ in range(_MAX_TWIN_TRIES):
            twin = arithmetic.make_twin(problem, self._rng, self._arithmetic)
            if self._claim(twin.key):
                return twin
        return None

    def _claim(self, key: Key) -> bool:
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new
