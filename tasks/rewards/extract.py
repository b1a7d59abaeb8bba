"""Cut a response into thinking and answer, and an answer part into the answer that is judged."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

OPEN_THINK, CLOSE_THINK = "<think>", "</think>"
OPEN_ANSWER, CLOSE_ANSWER = "<answer>", "</answer>"
# A box's opening, an escaped character, or a brace. A doubled backslash is what quoting makes of one.
_MARK = re.compile(r"\\(?P<box>boxed|fbox)(?![a-zA-Z])\s*(?P<brace>\{)?|\\(?!\\(?:boxed|fbox)).|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"[^\s{}$.,;]+")
_LABEL = re.compile(r"####\s*(\S[^\n]*)")


class Parts(NamedTuple):
    """A response cut in two. `answer` is None where thinking never ended: such a response has no answer."""

    thinking: str | None
    answer: str | None


def split_thinking(text: str) -> Parts:
    """Cut at the last `</think>`; text without any think tag is all answer.

    A chat template may have opened the thinking in the prompt, so a closing tag alone also ends it.
    """
    thinking, closing, answer = text.rpartition(CLOSE_THINK)
    if not closing:
        return Parts(None, None if OPEN_THINK in text else text)
    if OPEN_THINK in answer:  # thinking was opened again, and not closed
        return Parts(thinking, None)
    return Parts(thinking.removeprefix(OPEN_THINK), answer)


def answer_part(text: str) -> str | None:
    """What a response says after thinking, inside its last `<answer>` tags when it has some; None: no answer."""
    answer = split_thinking(text).answer
    if answer is None:
        return None
    end = answer.rfind(CLOSE_ANSWER)
    start = answer.rfind(OPEN_ANSWER, 0, end) if end >= 0 else -1
    return (answer[start + len(OPEN_ANSWER) : end] if start >= 0 else answer).strip()


def boxes(text: str) -> list[str]:
    r"""Contents of the complete `\boxed{…}`, by matching braces, in order; of nested ones the innermost.

    One pass: a hostile text of thousands of boxes that never close takes no longer than another of its length.

    >>> boxes(r"\boxed{1} so \boxed{\frac{1}{2}} or \boxed 7.")
    ['1', '\\frac{1}{2}', '7']
    """
    found: list[_Box] = []
    opened: list[int] = []  # where each brace's content starts; -1: no box
    for mark in _MARK.finditer(text):
        if mark["box"]:
            bare = None if mark["brace"] else _BARE_BOX.match(text, mark.end())
            if mark["brace"]:
                opened.append(mark.end())
            elif bare:
                found.append(_Box(bare.start(), bare.end()))
        elif mark[0] == "{":
            opened.append(-1)
        elif mark[0] == "}" and opened and (start := opened.pop()) >= 0:
            found.append(_Box(start, mark.start()))
    return [text[box.start : box.end].strip() for box in _innermost(found)]


class _Box(NamedTuple):
    start: int
    end: int


def _innermost(found: list[_Box]) -> list[_Box]:
    ordered = sorted(found)
    return [box for box, after in pairwise(ordered) if after.start > box.end] + ordered[-1:]


def last_box(text: str) -> str | None:
    r"""Content of the last complete `\boxed{…}`; `\boxed 7` holds one token. None: there is none.

    >>> last_box(r"\boxed{1} so \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
    """
    found = boxes(text)
    return found[-1] if found else None


def final_answer(text: str) -> str | None:
    r"""The answer that a response to a math or science query commits to: its last box in the answer part."""
    answer = answer_part(text)
    return None if answer is None else last_box(answer)


def label_answer(text: str) -> str | None:
    """The answer of a *label text* (a source's own solution): its last box, otherwise GSM8K's last `#### N`.

    Never for responses: what counts as their answer is what the prompt asks for, a box.
    """
    boxed = last_box(text)
    if boxed is not None:
        return boxed
    return last_label(text)


def last_label(text: str) -> str | None:
    """GSM8K's last `#### N`."""
    labels = _LABEL.findall(text)
    return str(labels[-1]).strip() if labels else None
