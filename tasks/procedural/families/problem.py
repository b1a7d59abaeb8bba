"""The nouns of the small world: a problem, its solution, and the two styles in which a solution is told."""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from tasks.procedural.layout import render_response

Key = tuple[str | int, ...]
LETTERS = "ABCD"
_LAST_NUMBER = re.compile(r"\d+(?!.*\d)")


class FamilyName(StrEnum):
    """Every kind of question that this world knows; a fact is a multiple-choice stem asked without its options."""

    ARITHMETIC = "arithmetic"
    EQUATION = "equation"
    COMPARISON = "comparison"
    UNITS = "units"
    CODE = "code"
    FACT = "fact"
    MULTIPLE_CHOICE = "multiple_choice"
    INSTRUCTION = "instruction"
    CHAT = "chat"


class Style(StrEnum):
    """How a response is told: the answer at once, or with its steps in the think part."""

    DIRECT = "direct"
    STEPS = "step by step"


@dataclass(frozen=True, slots=True)
class Solution:
    """Steps and bare answer: a number, an option letter, source code or a reply, as the family has it."""

    family: FamilyName
    steps: tuple[str, ...]
    answer: str

    def answer_part(self) -> str:
        """The text inside `<answer>`: code in a fenced block, prose as it is, everything else in a box."""
        if self.family is FamilyName.CODE:
            return f"```python\n{self.answer}\n```"
        if self.family in (FamilyName.INSTRUCTION, FamilyName.CHAT):
            return self.answer
        return rf"\boxed{{{self.answer}}}"

    def render(self, style: Style) -> str:
        """The whole response text in the given style."""
        return render_response(self.steps if style is Style.STEPS else (), self.answer_part())

    def with_slip(self, rng: Random) -> "Solution":
        """The same solution with a mistake at its end; a chat reply has nothing to get wrong and stays."""
        if self.family is FamilyName.CHAT:
            return self
        if self.family is FamilyName.INSTRUCTION:
            return replace(self, answer="Well, I Would Rather Not")  # a comma and capitals, no keyword, title or quotes
        if self.family is FamilyName.CODE:
            return replace(self, answer=f"{self.answer.partition('return')[0]}return {rng.randint(1000, 9999)}")
        if self.answer in LETTERS:
            return replace(self, answer=rng.choice([letter for letter in LETTERS if letter != self.answer]))
        return self.ending_in(misread(int(self.answer), rng))

    def ending_in(self, number: str) -> "Solution":
        """The same steps told to end in another number."""
        return replace(self, steps=(*self.steps[:-1], _LAST_NUMBER.sub(number, self.steps[-1])), answer=number)


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its solution. `key` is equal for two wordings of one question and for them only."""

    text: str
    key: Key
    solution: Solution
    options: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    instruction_ids: tuple[str, ...] = ()
    kwargs: tuple[dict[str, object], ...] = ()
    history: tuple[str, ...] = ()
    """Earlier turns of a chat, the user's first."""

    @property
    def prompt(self) -> str:
        """The text as a model is asked it: options, where there are any, stand on lines of their own."""
        lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=False)]
        return "\n".join([self.text, *lines])


def misread(answer: int, rng: Random) -> str:
    """A wrong number near the right one, never negative."""
    offset = rng.randint(1, 9)
    return str(answer - offset if answer >= offset and rng.random() < 0.5 else answer + offset)


def numbers_in(text: str) -> tuple[int, ...]:
    """The numbers of a text in reading order."""
    return tuple(int(digits) for digits in re.findall(r"\d+", text))
