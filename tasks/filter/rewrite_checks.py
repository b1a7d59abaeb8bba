"""Multiple choice rewritten as fill-in-the-blank: what a rewriting says, and whether its answer survived. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from string import ascii_uppercase
from typing import NamedTuple

from tasks.filter.text import head, stem, words
from tasks.records import Outcome, Query
from tasks.rewards.choice import is_letter_of
from tasks.rewards.extract import split_thinking
from tasks.rewards.math_kinds import Kind, kind_of
from tasks.rewards.math_text import normalise

_QUESTION = re.compile(r"<question>(.*)</question>", re.IGNORECASE | re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*)</answer>", re.IGNORECASE | re.DOTALL)
_REASON = re.compile(r"<reasons?>(.*?)</reasons?>", re.IGNORECASE | re.DOTALL)
_NOT_POSSIBLE = frozenset({"", "none", "null", "n/a"})
# An option that speaks of other options: without them it says nothing.
_LETTER = r"\(?(?-i:[A-H])\)?"
_OF_OPTIONS = re.compile(
    r"\b(?:none|all|both|neither|either|any|some|more than one) of (?:the )?"
    r"(?:above|these|those|following|options|choices)"
    rf"|\b(?:both|neither|either) {_LETTER} (?:and|nor|or) {_LETTER}|^{_LETTER} (?:and|or|&) {_LETTER}(?: only)?$"
    rf"|\b(?:options?|choices?) {_LETTER}(?!\w)",
    re.IGNORECASE,
)
_NEEDS_OPTIONS = re.compile(
    r"\bof (?:the )?(?:following|above|below|options|choices|alternatives)\b|\b(?:which|what|one) of these\b"
    r"|\b(?:the|these|following|given|listed|answer) (?:options|choices|alternatives)\b"
    rf"|\b(?:options?|choices?) (?:(?:below|above)\b|{_LETTER}(?!\w))|\bmultiple[- ]choice\b"
    rf"|\bwhich (?:option|choice|alternative)\b|^\s*{_LETTER}[.:]\s+\S|^\s*\((?-i:[A-H])\)\s+\S",
    re.IGNORECASE | re.MULTILINE,
)


class RewriteReason(StrEnum):
    """Why a multiple-choice query is not rewritten, in the order in which it is found out."""

    OPTIONS_NEEDED = "options_needed"
    REWRITE_FAILED = "rewrite_failed"  # no readable rewriting, or a comparison that timed out: nothing is known
    QUESTION_CHANGED = "question_changed"
    ANSWER_CHANGED = "answer_changed"
    ANSWER_UNVERIFIABLE = "answer_unverifiable"
    ANSWER_UNCONFIRMED = "answer_unconfirmed"


class Fault(NamedTuple):
    """What is wrong with a rewriting."""

    reason: RewriteReason
    evidence: str


class Rewriting(NamedTuple):
    """A question that stands without options, what the rewriter holds for its answer, and why."""

    question: str
    answer: str
    told: str


class Choice(NamedTuple):
    """A multiple-choice query with the texts of its right option and of the others."""

    query: Query
    right: str
    wrong: tuple[str, ...]


class Pair(NamedTuple):
    """Two answers to be compared; the first is taken for right."""

    gold: str
    answer: str


Outcomes = Mapping[Pair, Outcome]


def choice_of(query: Query) -> Choice | None:
    """The options of a multiple-choice query, as they would be answers; None where it is none."""
    if not is_letter_of(query.answer, query.choices):
        return None
    place = ascii_uppercase.index(query.answer or "")
    texts = [_as_answer(option) for option in query.choices]
    return Choice(query, texts[place], tuple(texts[:place] + texts[place + 1 :]))


def fault_of_options(choice: Choice) -> Fault | None:
    """What no rewriting could mend: seen before anything is paid for."""
    if found := _OF_OPTIONS.search(choice.right):
        return Fault(RewriteReason.OPTIONS_NEEDED, f"the right option says: {found[0]}")
    return None if choice.right else Fault(RewriteReason.ANSWER_UNVERIFIABLE, "the right option is empty")


def read_rewriting(text: str) -> Rewriting | Fault:
    """The rewriting in what a reply says after thinking."""
    said = split_thinking(text).answer or ""
    question, answer = _QUESTION.search(said), _ANSWER.search(said)
    reason = _REASON.search(said)
    told = " ".join((reason[1] if reason else "").split())
    if question is not None and question[1].strip().lower() in _NOT_POSSIBLE:
        return Fault(RewriteReason.OPTIONS_NEEDED, f"the rewriter declines: {head(told, 300)}")
    if question is None or answer is None:
        return Fault(RewriteReason.REWRITE_FAILED, f"no rewriting in the reply: {head(text[-200:], 200)!r}")
    return Rewriting(question[1].strip(), answer[1].strip(), told)


def fault_of_question(choice: Choice, rewriting: Rewriting) -> Fault | None:
    """What is wrong with the question itself: it speaks of options, lost a number, or gives the answer away."""
    if found := _NEEDS_OPTIONS.search(rewriting.question):
        return Fault(RewriteReason.OPTIONS_NEEDED, f"the rewritten question says: {found[0].strip()}")
    before, after = words(stem(choice.query)), words(rewriting.question)
    # Where the source gives no bare question, the options stand in the text, and their numbers need not stay.
    optional = (
        _numbers(words(" ".join(choice.query.choices))) if stem(choice.query) == choice.query.prompt else Counter()
    )
    lost = _numbers(before) - optional - _numbers(after)
    if lost:
        return Fault(RewriteReason.QUESTION_CHANGED, f"numbers lost: {', '.join(sorted(lost))}")
    answer = words(choice.right)
    if answer and _holds(after, answer) and not _holds(before, answer):
        return Fault(RewriteReason.QUESTION_CHANGED, f"it gives the answer away: {head(choice.right)}")
    return None


def answer_pairs(choice: Choice, rewriting: Rewriting) -> list[Pair]:
    """The comparisons that `fault_of_answer` needs."""
    return [Pair(choice.right, text) for text in (rewriting.answer, *choice.wrong)]


def fault_of_answer(choice: Choice, rewriting: Rewriting, outcomes: Outcomes, max_words: int) -> Fault | None:
    """Does the right option's own text serve as the label? The rewriter must mean it, and no other may equal it.

    Args:
        max_words: longest label in words that is no formula and so is compared as text.
    """
    found = [outcomes[pair] for pair in answer_pairs(choice, rewriting)]
    if Outcome.GOLD_UNPARSEABLE in found:
        return Fault(RewriteReason.ANSWER_UNVERIFIABLE, f"no verifier reads {choice.right!r}")
    if any(outcome.is_fault for outcome in found):
        return Fault(RewriteReason.REWRITE_FAILED, f"comparing with {choice.right!r}: {', '.join(found)}")
    if found[0] is not Outcome.EQUAL:
        return Fault(RewriteReason.ANSWER_CHANGED, f"option {choice.right!r}, rewritten {rewriting.answer!r}")
    if Outcome.EQUAL in found[1:]:
        return Fault(RewriteReason.ANSWER_UNVERIFIABLE, f"another option equals {choice.right!r}")
    num_words = len(choice.right.split())
    if kind_of(normalise(choice.right)) is Kind.TEXT and num_words > max_words:
        return Fault(RewriteReason.ANSWER_UNVERIFIABLE, f"a text of {num_words} words: {head(choice.right)!r}")
    return None


def fault_of_check(choice: Choice, said: str | None, outcomes: Outcomes) -> Fault | None:
    """Does a model that sees the rewritten question only come to the label?"""
    if said is None:
        return Fault(RewriteReason.ANSWER_UNCONFIRMED, "the answerer gives no answer")
    outcome = outcomes[Pair(choice.right, said)]
    if outcome.is_fault:
        return Fault(RewriteReason.REWRITE_FAILED, f"comparing {said!r} with {choice.right!r}: {outcome}")
    if outcome is not Outcome.EQUAL:
        return Fault(RewriteReason.ANSWER_UNCONFIRMED, f"option {choice.right!r}, answered {said!r}")
    return None


def _as_answer(option: str) -> str:
    """An option as a label: no full stop at its end, no dollars around the whole."""
    text = option.strip().rstrip(".").strip()
    inner = text[1:-1]
    is_wrapped = len(text) > 2 and text[0] == text[-1] == "$" and "$" not in inner
    return inner.strip() if is_wrapped else text


def _numbers(tokens: tuple[str, ...]) -> Counter[str]:
    return Counter(token for token in tokens if token[0].isdecimal())


def _holds(text: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return any(text[start : start + len(part)] == part for start in range(len(text) - len(part) + 1))
