"""Cut a response into thinking and answer, and an answer part into the answer that is judged."""

from __future__ import annotations

import re
from typing import NamedTuple

OPEN_THINK, CLOSE_THINK = "<think>", "</think>"
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_LABEL = re.compile(r"####\s*(.+?)\s*$", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
# Spellings of a Python fence; a bare fence counts when no fence names the language.
PYTHON_FENCES = frozenset({"python", "python3", "py", "py3"})


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
    tagged = _ANSWER.findall(answer)
    return (tagged[-1] if tagged else answer).strip()


def last_box(text: str) -> str | None:
    r"""Content of the last complete `\boxed{…}`, found by matching braces; `\boxed 7` holds one token.

    >>> last_box(r"\boxed{1} so \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
    """
    for found in reversed(list(_BOX.finditer(text))):
        content = _braced(text, found.end())
        if content is not None:
            return content.strip()
    return None


def _braced(text: str, start: int) -> str | None:
    if not text.startswith("{", start):
        token = re.match(r"[^\s{}$.,;]+", text[start:])
        return token[0] if token else None
    depth, is_escaped = 0, False
    for index in range(start, len(text)):
        if is_escaped:
            is_escaped = False
            continue
        is_escaped = text[index] == "\\"
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return text[start + 1 : index]
    return None


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
    labels = _LABEL.findall(text)
    return str(labels[-1]) if labels else None


def last_code_block(text: str) -> str | None:
    """The last Python fence of an answer part; where no fence says Python, the last bare one."""
    blocks = [(language.lower(), code) for language, code in _FENCE.findall(text.replace("\r\n", "\n"))]
    for wanted in (PYTHON_FENCES, frozenset({""})):
        matching = [code for language, code in blocks if language in wanted]
        if matching:
            return str(matching[-1])
    return None
