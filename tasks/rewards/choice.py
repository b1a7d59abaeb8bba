"""Multiple choice: which letter a response commits to. By text alone; the option's text counts as its letter."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from string import ascii_uppercase

from tasks.records import Outcome, Verdict
from tasks.rewards.math import boxed_answer
from tasks.rewards.math_text import normalise, without_text_marks
from tasks.rewards.verdicts import verdict

METHOD = "choice"
_LETTER = re.compile(r"^(?:option|choice|answer)?\s*[:\s]?\(?([A-Z])\)?(?:[.):,\s]|$)", re.IGNORECASE)
_BARE = re.compile(r"^\(?([A-Za-z])\)?[.:]?$")


def is_letter_of(answer: str | None, choices: Sequence[str]) -> bool:
    """Whether a gold answer names one of the options by its letter."""
    return answer is not None and len(answer) == 1 and answer in ascii_uppercase[: len(choices)]


def judge_choice(gold: str, choices: Sequence[str], response: str) -> Verdict:
    """Verdict on the letter, or the text of an option, in a response's last box."""
    started = time.perf_counter()
    answer = boxed_answer(response)
    if isinstance(answer, Verdict):
        return answer
    letter = letter_of(answer, choices)
    outcome = Outcome.EQUAL if letter == gold else Outcome.DIFFERENT if letter else Outcome.ANSWER_UNPARSEABLE
    return verdict(outcome, METHOD, extracted=answer, ms=(time.perf_counter() - started) * 1000)


def letter_of(answer: str, choices: Sequence[str]) -> str | None:
    """The letter of an answer such as `(B)`, `B. green` or `green`; None where it names no option.

    >>> letter_of("(B)", ["red", "green"]), letter_of("green", ["red", "green"]), letter_of("a green one", ["a", "b"])
    ('B', 'B', None)
    """
    letters = ascii_uppercase[: len(choices)]
    plain = without_text_marks(answer).replace("\\ ", " ").strip("$ ").strip()
    bare = _BARE.match(plain)
    if bare and bare[1].upper() in letters:
        return bare[1].upper()
    for letter, option in zip(letters, choices, strict=False):
        if normalise(option).lower() == normalise(plain).lower():
            return letter
    started = _LETTER.match(plain)
    rest = plain[started.end() :] if started else ""
    if started and started[1] in letters and _agrees(rest, choices[letters.index(started[1])]):
        return started[1]
    return None


def _agrees(rest: str, option: str) -> bool:
    """What follows the letter is nothing, or the option's own text."""
    return not rest.strip() or normalise(rest).lower() == normalise(option).lower()
