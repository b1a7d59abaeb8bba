"""What a question asks, in a form that survives rewording: plain words, its numbers, its opposites, its answer.

An encoder hears the words and is deaf to the rest: "x+3=20" and "x+3=21" are one to it, and so are the largest and the
smallest. A `Gist` holds that rest, however it is spelled: `three` is 3, `\\frac{1}{2}` is `half`, `x^2` is `x squared`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from tasks.filter.text import normalise, overlap, simplify, stem, user_texts, without_figures
from tasks.records import Domain, Query

_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_ROOT = re.compile(r"\\sqrt\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,)(?=\d{3}(?!\d))")


class _Spoken(NamedTuple):
    """How a sign of a formula is read aloud."""

    signs: tuple[str, ...]  # a text without any of them is not searched
    pattern: re.Pattern[str]
    words: str


_SPOKEN = tuple(
    _Spoken(tuple(signs.split()), re.compile(pattern), f" {words} ")
    for signs, pattern, words in (
        ("\\cdot \\times × · *", r"\\(?:cdot|times)(?![a-z])|[×·]|(?<=[\w)])\s*\*\s*(?=[\w(])", "times"),
        ("\\div ÷", r"\\(?:div)(?![a-z])|÷", "divided by"),
        ("\\le ≤", r"\\(?:leq?|leqslant)(?![a-z])|≤", "at most"),
        ("\\ge ≥", r"\\(?:geq?|geqslant)(?![a-z])|≥", "at least"),
        ("^", r"\^\s*\{?\s*2\s*\}?(?!\d)", "squared"),
        ("^", r"\^\s*\{?\s*3\s*\}?(?!\d)", "cubed"),
        ("\\circ °", r"\^\s*\{?\\circ\}?|°", "degrees"),
        ("^", r"\^", "to the power of"),
        ("%", r"\\?%", "percent"),
        ("+", r"(?<=[\w)}\s])\+(?=[\s\w(\\{])", "plus"),
        ("- −", r"(?<=[\w)}])\s*[-−]\s*(?=\d)|(?<=[\w)}])\s[-−]\s(?=[\w(\\])", "minus"),
        ("=", r"(?<![<>!=])=(?!=)", "equals"),
    )
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SIGNS = re.compile(r"[\\{}$]+")

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SMALL = {word: value for value, word in enumerate(_ONES)} | {w: 10 * v for v, w in enumerate(_TENS, start=2)}
_LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_NUMBER_WORD = "|".join(sorted([*_SMALL, *_LARGE], key=len, reverse=True))
_NUMBER_WORDS = re.compile(rf"\b(?:{_NUMBER_WORD})\b(?:(?:\s*-\s*|\s+and\s+|\s+)(?:{_NUMBER_WORD})\b)*", re.IGNORECASE)
# Words that hold a number without naming it. An ordinal is the number that it counts to; `second` is mostly a unit.
_HIDDEN = {"half": "2", "halves": "2", "twice": "2", "double": "2", "doubled": "2", "pair": "2", "both": "2"} | {
    "third": "3", "thirds": "3", "triple": "3", "tripled": "3", "thrice": "3", "quarter": "4", "quarters": "4",
    "fourth": "4", "fourths": "4", "fifth": "5", "fifths": "5", "sixth": "6", "sixths": "6", "seventh": "7",
    "eighth": "8", "eighths": "8", "ninth": "9", "tenth": "10", "tenths": "10", "dozen": "12", "squared": "2",
    "cubed": "3",
}  # fmt: skip
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[a-z]+")
_DECIMALS = re.compile(r"\d+(?:\.\d+)?")
_FRACTION_OR_DECIMAL = re.compile(r"-?\d{1,40}(?:\.\d{1,40}|/0*[1-9]\d{0,40})?", re.ASCII)
_SAYS_NOTHING = frozenset({"1"})  # "one of them", "a", "1": rewordings drop and add it at will

# Words of one line contradict those of another line of the same group: a question about one is none about the other.
_GROUPS: dict[str, tuple[str, ...]] = {
    "extreme": (
        "largest maximum max greatest highest biggest longest most",
        "smallest minimum min least lowest fewest shortest",
    ),
    "size": ("greater larger bigger above", "smaller less below"),
    "sign": ("positive", "negative"),
    "order": ("ascending increasing", "descending decreasing"),
    "parity": ("even", "odd"),
    "place": ("first", "last", "kth nth"),
    "average": ("mean average", "median", "mode"),
    "operation": (
        "sum addition add plus", "difference subtract subtraction minus", "product multiply", "quotient divide divided",
    ),
    "measure": ("area", "perimeter circumference", "volume", "diagonal", "surface"),
    "shape": (
        "triangle triangles triangular", "square squares", "rectangle rectangles rectangular",
        "circle circles circular", "sphere spheres", "cube cubes", "cone cones", "cylinder cylinders",
        "pentagon pentagons pentagonal", "hexagon hexagons hexagonal", "octagon octagons", "rhombus",
        "trapezoid trapezium", "tetrahedron", "prism",
    ),
    "function": ("sine sin", "cosine cos", "tangent tan", "logarithm log ln"),
    "sets": ("union", "intersection"),
    "side": ("left", "right"),
    "end": ("prefix prefixes", "suffix suffixes"),
    "case": ("uppercase upper", "lowercase lower"),
    "line": ("row rows", "column columns"),
    "container": (
        "list lists array arrays", "tuple tuples", "dictionary dictionaries dict", "string strings", "matrix", "tree",
        "graph", "stack", "queue",
    ),
    "step": ("add insert append", "remove delete"),
    "kind": ("vowels vowel", "consonants consonant"),
    "base": ("binary", "hexadecimal hex", "octal"),
    "clock": ("hours hour", "minutes minute", "seconds"),
}  # fmt: skip
_SIDES = {
    word: (group, number)
    for group, lines in _GROUPS.items()
    for number, line in enumerate(lines)
    for word in line.split()
}
_NEGATIONS = re.compile(r"\b(?:not|non|never|except|without|cannot|incorrect|false)\b|n't\b", re.IGNORECASE)
_NAME = re.compile(r"(?<=[a-z,;:'’)] )(?:[A-Z][a-zA-Z]+)(?: [A-Z][a-zA-Z]+)*")
# Answers that say so little that two different questions share them.
_POOR_ANSWERS = frozenset({"yes", "no", "true", "false", "a", "b", "c", "d", "e", "0", "1"})


class Gist(NamedTuple):
    """What a question asks, apart from how it is worded.

    Attributes:
        text: plain words, for an encoder.
        numbers: values in order, with those that only a word hides (`twice`) among them.
        hidden: those of `numbers` that no digit and no number word names; a rewording may lose them.
        order: numbers and operations in order.
        sides: group of opposites → which of them the text names.
        names: capitalised words inside sentences.
    """

    id: str
    source: str
    domain: Domain
    text: str
    num_words: int
    turns: int
    numbers: tuple[str, ...]
    hidden: frozenset[str]
    order: tuple[str, ...]
    sides: frozenset[tuple[str, int]]
    negated: bool
    names: frozenset[str]
    answer: str | None
    choices: frozenset[str]


def gist_of(query: Query) -> Gist:
    """The gist of a query: of its bare question, or of all user turns of a dialog."""
    turns = user_texts(query)
    said = without_figures(stem(query) if len(turns) < 2 else "\n".join(turns))
    text = plain(said)
    tokens = _TOKEN.findall(text)
    numbers = [(_HIDDEN.get(token, token), token in _HIDDEN) for token in tokens if _is_number(token)]
    named = {value for value, is_hidden in numbers if not is_hidden}
    return Gist(
        id=query.id,
        source=query.source,
        domain=query.domain,
        text=text,
        num_words=len(tokens),
        turns=len(turns),
        numbers=tuple(value for value, _ in numbers if value not in _SAYS_NOTHING),
        hidden=frozenset(value for value, is_hidden in numbers if is_hidden and value not in named),
        order=_order(tokens),
        sides=frozenset(_SIDES[token] for token in tokens if token in _SIDES),
        negated=_NEGATIONS.search(said) is not None,
        names=frozenset(name.lower() for name in _NAME.findall(said)),
        answer=_answer(query),
        choices=frozenset(plain(choice) for choice in query.choices),
    )


def plain(text: str) -> str:
    """Lower-case words with formulas read aloud and every number in digits.

    >>> plain("Solve $x^2 + \\\\frac{1}{2} = twenty-five$.")
    'solve x squared plus 1/2 equals 25'
    """
    text = _THOUSANDS.sub("", text)
    if "\\" in text:
        while (shorter := _ROOT.sub(r" square root of \1 ", _FRACTION.sub(r" \1/\2 ", text))) != text:
            text = shorter
    text = simplify(text)
    for spoken in _SPOKEN:
        if any(sign in text for sign in spoken.signs):
            text = spoken.pattern.sub(spoken.words, text)
    text = _SIGNS.sub(" ", _COMMAND.sub(r" \1 ", text))
    return normalise(_DECIMALS.sub(_short, in_digits(text)))


def _short(match: re.Match[str]) -> str:
    whole, _, rest = match[0].partition(".")
    rest = rest.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{rest}" if rest else "")


def in_digits(text: str) -> str:
    """The text with number words in digits.

    >>> in_digits("one hundred and twenty-five of three thousand; two or three")
    '125 of 3000; 2 or 3'
    """
    return _NUMBER_WORDS.sub(lambda match: " ".join(_values(match[0].lower())), text)


def _values(phrase: str) -> Iterator[str]:
    """The numbers that a run of number words names: `twenty five` is one, `two three` are two."""
    total = current = 0
    last, is_open = 0, False
    for word in re.findall(r"[a-z]+", phrase):
        if word == "and":
            continue
        if word in _LARGE:
            scale = _LARGE[word]
            current = max(1, current) * scale
            if scale > 100:
                total, current = total + current, 0
            last, is_open = scale, True
            continue
        value = _SMALL[word]
        if is_open and not (last >= 100 or (last >= 20 and last % 10 == 0 and 0 < value < 10)):
            yield str(total + current)
            total = current = 0
        current, last, is_open = current + value, value, True
    yield str(total + current)


def _order(tokens: Sequence[str]) -> tuple[str, ...]:
    """Numbers and operations in order: to add 7 and then subtract 2 is not to subtract 7 and then add 2."""
    said = (_HIDDEN.get(token, token) if _is_number(token) else _operation(token) for token in tokens)
    return tuple(each for each in said if each and each not in _SAYS_NOTHING)


def _operation(token: str) -> str:
    group, side = _SIDES.get(token, ("", 0))
    return f"{group} {side}" if group == "operation" else ""


def _is_number(token: str) -> bool:
    return token[0].isdecimal() or token in _HIDDEN


def _answer(query: Query) -> str | None:
    """The answer as text (the option that a letter names), or None where there is none or it says too little."""
    letters = "ABCDEFGHIJ"
    given = query.answer
    if given is not None and query.choices and given.strip() in letters[: len(query.choices)]:
        given = query.choices[letters.index(given.strip())]
    answer = _as_fraction(plain(given).replace(" ", "")) if given is not None else ""
    return None if not answer or answer in _POOR_ANSWERS else answer


def _as_fraction(answer: str) -> str:
    """`0.5` and `2/4` as `1/2`; what is no number stays."""
    is_number = _FRACTION_OR_DECIMAL.fullmatch(answer) is not None
    return str(Fraction(answer)) if is_number else answer


def contradiction(one: Gist, other: Gist, strictly: bool) -> str | None:
    """Why two questions cannot be one, however alike their words are; None: nothing speaks against it.

    Strictly, where no answer tells: numbers, operators and units are in the same order, and opposites are all the same.
    """
    if one.turns != other.turns:
        return "other turns"
    if not same_numbers(one, other):
        return "other numbers"
    if strictly and one.negated != other.negated:
        return "one is negated"
    if clash := _clash(one, other, strictly):
        return f"other {clash}"
    if strictly and one.order != other.order:
        return "other order of numbers or operations"
    if strictly and _is_turned(one.text, other.text):
        return "other direction"
    if one.choices and other.choices and overlap(one.choices, other.choices) < 0.5:
        return "other options"
    # A story may be told of other people; a question of knowledge is about the name.
    if len(set(one.numbers)) < 2 and one.names and other.names and not one.names & other.names:
        return "other names"
    return None


def same_numbers(one: Gist, other: Gist) -> bool:
    """The same values, but for those that only a word hides."""
    return set(one.numbers) ^ set(other.numbers) <= one.hidden | other.hidden


def _is_turned(one: str, other: str) -> bool:
    """True for `convert a to b` beside `convert b to a`."""
    if one.count(" to ") != 1 or other.count(" to ") != 1:
        return False
    ours, theirs = _sides_of_to(one), _sides_of_to(other)
    straight = len(ours.before & theirs.before) + len(ours.behind & theirs.behind)
    turned = len(ours.before & theirs.behind) + len(ours.behind & theirs.before)
    return turned > straight


class _SidesOfTo(NamedTuple):
    before: frozenset[str]
    behind: frozenset[str]


def _sides_of_to(text: str) -> _SidesOfTo:
    """Words that stand on one side of `to` only."""
    before, behind = (frozenset(part.split()) for part in text.split(" to "))
    return _SidesOfTo(before - behind, behind - before)


def _clash(one: Gist, other: Gist, strictly: bool) -> str | None:
    """The first group of opposites in which the texts name different sides; only other ones, unless strictly."""
    for group in sorted({group for group, _ in one.sides} & {group for group, _ in other.sides}):
        ours, theirs = ({side for name, side in gist.sides if name == group} for gist in (one, other))
        if ours != theirs if strictly else not ours & theirs:
            return group
    return None
