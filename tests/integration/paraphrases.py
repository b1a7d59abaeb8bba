"""Questions told in several ways by hand, and a world of leaks and look-alikes made from them.

The wordings are people's, not rules that undo what the detector knows: active and passive, clauses in another order,
other verbs and things said around the facts, formulas and their reading, numbers in digits and in words, other names,
options in another order. A look-alike is the same wording with other numbers, or the same numbers asked for otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from tasks.records import Domain, Message, Query


class Story(NamedTuple):
    """One question in several wordings; `{a}`, `{b}`, `{c}` are its numbers, `{n}` and `{m}` its people."""

    wordings: tuple[str, ...]
    answer: Callable[[int, int, int], int]
    domain: Domain = Domain.MATH


STORIES = (
    Story(
        (
            "{n} has {a} marbles and buys {b} bags with {c} marbles in each. How many marbles does {n} have now?",
            "After {b} bags were bought, each of which held {c} marbles, how many marbles does {n} own, given that {a} "
            "were already there at the start?",
            "There are {c} marbles in a bag. {n}, who owned {a} marbles before, gets {b} such bags from the shop. What "
            "is the number of marbles that {n} has in the end?",
        ),
        lambda a, b, c: a + b * c,
    ),
    Story(
        (
            "A train travels at {a} kilometers per hour for {b} hours and then covers another {c} kilometers. How far "
            "does it travel in total?",
            "What is the whole distance covered by a train which, having gone {b} hours at a speed of {a} kilometers "
            "per hour, goes on for {c} kilometers more?",
            "A train goes {a} kilometers every hour. It keeps that speed up for {b} hours, and {c} kilometers are "
            "added afterwards. Find the length of the trip.",
        ),
        lambda a, b, c: a * b + c,
    ),
    Story(
        (
            "{n} earns {a} dollars an hour and works {b} hours. {n} then spends {c} dollars on food. How much money is "
            "left?",
            "For each hour of work {n} is paid {a} dollars. How many dollars remain after {b} hours of work, once {c} "
            "dollars were paid for food?",
            "How much of the pay does {n} still have, if {b} hours were worked at a wage of {a} dollars an hour and "
            "{c} dollars went for meals?",
        ),
        lambda a, b, c: a * b - c,
    ),
    Story(
        (
            "A school has {a} classrooms with {b} desks each. {c} desks are broken. How many desks can be used?",
            "Of the desks of a school, which stand in {a} classrooms, {b} in every one, {c} cannot be used since they "
            "are broken. How many usable desks are there?",
            "In each of the {a} rooms of a school {b} desks are placed. If {c} of them are found to be broken, what is "
            "the number of desks that still serve?",
        ),
        lambda a, b, c: a * b - c,
    ),
    Story(
        (
            "{n} reads {a} pages on Monday and {b} pages on Tuesday. The book has {c} pages in all. How many pages "
            "remain to be read?",
            "A book of {c} pages is read by {n}: {a} pages on Monday, then {b} on Tuesday. What number of pages is "
            "still unread?",
            "How many pages of a {c}-page book has {n} not read yet, when {a} were finished on Monday and another {b} "
            "on Tuesday?",
        ),
        lambda a, b, c: c - a - b,
    ),
    Story(
        (
            "Find the value of $x$ if ${a}x + {b} = {c}$.",
            "Solve for $x$: ${a} x+{b}={c}$.",
            "{a} times x plus {b} equals {c}. What is x?",
        ),
        lambda a, b, c: (c - b) * 1000 // a,
    ),
    Story(
        (
            "What is the area of a rectangle whose sides are {a} cm and {b} cm, after a square of side {c} cm has been "
            "cut out of it?",
            "From a rectangle that measures {a} cm by {b} cm a square with side {c} cm is removed. Find the area that "
            "is left.",
            "A square of side length {c} cm is taken out of a rectangle with sides of length {a} cm and {b} cm. How "
            "large is the remaining area?",
        ),
        lambda a, b, c: a * b - c * c,
    ),
    Story(
        (
            "Let $f(x) = {a}x^2 - {b}x$. Compute $f({c})$.",
            "If $f(x)={a} x^{{2}}-{b} x$, what is $f({c})$?",
            "A function f is given by f(x) = {a} x squared minus {b} x. What is the value of f({c})?",
        ),
        lambda a, b, c: a * c * c - b * c,
    ),
    Story(
        (
            "{n} bakes {a} cookies and {m} bakes {b} cookies. They share all cookies evenly among {c} children. How "
            "many cookies does each child get?",
            "Cookies are baked by {n} ({a}) and by {m} ({b}). When the cookies are divided equally between {c} "
            "children, what does every child receive?",
            "{c} children get the same number of cookies each. How many is that, if {a} cookies were baked by {n} and "
            "{b} more by {m}?",
        ),
        lambda a, b, c: (a + b) * 1000 // c,
    ),
    Story(
        (
            "What is the remainder when {a} raised to the power {b} is divided by {c}?",
            "Find the remainder of ${a}^{{{b}}}$ upon division by {c}.",
            "When you divide ${a}^{{{b}}}$ by ${c}$, what remainder do you get?",
        ),
        lambda a, b, c: pow(a, b, c),
    ),
    Story(
        (
            "Write a function that returns the {a} largest numbers of a list that lie between {b} and {c}.",
            "Implement a function which, given a list, gives back those {a} values that are the greatest among the "
            "ones from {b} to {c}.",
            "Create a Python function to find the top {a} biggest elements of a list within the range {b} to {c}.",
        ),
        lambda a, b, c: a + b + c,
        Domain.CODE,
    ),
    Story(
        (
            "A tank holds {a} liters. A pump fills it with {b} liters a minute while {c} liters a minute leak out. How "
            "many minutes does it take until the empty tank is full?",
            "{b} liters of water are pumped into an empty tank of {a} liters each minute, and {c} liters are lost "
            "every minute through a leak. After how many minutes is it full?",
            "How many minutes pass before a tank with room for {a} liters, empty at first, is filled, if {b} liters "
            "come in and {c} liters run out per minute?",
        ),
        lambda a, b, c: a * 1000 // max(1, b - c),
    ),
)  # fmt: skip
# The same facts, asked for otherwise: the words of a benchmark's question, and another question.
TURNED = (
    ("How many marbles does {n} have now?", "How many more marbles does {n} have now than at the start?"),
    ("How far does it travel in total?", "How many kilometers more does it travel at first than afterwards?"),
    ("How much money is left?", "What share of the pay goes for food?"),
    ("How many pages remain to be read?", "How many pages a day were read on average?"),
)
NAMES = ("Aisha", "Bruno", "Chen", "Dalia", "Emeka", "Farid", "Greta", "Hiro", "Imani", "Jonas", "Kavya", "Leo")
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


class World(NamedTuple):
    """Benchmarks, training queries, and which of these ask a benchmark's question: id → the benchmark's id."""

    benchmarks: list[Query]
    queries: list[Query]
    leaks: dict[str, str]


def spell(number: int) -> str:
    """A number below 10,000 in words, as a person writes it."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_ONES[number % 10]}" if number % 10 else "")
    scale, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    rest = number % scale
    return f"{spell(number // scale)} {name}" + (
        f" and {spell(rest)}" if 0 < rest < 100 else f" {spell(rest)}" * (rest > 0)
    )


