"""The answer in a response, and the comparison of two answers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from infra.output import Output
from infra.runtime import Runtime
from tasks.records import Query
from tasks.rewards.extract import final_answer
from tasks.rewards.rewarder import RewardConfig, open_rewarder
from tasks.verify.votes import Comparisons

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WRAP = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}|[$\\]")
_MARKED = re.compile(r"\(?([A-Z])(?:[.:)]\s*.*)?", re.DOTALL)


def answer_of(query: Query, text: str) -> str | None:
    """What a response to a labelled query answers; the option's letter where it is multiple choice. None: no answer."""
    answer = final_answer(text)
    if answer is None or not answer.strip():
        return None
    return choice_letter(answer, query.choices) if query.choices else answer


def choice_letter(answer: str, choices: Sequence[str]) -> str | None:
    """Letter of the option that an answer names: `B`, `(B)`, `B. 7`, or the option's own text. None: no option.

    Where the text of one option is the letter of another, the letter wins: letters are what the prompt asks for.
    """
    plain = _WRAP.sub(lambda found: found[1] or "", answer).strip()
    letters = _LETTERS[: len(choices)]
    marked = _MARKED.fullmatch(plain)
    if marked is not None and marked[1] in letters:
        return marked[1]
    same = [letter for letter, choice in zip(letters, choices, strict=True) if _squeezed(choice) == _squeezed(plain)]
    return same[0] if len(same) == 1 else None


def _squeezed(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")


def open_comparisons(rewards: RewardConfig, out: Output, runtime: Runtime) -> Comparisons:
    """Comparisons by the verifier that also judges responses."""
    raise NotImplementedError
