"""The oracle of the small world: what is the right answer to this text?"""

from functools import lru_cache

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
from tasks.procedural.families.problem import Solution

_SOLVERS = (
    arithmetic.solve,
    equation.solve,
    comparison.solve,
    units.solve,
    code.solve,
    multiple_choice.solve,
    multiple_choice.solve_fact,
    instruction.solve,
    chat.solve,
)


@lru_cache(maxsize=65536)
def solve(text: str) -> Solution | None:
    """Solve a question from its text alone; None when no family reads it as a complete question."""
    for solve_family in _SOLVERS:
        if solution := solve_family(text):
            return solution
    return None