def make_world(num_benchmarks: int, num_leaks: int, num_others: int, seed: int = 7) -> World:
    """Look-alikes are three of four of the others; the rest turn a benchmark's question round, numbers and all."""
    rng = Random(seed)
    told = [_numbers(rng, place % len(STORIES)) for place in range(num_benchmarks)]
    benchmarks = [_ask(f"b{n}", "bench", _Told(n % len(STORIES), 0, numbers), rng) for n, numbers in enumerate(told)]
    taken = {(n % len(STORIES), numbers) for n, numbers in enumerate(told)}
    leaks = {f"leak{n}": rng.randrange(num_benchmarks) for n in range(num_leaks)}
    queries = [
        _ask(name, "leaky", _Told(place % len(STORIES), rng.randrange(1, 3), told[place], True), rng)
        for name, place in leaks.items()
    ]
    for number in range(num_others):
        story = rng.randrange(len(STORIES))
        numbers = _numbers(rng, story)
        if number % 4 == 3:
            queries.append(_turned(f"turned{number}", benchmarks[rng.randrange(num_benchmarks)], rng))
        elif (story, numbers) not in taken:
            queries.append(
                _ask(f"other{number}", "clean", _Told(story, rng.randrange(3), numbers, rng.random() < 0.5), rng)
            )
    rng.shuffle(queries)
    return World(benchmarks, queries, {name: f"b{place}" for name, place in leaks.items()})


