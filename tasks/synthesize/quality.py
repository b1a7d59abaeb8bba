"""Rules on the form of a response: both parts complete, and no string over and over. Pure functions of the text."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

from tasks.synthesize.config import RepetitionRule

_TOKEN = re.compile(r"\w+|[^\w\s]")
# A chat template may open the think part itself, so that the response starts inside of it.
_THINK = re.compile(r"\s*(?:<think>)?(.*?)</think>(.*)\Z", re.DOTALL)
_ANSWER = re.compile(r"\s*<answer>(.*)</answer>\s*\Z", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")


class Parts(NamedTuple):
    """The two parts of a response; thinking may be empty, the answer is not."""

    thinking: str
    answer: str


def complete_parts(text: str) -> Parts | None:
    """Think and answer part of a response, or None unless both are there and closed, once each, in this order.

    An answer part without `<answer>` tags is complete too: that is how R1 writes.
    """
    thought = _THINK.match(text)
    if thought is None:
        return None
    tagged = _ANSWER.match(thought[2])
    parts = Parts(thought[1].strip(), (tagged[1] if tagged else thought[2]).strip())
    return None if not parts.answer or any(_TAG.search(part) for part in parts) else parts


def is_repetitive(text: str, rule: RepetitionRule) -> bool:
    """Does one string of `num_tokens` tokens occur more than `max_times` times?

    Occurrences that overlap count once, so that a long row of dashes is judged by its length, not by its phase.
    """
    tokens = _TOKEN.findall(text)
    if len(tokens) < rule.num_tokens * (rule.max_times + 1):
        return False
    times: defaultdict[tuple[str, ...], int] = defaultdict(int)
    free_from: defaultdict[tuple[str, ...], int] = defaultdict(int)
    for start in range(len(tokens) - rule.num_tokens + 1):
        window = tuple(tokens[start : start + rule.num_tokens])
        if start >= free_from[window]:
            free_from[window] = start + rule.num_tokens
            times[window] += 1
            if times[window] > rule.max_times:
                return True
    return False
