"""Small code tasks with tests, as MBPP has them: "Write a function plus_7(x) that returns x plus 7."."""

import re
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tasks.procedural.families.problem import FamilyName, Problem, Solution
from tasks.procedural.families.wording import canonical


class _Kind(NamedTuple):
    asks: str
    expression: str
    apply: Callable[[int, int], int | bool]


_KINDS = {
    "plus": _Kind("returns x plus {}", "x + {}", lambda x, k: x + k),
    "minus": _Kind("takes {} away from x", "x - {}", lambda x, k: x - k),
    "times": _Kind("multiplies x by {}", "x * {}", lambda x, k: x * k),
    "parts": _Kind("gives the whole part of x divided by {}", "x // {}", lambda x, k: x // k),
    "rest": _Kind("gives what is left of x after dividing by {}", "x % {}", lambda x, k: x % k),
    "most": _Kind("picks the larger one of x and {}", "max(x, {})", max),
    "least": _Kind("picks the smaller one of x and {}", "min(x, {})", min),
    "above": _Kind("tells whether x is above {}", "x > {}", lambda x, k: x > k),
}
# Read to the first full stop: an adapter may put the tests below the question, as MBPP's own prompt does.
_QUESTION = re.compile(r"write a function ([a-z]+)_(\d+)\(x\) that ([^.]+)\.")
MAX_NUMBER = 60
NUM_TESTS = 3


def make(rng: Random) -> Problem:
    """Draw a kind of function and its number; the tests try three different arguments."""
    name, number = rng.choice(tuple(_KINDS)), rng.randint(2, MAX_NUMBER)
    text = f"Write a function {name}_{number}(x) that {_KINDS[name].asks.format(number)}."
    arguments = rng.sample(range(1, 100), NUM_TESTS)
    tests = tuple(f"assert {name}_{number}({x}) == {_KINDS[name].apply(x, number)}" for x in arguments)
    return Problem(text, (FamilyName.CODE, name, number), _solution(name, number), tests=tests)


def solve(text: str) -> Solution | None:
    """Read a code task from its text; None when there is none, or name and wish contradict each other."""
    found = _QUESTION.match(canonical(text))
    if found is None or found[1] not in _KINDS:
        return None
    name, number = found[1], int(found[2])
    return _solution(name, number) if found[3] == canonical(_KINDS[name].asks.format(number)) else None


def _solution(name: str, number: int) -> Solution:
    expression = _KINDS[name].expression.format(number)
    code = f"def {name}_{number}(x):\n    return {expression}"
    return Solution(FamilyName.CODE, (f"the value is {expression}",), code)
