"""Whether two texts ask the same, word by word. The template trap is here: other numbers or signs, another question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tasks.filter.text import (
    bears_meaning,
    code_words,
    normalise,
    overlap,
    signature,
    simplify,
    stem,
    words,
)
from tasks.records import Domain, Query

# Answers that say so little that two different questions share them.
POOR_ANSWERS = frozenset({"yes", "no", "true", "false", "a", "b", "c", "d", "e"})
_FILLERS = frozenset(
    ["a", "an", "the", "please", "kindly", "now", "just", "hello", "hi", "hey", "dear", "ok", "okay", "thanks"]
)
_SENTENCE_MARKS = frozenset(".,:;!?\"'`“”„«»")
_SHAPE = re.compile(r"[()\[\]]|\d+|[-+*/^=<>|]")
_GAP = "\x1f"


class NearText(NamedTuple):
    """What is compared of a query. Words are one string, so that millions of texts fit into memory."""

    is_code: bool
    words: str  # of the whole dialog
    stem: str  # words of the bare question; empty: those of the dialog
    shape: str  # brackets among numbers and signs: `(x + y) * z` is not `x + (y * z)`
    answer: str


class Likeness(NamedTuple):
    """How like two texts are."""

    score: float  # Jaccard overlap of their words
    num_changed: int  # words that differ beside fillers and misspellings; of a rewording it says nothing
    is_rewording: bool


def near_text(query: Query) -> NearText:
    """The words of a query, ready to be compared."""
    texts = [message.content for message in query.messages]
    is_code = query.domain is Domain.CODE
    if is_code:
        tokens = code_words("\n\n".join(texts))
        return NearText(True, _GAP.join(tokens), "", "", normalise(query.answer or ""))
    tokens = words("\n\n".join(texts))
    bare = _GAP.join(words(stem(query))) if stem(query) != query.prompt else ""
    shape = "".join(_SHAPE.findall(simplify("\n\n".join(texts))))
    return NearText(False, _GAP.join(tokens), bare, shape, normalise(query.answer or ""))


def can_be_reworded(query: Query) -> bool:
    """Whether an equal answer says that two questions are one."""
    answer = (query.answer or "").strip().lower()
    is_plain = not query.choices and query.domain is not Domain.CODE and len(query.messages) == 1
    return is_plain and bool(answer) and answer not in POOR_ANSWERS


def liken(first: NearText, second: NearText, may_reword: bool) -> Likeness | None:
    """How like two texts are; None: they ask different things.

    Two rewordings share all numbers and operators in order and a telling answer; hence "how many has Tom" and "how many
    has Ann" about one story stay apart. Without such an answer, every word has to be there, in order, up to fillers
    and misspellings.
    """
    if first.answer and second.answer and first.answer != second.answer:
        return None
    if may_reword and first.answer:
        ours, theirs = _split(first.stem or first.words), _split(second.stem or second.words)
        order = signature(ours)
        if order and order == signature(theirs):
            return Likeness(overlap(frozenset(ours), frozenset(theirs)), 0, True)
    if first.shape != second.shape:
        return None
    ours, theirs = _split(first.words), _split(second.words)
    num_changed = count_changes(ours, theirs, first.is_code)
    return None if num_changed is None else Likeness(overlap(frozenset(ours), frozenset(theirs)), num_changed, False)


def count_changes(first: Sequence[str], second: Sequence[str], is_code: bool = False) -> int | None:
    """Words that one text has and the other lacks or has elsewhere; None: a number, sign or operator is among them.

    Of texts of the same length these are the words that differ place by place.

    Articles and courtesies do not count, nor a misspelt word; in code everything does but courtesies around it.
    """
    first, second = (_trimmed(each) if is_code else _without_fillers(each) for each in (first, second))
    if first == second:
        return 0
    start = _common_start(first, second)
    end = _common_start(first[start:][::-1], second[start:][::-1])
    ours, theirs = first[start : len(first) - end], second[start : len(second) - end]
    if len(ours) == len(theirs):
        changed = ours if is_code else _misfits(ours, theirs)
        return None if any(map(bears_meaning, changed)) else len(changed)
    if list(filter(bears_meaning, ours)) != list(filter(bears_meaning, theirs)):
        return None
    more, less = Counter(ours), Counter(theirs)
    return (more - less).total() + (less - more).total()


def is_misspelling(first: str, second: str) -> bool:
    """Two words that begin alike and are one slip apart: two letters swapped, or a letter more, less or other.

    The latter in long words only: `horse` and `house`, `planet` and `plant` are words of their own.
    """
    if len(first) > len(second):
        first, second = second, first
    if len(second) < 5 or len(second) - len(first) > 1 or first[0] != second[0] or not (first + second).isalpha():
        return False
    if bears_meaning(first) and bears_meaning(second):  # `sixth` and `sixty`
        return False
    start = _common_start(first, second)
    rest, other = first[start:], second[start:]
    if len(rest) < len(other):
        return len(second) >= 7 and rest == other[1:]
    is_swapped = rest[:2] == other[:2][::-1] and rest[2:] == other[2:]
    return is_swapped or (len(second) >= 8 and rest[1:] == other[1:])


def _without_fillers(tokens: Sequence[str]) -> list[str]:
    return [token for token in tokens if token not in _FILLERS]


def _trimmed(tokens: Sequence[str]) -> list[str]:
    """The tokens without courtesies and sentence marks around them."""
    said = [k for k, token in enumerate(tokens) if token.lower() not in _FILLERS and token not in _SENTENCE_MARKS]
    return list(tokens[said[0] : said[-1] + 1]) if said else []


def _misfits(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """The words that differ place by place, without those that are misspellings of each other."""
    pairs = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1] and not is_misspelling(*pair)]
    return [word for pair in pairs for word in pair]


def _common_start(first: Sequence[str], second: Sequence[str]) -> int:
    length = 0
    for ours, theirs in zip(first, second, strict=False):
        if ours != theirs:
            break
        length += 1
    return length


def _split(tokens: str) -> tuple[str, ...]:
    return tuple(tokens.split(_GAP)) if tokens else ()
