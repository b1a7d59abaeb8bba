"""Multiple choice about small facts, as MMLU has it; every option is a number, so that the stem alone can be asked."""

import re
from random import Random

from tasks.procedural.families.problem import LETTERS, FamilyName, Problem, Solution
from tasks.procedural.families.wording import canonical

_GENERAL = {
    "How many days are in a week?": 7,
    "How many months are in a year?": 12,
    "How many hours are in a day?": 24,
    "How many minutes are in an hour?": 60,
    "How many legs does a spider have?": 8,
    "How many legs does a dog have?": 4,
    "How many sides does a triangle have?": 3,
    "How many sides does a hexagon have?": 6,
    "How many wheels does a bicycle have?": 2,
    "How many wheels does a car have?": 4,
    "How many fingers does a hand have?": 5,
    "How many planets does the sun have?": 8,
    "How many letters does the alphabet have?": 26,
}
_GENERAL_CANONICAL = {canonical(question): answer for question, answer in _GENERAL.items()}
# Questions that are none without their options.
BOUND_STEMS = {
    "Which of the following numbers is the largest?": max,
    "Which of the following numbers is the smallest?": min,
}
_BOUND_CANONICAL = {canonical(question): pick for question, pick in BOUND_STEMS.items()}
_SUM = re.compile(r"what is (\d+) (plus|times) (\d+)\?")
# An adapter writes options its own way: "A. 3", "A) 3" and "(A) 3" all read.
_OPTION = r" \(?{}[.):]+ (\d+)[,;.]?"
_QUESTION = re.compile(r"(.+?\?)(?: options:)?" + "".join(_OPTION.format(letter.lower()) for letter in LETTERS))
MAX_OPERAND = 40


def make(rng: Random) -> Problem:
    """Draw a fact and three wrong options; general facts are few, so most are sums and products."""
    stem, key = _draw_stem(rng)
    fact = solve_fact(stem)
    assert fact is not None, stem
    answer = int(fact.answer)
    wrong = rng.sample([n for n in range(max(0, answer - 9), answer + 10) if n != answer], len(LETTERS) - 1)
    options = tuple(str(number) for number in sorted((answer, *wrong), key=lambda _: rng.random()))
    return Problem(stem, (FamilyName.MULTIPLE_CHOICE, *key), _choose(fact, options), options=options)


def make_bound(rng: Random, stem: str) -> Problem:
    """Draw options for one of `BOUND_STEMS`."""
    options = tuple(str(number) for number in rng.sample(range(100, 1000), len(LETTERS)))
    solution = _pick(stem, options)
    return Problem(stem, (FamilyName.MULTIPLE_CHOICE, stem, *options), solution, options=options)


def solve(text: str) -> Solution | None:
    """Read stem and options, in any of the usual forms; None when no option is right."""
    found = _QUESTION.match(canonical(text))
    if found is None:
        return None
    if found[1] in _BOUND_CANONICAL:
        return _pick(found[1], found.groups()[1:])
    fact = solve_fact(found[1])
    return _choose(fact, found.groups()[1:]) if fact and fact.answer in found.groups()[1:] else None


def solve_fact(text: str) -> Solution | None:
    """Answer a stem that stands alone, as a rewriting to fill-in-the-blank leaves it."""
    plain = canonical(text)
    if plain in _GENERAL_CANONICAL:
        answer = _GENERAL_CANONICAL[plain]
        return Solution(FamilyName.FACT, (f"the number is {answer}",), str(answer))
    if not (found := _SUM.fullmatch(plain)):
        return None
    left, right = int(found[1]), int(found[3])
    symbol, value = ("+", left + right) if found[2] == "plus" else ("*", left * right)
    return Solution(FamilyName.FACT, (f"{left}{symbol}{right}={value}",), str(value))


def stem_of(text: str) -> str | None:
    """The question without its options; None when the text is no multiple choice of this family."""
    return text[: text.index("?") + 1].strip() if solve(text) else None


def _draw_stem(rng: Random) -> tuple[str, tuple[str | int, ...]]:
    if rng.random() < 0.1:
        stem = rng.choice(tuple(_GENERAL))
        return stem, (stem,)
    left, right = rng.randint(2, MAX_OPERAND), rng.randint(2, 12)
    return f"What is {left} {rng.choice(('plus', 'times'))} {right}?", (min(left, right), max(left, right))


def _pick(stem: str, options: tuple[str, ...]) -> Solution:
    pick = _BOUND_CANONICAL[canonical(stem)]
    return _choose(Solution(FamilyName.FACT, (), str(pick(map(int, options)))), options)


def _choose(fact: Solution, options: tuple[str, ...]) -> Solution:
    return Solution(FamilyName.MULTIPLE_CHOICE, fact.steps, LETTERS[options.index(fact.answer)])
