"""Instruction following: prompts with IFEval constraints, by their real ids and kwargs, that a script can satisfy."""

import re
from random import Random
from typing import NamedTuple

from tasks.procedural.families.problem import FamilyName, Problem, Solution
from tasks.procedural.families.topics import TOPICS
from tasks.procedural.families.wording import canonical

_KEYWORDS = ("green", "water", "summer", "family", "morning", "winter")
_PHRASES = ("that is all", "have a nice day", "see you soon")
_NUM_WORDS = (8, 12, 16, 20)  # the opening and both fillers make 23
_FILLERS = ("this is a part of our life", "there is always more to learn")
_QUESTION = re.compile(rf"write about ({'|'.join(TOPICS)})\.((?: [^.]+\.)+)")


class _Constraint(NamedTuple):
    asks: str
    kwarg: str | None = None
    values: tuple[str | int, ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()

    def kwargs(self, value: str | int | None) -> dict[str, object]:
        if self.kwarg is None:
            return {}
        return {**dict(self.fixed), self.kwarg: [value] if self.kwarg == "keywords" else value}


# The reply is lower case and has no comma anyway; the other constraints change its text.
_CONSTRAINTS = {
    "punctuation:no_comma": _Constraint("Do not use any commas."),
    "change_case:english_lowercase": _Constraint("Use lowercase letters only."),
    "keywords:existence": _Constraint("Include the word {}.", "keywords", _KEYWORDS),
    "length_constraints:number_words": _Constraint(
        "Use at least {} words.", "num_words", _NUM_WORDS, (("relation", "at least"),)
    ),
    "startend:end_checker": _Constraint("End with the phrase {}.", "end_phrase", _PHRASES),
    "startend:quotation": _Constraint("Wrap the answer in double quotation marks."),
    "detectable_format:title": _Constraint("Put a title in double angular brackets."),
}


def make(rng: Random) -> Problem:
    """Draw a topic with one or two constraints."""
    topic = rng.choice(TOPICS)
    wishes = {name: _draw_value(name, rng) for name in rng.sample(tuple(_CONSTRAINTS), rng.randint(1, 2))}
    asks = [_CONSTRAINTS[name].asks.format(value) for name, value in wishes.items()]
    return Problem(
        text=" ".join([f"Write about {topic}.", *asks]),
        key=(FamilyName.INSTRUCTION, topic, *sorted(f"{name}={value}" for name, value in wishes.items())),
        solution=_solution(topic, wishes),
        instruction_ids=tuple(wishes),
        kwargs=tuple(_CONSTRAINTS[name].kwargs(value) for name, value in wishes.items()),
    )


def solve(text: str) -> Solution | None:
    """Read the topic and every constraint, and write a reply that keeps them; None when one is not understood."""
    found = _QUESTION.fullmatch(canonical(text))
    if found is None:
        return None
    wishes: dict[str, str | int | None] = {}
    for sentence in re.findall(r"[^.]+\.", found[2]):
        wish = _read_wish(sentence.strip())
        if wish is None:
            return None
        wishes[wish.name] = wish.value
    return _solution(found[1], wishes)


class _Wish(NamedTuple):
    name: str
    value: str | int | None


def _draw_value(name: str, rng: Random) -> str | int | None:
    values = _CONSTRAINTS[name].values
    return rng.choice(values) if values else None


def _read_wish(sentence: str) -> _Wish | None:
    for name, constraint in _CONSTRAINTS.items():
        for value in constraint.values or (None,):
            if canonical(constraint.asks.format(value)) == sentence:
                return _Wish(name, value)
    return None


def _solution(topic: str, wishes: dict[str, str | int | None]) -> Solution:
    sentences = [f"most people like {topic} and are glad to have {topic} around them"]
    if keyword := wishes.get("keywords:existence"):
        sentences.append(f"one word for it is {keyword}")
    missing = int(wishes.get("length_constraints:number_words") or 0) - len(" ".join(sentences).split())
    for filler in _FILLERS:
        if missing > 0:
            sentences.append(filler)
            missing -= len(filler.split())
    if phrase := wishes.get("startend:end_checker"):
        sentences.append(str(phrase))
    reply = ". ".join(sentences)
    if "detectable_format:title" in wishes:
        reply = f"<<{topic}>> {reply}"
    if "startend:quotation" in wishes:
        reply = f'"{reply}"'
    return Solution(FamilyName.INSTRUCTION, (f"write about {topic} and keep every wish",), reply)
