"""Chained arithmetic, the main family: "Start with 7, add 5, multiply by 2. What is the result?"."""

import re
from itertools import accumulate
from random import Random
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from infra.config import Config
from tasks.procedural.families.problem import FamilyName, Problem, Solution, numbers_in
from tasks.procedural.families.wording import canonical

Symbol = Literal["+", "-", "*"]
_VERBS: dict[Symbol, str] = {"+": "add", "-": "subtract", "*": "multiply by"}
_INFIXES: dict[Symbol, str] = {"+": "plus", "-": "minus", "*": "times"}
_SYMBOLS: dict[str, Symbol] = {word: symbol for words in (_VERBS, _INFIXES) for symbol, word in words.items()}
_MOVE = rf"(?:{'|'.join(_SYMBOLS)}) \d+"
_MOVES = re.compile(rf"({'|'.join(_SYMBOLS)}) (\d+)")
_QUESTIONS = (
    re.compile(rf"start with (\d+)((?:, {_MOVE})+)\. what is the result\?"),
    re.compile(rf"take (\d+)((?:\. {_MOVE})+)\. what do you get\?"),
    re.compile(rf"compute (\d+)((?:(?:, then)? {_MOVE})+)\."),
)
_MAX_TRIES = 1000


class ArithmeticRanges(Config):
    """Which chains are made; the solver reads any."""

    min_operations: int = Field(default=2, ge=1, description="Fewest operations of a chain")
    max_operations: int = Field(default=3, ge=1, description="Most operations of a chain")
    min_start: int = Field(default=2, ge=0, description="Smallest number to start with")
    max_start: int = Field(default=20, ge=0, description="Largest number to start with")
    min_term: int = Field(default=2, ge=0, description="Smallest number to add or subtract")
    max_term: int = Field(default=9, ge=0, description="Largest number to add or subtract")
    min_factor: int = Field(default=2, ge=0, description="Smallest number to multiply by")
    max_factor: int = Field(default=3, ge=0, description="Largest number to multiply by")
    max_value: int = Field(default=50, ge=1, lt=1000, description="Largest value on the way; none is negative")
    symbols: tuple[Symbol, ...] = Field(
        default=("+", "-", "+", "-", "*"),
        min_length=1,
        description="Operations to draw from; one named twice weighs twice",
    )

    def bounds_of(self, symbol: Symbol) -> tuple[int, int]:
        """Smallest and largest operand of an operation."""
        return (self.min_factor, self.max_factor) if symbol == "*" else (self.min_term, self.max_term)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("operations", "start", "term", "factor"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise ValueError(f"min_{name}={low} is above max_{name}={high}; swap them")
        return self


class _Move(NamedTuple):
    symbol: Symbol
    operand: int

    def apply(self, value: int) -> int:
        if self.symbol == "*":
            return value * self.operand
        return value + self.operand if self.symbol == "+" else value - self.operand


class _Chain(NamedTuple):
    start: int
    moves: tuple[_Move, ...]

    def values(self) -> tuple[int, ...]:
        return tuple(accumulate(self.moves, lambda value, move: move.apply(value), initial=self.start))

    def solution(self) -> Solution:
        values = self.values()
        steps = tuple(
            f"{before}{move.symbol}{move.operand}={after}"
            for before, move, after in zip(values, self.moves, values[1:], strict=False)
        )
        return Solution(FamilyName.ARITHMETIC, steps, str(values[-1]))

    def ask(self, template: int) -> str:
        verbs = [f"{_VERBS[move.symbol]} {move.operand}" for move in self.moves]
        if template == 0:
            return f"Start with {self.start}, {', '.join(verbs)}. What is the result?"
        if template == 1:
            return f"Take {self.start}. {'. '.join(verb.capitalize() for verb in verbs)}. What do you get?"
        infixes = [f"{_INFIXES[move.symbol]} {move.operand}" for move in self.moves]
        return f"Compute {self.start} {', then '.join(infixes)}."


def make(rng: Random, ranges: ArithmeticRanges) -> Problem:
    """Draw a chain and one of the phrasings."""
    value = start = rng.randint(ranges.min_start, ranges.max_start)
    moves: list[_Move] = []
    for _ in range(rng.randint(ranges.min_operations, ranges.max_operations)):
        moves.append(_draw_move(rng, ranges, value))
        value = moves[-1].apply(value)
    return of_text(_Chain(start, tuple(moves)).ask(rng.randrange(len(_QUESTIONS))))


def of_text(text: str) -> Problem:
    """The problem that a question of this family states.

    The numbers alone are its key: two chains never share them, so that "add 5, subtract 2" has no
    "subtract 5, add 2" beside it, which a reader of words only would take for a rewording.
    """
    solution = solve(text)
    if solution is None:
        raise ValueError(f"not a chained-arithmetic question: {text!r}; use one of the phrasings of this family")
    return Problem(text=text, key=(FamilyName.ARITHMETIC, *numbers_in(text)), solution=solution)


def solve(text: str) -> Solution | None:
    """Read a chain from its text; None when the text is no complete question of this family."""
    chain = _read(text)
    return None if chain is None else chain.solution()


def make_twin(problem: Problem, rng: Random, ranges: ArithmeticRanges) -> Problem:
    """The same sentence with one number drawn anew, within the ranges."""
    for _ in range(_MAX_TRIES):
        position = rng.randrange(len(problem.key) - 1)
        text = _replace_number(problem.text, position, rng.randint(*_bounds(problem.text, position, ranges)))
        chain = _read(text)
        if chain and text != problem.text and all(0 <= value <= ranges.max_value for value in chain.values()):
            return of_text(text)
    raise ValueError(f"no other number fits into {problem.text!r}; widen the arithmetic ranges")


def _read(text: str) -> _Chain | None:
    plain = canonical(text)
    for question in _QUESTIONS:
        if found := question.fullmatch(plain):
            moves = tuple(_Move(_SYMBOLS[word], int(operand)) for word, operand in _MOVES.findall(found[2]))
            return _Chain(int(found[1]), moves)
    return None


def _replace_number(text: str, position: int, number: int) -> str:
    found = list(re.finditer(r"\d+", text))[position]
    return f"{text[: found.start()]}{number}{text[found.end() :]}"


def _bounds(text: str, position: int, ranges: ArithmeticRanges) -> tuple[int, int]:
    if position == 0:
        return ranges.min_start, ranges.max_start
    word = _MOVES.findall(canonical(text))[position - 1][0]
    return ranges.bounds_of(_SYMBOLS[word])


def _draw_move(rng: Random, ranges: ArithmeticRanges, value: int) -> _Move:
    for _ in range(_MAX_TRIES):
        symbol = rng.choice(ranges.symbols)
        move = _Move(symbol, rng.randint(*ranges.bounds_of(symbol)))
        if 0 <= move.apply(value) <= ranges.max_value:
            return move
    raise ValueError(f"no operation keeps {value} within 0..{ranges.max_value}; raise max_value or lower min_term")