class _Told(NamedTuple):
    story: int
    wording: int
    numbers: tuple[int, int, int]
    disguised: bool = False  # small numbers in words, where no formula holds them


def _numbers(rng: Random, story: int) -> tuple[int, int, int]:
    """Numbers near to each other's: every story is told of hundreds of them."""
    a, b, c = rng.randrange(3, 60), rng.randrange(3, 60), rng.randrange(2, 400)
    return (a, b, a + b + c) if story in {4, 5} else (a, b, c)


def _ask(name: str, source: str, told: _Told, rng: Random) -> Query:
    story = STORIES[told.story]
    text = story.wordings[told.wording]
    in_words = told.disguised and "$" not in text and "f(" not in text
    shown = [spell(n) if in_words and rng.random() < 0.5 else str(n) for n in told.numbers]
    n, m = rng.sample(NAMES, 2)
    text = text.format(a=shown[0], b=shown[1], c=shown[2], n=n, m=m)
    answer = None if story.domain is Domain.CODE else str(story.answer(*told.numbers))
    return _query(name, source, text[0].upper() + text[1:], answer, story.domain)


def _turned(name: str, benchmark: Query, rng: Random) -> Query:
    """A benchmark's facts with another question, or (where none is at hand) two of its numbers exchanged."""
    text = benchmark.prompt
    for asked, other in TURNED:
        person = text.split(" ", 1)[0]
        if asked.format(n=person) in text:
            text = text.replace(asked.format(n=person), other.format(n=person))
            return _query(name, "clean", text, str(rng.randrange(10**6, 10**7)), benchmark.domain)
    digits = [part for part in text.replace("$", " ").replace("x", " ").split() if part.isdecimal()]
    first, last = (digits[0], digits[-1]) if len(set(digits)) > 1 else ("2", "3")
    text = text.replace(first, "#", 1)[::-1].replace(last[::-1], first[::-1], 1)[::-1].replace("#", last, 1)
    return _query(
        name,
        "clean",
        text if first != last else f"{text} Then add 77.",
        str(rng.randrange(10**6, 10**7)),
        benchmark.domain,
    )


def _query(name: str, source: str, text: str, answer: str | None, domain: Domain) -> Query:
    return Query(id=name, domain=domain, source=source, messages=(Message(role="user", content=text),), answer=answer)


def shuffle_options(query: Query, rng: Random) -> Query:
    """The same options under other letters, as a mirror of an exam has them."""
    letters = "ABCDEFGHIJ"
    order = rng.sample(range(len(query.choices)), len(query.choices))
    choices = tuple(query.choices[place] for place in order)
    right = letters[order.index(letters.index(query.answer or "A"))]
    shown = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=False))
    text = f"{query.meta['stem']}\n\n{shown}"
    return query.model_copy(
        update={"choices": choices, "answer": right, "messages": (Message(role="user", content=text),)}
    )


def ids(queries: Sequence[Query]) -> set[str]:
    """Names of queries."""
    return {query.id for query in queries}
