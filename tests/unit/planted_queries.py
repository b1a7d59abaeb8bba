"""Queries with planted copies and planted twins. A copy asks the same in other clothes and is to go; a twin has the
same words but another number, sign or role, and is to stay. The courtesies and misspellings are of the kinds that the
filters take for nothing."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tasks.records import Domain, Message, Query

ONSETS = [*"bcdfghjklmnprstvw", "br", "cl", "dr", "fl", "gr", "pl", "pr", "qu", "sh", "sl", "st", "str", "th", "tr"]
CORES = [*"aeiou", "ai", "ea", "oo", "ou"]
CODAS = [*"bdglmnprstx", "ck", "ft", "lt", "nd", "nt", "rd", "rn", "ss", "st"]
NAMES = ["Ada", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ivo", "Jill", "Kim", "Leo", "Mia", "Nell", "Otto"]
THINGS = ["apples", "pears", "stamps", "marbles", "coins", "shells", "books", "pencils", "ribbons", "tickets"]


class Planted(NamedTuple):
    """A corpus and its truth, by query id."""

    queries: list[Query]
    copies: dict[str, str]  # copy → the query that it copies
    twins: dict[str, str]  # twin → the query that it is near to


class Asked(NamedTuple):
    """A question before it is a query."""

    domain: Domain
    text: str
    answer: str | None


def make_planted(num_rows: int, seed: int = 0, share: float = 0.15, prefix: str = "q") -> Planted:
    """A corpus of `num_rows`, of which `share` are copies of earlier rows and as many twins; the rest are originals."""
    rng = Random(seed)
    planted = Planted([], {}, {})
    originals: list[tuple[str, Asked]] = []
    taken: set[str] = set()  # so that no twin equals another
    for number in range(num_rows):
        name = f"{prefix}{number:07d}"
        kind = rng.random() if originals else 1.0
        original, asked = rng.choice(originals) if originals else ("", None)
        if asked and kind < share:
            made = _copy(asked, rng)
            planted.copies[name] = original
        elif asked and kind < 2 * share and (made := _twin(asked, rng)).text not in taken:
            planted.twins[name] = original
        else:
            made = rng.choice(ORIGINALS)(rng)
            originals.append((name, made))
        taken.add(made.text)
        planted.queries.append(as_query(name, made))
    return planted


def as_query(name: str, asked: Asked) -> Query:
    """The question as a query; code has a test."""
    tests = {"kind": "assert", "setup": "", "asserts": ["assert f(1) == 1"]} if asked.domain is Domain.CODE else None
    message = Message(role="user", content=asked.text)
    return Query(
        id=name, domain=asked.domain, source=str(asked.domain), messages=(message,), answer=asked.answer, tests=tests
    )


def word(rng: Random) -> str:
    """A made-up word of two or three syllables, long enough to be misspelt."""
    return "".join(rng.choice(ONSETS) + rng.choice(CORES) + rng.choice(CODAS) for _ in range(rng.choice([2, 2, 3])))


def story(rng: Random) -> Asked:
    """A word problem."""
    who, other = rng.sample(NAMES, 2)
    what, a, b = rng.choice(THINGS), rng.randrange(10, 10**5), rng.randrange(10, 10**5)
    text = f"{who} has {a} {what} and {other} brings {b} more {what}. How many {what} are there in the {word(rng)}?"
    return Asked(Domain.MATH, text, str(a + b))


def equation(rng: Random) -> Asked:
    """An equation in LaTeX."""
    a, b, c = (rng.randrange(2, 10**4) for _ in range(3))
    return Asked(Domain.MATH, f"Find the value of $x$ for which ${a}x + {b} = \\frac{{{c}}}{{7}}$ holds.", f"{a}/{b}")


def program(rng: Random) -> Asked:
    """A programming task."""
    name, what, number = f"{word(rng)}_{word(rng)}", word(rng), rng.randrange(2, 999)
    text = f"Write a function {name}(items) that returns every {what} whose key is larger than {number}."
    return Asked(Domain.CODE, text, None)


def wish(rng: Random) -> Asked:
    """A request in words alone, some with a number."""
    topic = " ".join(word(rng) for _ in range(rng.randrange(8, 40)))
    size = f" in {rng.randrange(50, 900)} words" if rng.random() < 0.3 else ""
    return Asked(
        Domain.CHAT, f"Write a letter to the {word(rng)} about the {topic}{size}, and explain the {word(rng)}.", None
    )


ORIGINALS: list[Callable[[Random], Asked]] = [story, equation, program, wish]


def _copy(asked: Asked, rng: Random) -> Asked:
    makers = [_spaced, _courteous, _other_ends] if asked.domain is Domain.CODE else COPIES
    text = rng.choice(makers)(asked.text, rng)
    return asked._replace(text=text)


def _spaced(text: str, rng: Random) -> str:
    return text.replace(" ", "  " if rng.random() < 0.5 else " \n", rng.randrange(1, 5))


def _other_case(text: str, rng: Random) -> str:
    return text.upper() if rng.random() < 0.5 and "\\" not in text else text[0].lower() + text[1:]


def _other_ends(text: str, rng: Random) -> str:
    return rng.choice(["“{}”", "{} ", "\n{}", "{}"]).format(text.rstrip("."))


def _courteous(text: str, rng: Random) -> str:
    before, after = rng.choice([("Please: ", ""), ("Hello! ", ""), ("", " Thanks!"), ("Hi, kindly: ", "")])
    return f"{before}{text}{after}"


def _misspelt(text: str, rng: Random) -> str:
    tokens = text.split(" ")
    long = [k for k, token in enumerate(tokens) if token.isalpha() and len(token) >= 8 and token.isascii()]
    if not long:
        return _courteous(text, rng)
    k = rng.choice(long)
    at = rng.randrange(1, len(tokens[k]) - 2)
    token, one, two = tokens[k], tokens[k][at], tokens[k][at + 1]
    swapped, doubled, lost = f"{two}{one}", f"{one}{one}{two}", two
    tokens[k] = token[:at] + rng.choice([swapped, doubled, lost]) + token[at + 2 :]
    return " ".join(tokens)


def _other_layout(text: str, rng: Random) -> str:
    if "$" not in text:
        return _spaced(text, rng)
    head, inner, *rest = text.split("$")
    return f"{head}\\({inner}\\)" + "$".join(["", *rest])[1:].replace("\\frac", "\\dfrac")


def _without_article(text: str, rng: Random) -> str:
    return text.replace(" the ", " ", 1)


COPIES = [_spaced, _other_case, _other_ends, _courteous, _misspelt, _other_layout, _without_article]


def _twin(asked: Asked, rng: Random) -> Asked:
    """Another question in the same words; half of the answers stay equal, as they may by chance."""
    answer = asked.answer if asked.answer is None or rng.random() < 0.5 else f"{rng.randrange(10**6)}"
    numbers = [token for token in asked.text.replace("}", " ").replace("{", " ").split() if token.isdecimal()]
    if numbers and rng.random() < 0.6:
        changed = rng.choice(numbers)
        text = asked.text.replace(changed, str(int(changed) + rng.randrange(1, 90)), 1)
    elif asked.domain is Domain.MATH:
        text = asked.text.replace(" more ", " fewer ").replace(" + ", " - ")
    elif asked.domain is Domain.CODE:
        text = asked.text.replace("larger", "smaller")
    else:
        text = asked.text.replace("letter", rng.choice(["poem", "speech", "story"]))
    return asked._replace(text=text, answer=answer)
