r"""Which text of a response is its answer: its boxes, and where a config allows it, what stands for one.

The order is fixed: a box; `#### N`; "the answer is …"; the last number. The first that is there decides, and the
verdict's method names it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tasks.rewards.extract import answer_part, boxes, last_label
from tasks.rewards.math_guard import clean
from tasks.rewards.math_policy import BoxPolicy, Fallback

# Bounded gaps: a long text of near misses costs no more than its length.
_PHRASE = re.compile(
    r"\b(?:answer|result)(?: to (?:the|this) (?:question|problem))?[*_]{0,2} ?"
    r"(?:(?:is|equals|would be)(?: therefore| thus| simply)?:?|[:=])[*_]{0,2} *",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.;!?](?=\s|$)|,? (?:because|since|so|as|which|where)\b")
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?(?:\s?\\?%)?|-?\\[dt]?frac\{-?\d+\}\{\d+\}")


class Answers(NamedTuple):
    """What is judged. `found_by` is empty for boxes; `missing` says why there is nothing."""

    texts: list[str]
    found_by: str = ""
    missing: str = ""


def find_answers(response: str, policy: BoxPolicy, fallbacks: Sequence[Fallback] = ()) -> Answers:
    """The answers of a response to be judged: one, or every box where the policy looks at all."""
    part = answer_part(response)
    if part is None:
        return Answers([], missing="thinking never ends")
    found = [clean(box) for box in boxes(part)]
    if found:
        return Answers(found[-1:] if policy is BoxPolicy.LAST else list(dict.fromkeys(found)))
    for fallback in Fallback:
        text = _FINDERS[fallback](part) if fallback in fallbacks else None
        if text:
            return Answers([clean(text)], found_by=str(fallback))
    return Answers([], missing="no box in the answer part, nor what may stand for one")


def phrased_answer(text: str) -> str | None:
    """What the last "the answer is …" says, up to the end of its sentence.

    >>> phrased_answer("So the final answer is **12**. Checked."), phrased_answer("Answer: x = 3, because it is.")
    ('12', 'x = 3')
    """
    starts = [found.end() for found in _PHRASE.finditer(text)]
    if not starts:
        return None
    phrase = text[starts[-1] :].partition("\n")[0]
    end = _SENTENCE_END.search(phrase)
    return (phrase[: end.start()] if end else phrase).strip(" *_$.:") or None


def last_number(text: str) -> str | None:
    """The last number of a text.

    >>> last_number("Of 1,250 there remain -3/4.")
    '-3/4'
    """
    found = _NUMBER.findall(text)
    return str(found[-1]) if found else None


_FINDERS = {Fallback.LABEL: last_label, Fallback.PHRASE: phrased_answer, Fallback.NUMBER: last_number}
