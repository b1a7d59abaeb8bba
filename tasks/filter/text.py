"""One spelling for each text, so that texts can be compared: normal form, words, and the order of numbers."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from tasks.records import Query

_SPACE = re.compile(r"\s+")
_QUOTES = '"“”„«»'
_ENDS = ".?,;:\u2026\u3002\uff1f\uff0c\uff1b\uff1a"  # the last ones are full-width
# LaTeX that changes how a formula looks, never what it says.
_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|quad|qquad|big|Big|bigg|Bigg)(?![A-Za-z])"
    r"|\\[,;:! ()\[\]]|\$+|\\(?=%)|~"
)
_FRACTION = re.compile(r"\\[dt]?frac(?![A-Za-z])(?:\s*(\d)\s*(\d))?")  # `\frac12` is one half
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|textit|mbox|mathbf|boldsymbol)\s*\{([^{}]*)\}")
# The last range holds arrows and the operators of mathematics: `∩` and `∪` tell two questions apart.
_OPERATOR = r"[-+*/^=<>≤≥≠\u00d7÷·%!|_&±¬\u2190-\u22ff]"
_TOKEN = re.compile(rf"\d+(?:[.,]\d+)*|[^\W\d_]+|{_OPERATOR}|\\[a-z]+")
_CODE_TOKEN = re.compile(r"\w+|[^\w\s]")
_CALL = re.compile(r"(?<=[^\W\d_]{2})!+")  # after a word an exclamation, after a number or a letter a factorial
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_OPERATOR_WORDS = frozenset(
    word
    for line in (
        "plus minus times add subtract multiply multiplied divide divided sum difference product quotient remainder",
        "square squared cube cubed root half twice double triple more less fewer larger smaller greater bigger",
        "largest smallest maximum minimum most least not no except before after increase increased decrease decreased",
        # Units stand to their numbers as operators do: hours to minutes is another question than minutes to seconds.
        "second seconds minute minutes hour hours day days week weeks month months year years millimeters centimeters",
        "meter meters kilometers inch inches foot feet yard yards mile miles grams kilograms ounces pounds tons",
        "milliliters liter liters cups pints quarts gallons cents dollar dollars degrees radians percent",
        # `one` is left out: mostly it stands for a thing.
        "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen",
        "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion",
        "first third fourth fifth sixth seventh eighth ninth tenth",
    )
    for word in line.split()
)
_SPELLINGS = {
    "bigger": "larger",
    "greater": "larger",
    "lesser": "smaller",
    "multiplied": "multiply",
    "divided": "divide",
}
_FRAMES = re.compile(
    r"let's think step by step and output the final answer within \\boxed\{\}\.?"
    r"|please reason step by step,? and put your final answer within \\boxed\{\}\.?",
    re.IGNORECASE,
)


_FIGURE = re.compile(r"\[asy\].*?\[/asy\]|\\begin\{tikzpicture\}.*?\\end\{tikzpicture\}|https?://\S+", re.DOTALL)


def normalise(text: str) -> str:
    """The text in lower case, NFKC and single spaces, without quotes around it and punctuation at its end.

    Superscripts, subscripts and fractions keep their meaning (`x²` is `x^2`, not `x2`); a final `!` stays, because it
    may be a factorial.
    """
    text = spell(text)
    text = " ".join(text.casefold().split()).rstrip(_ENDS + " ")
    if text and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text.strip(_QUOTES + " ").rstrip(_ENDS + " ")
    return text


def spell(text: str) -> str:
    """The text in NFKC, with superscripts, subscripts and fractions as plain signs."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", _BEYOND_ASCII.sub(lambda match: _spelled(match[0]), text))


@lru_cache(maxsize=4096)
def _spelled(char: str) -> str:
    kind, _, rest = unicodedata.decomposition(char).partition(" ")
    if kind in {"<super>", "<sub>"}:
        return ("^" if kind == "<super>" else "_") + "".join(chr(int(code, 16)) for code in rest.split())
    return f" {unicodedata.normalize('NFKC', char).replace(chr(0x2044), '/')}" if kind == "<fraction>" else char


def simplify(text: str) -> str:
    """The normal form without LaTeX layout and without a closing sentence that only asks for a box."""
    text = without_frame(text)
    if "\\" in text:
        text = _TEXT_COMMAND.sub(r" \1 ", _FRACTION.sub(r"\\frac \1 \2 ", text))
    return normalise(_LAYOUT.sub(" ", text))


def without_frame(text: str) -> str:
    """The text without a closing sentence that only asks for a box."""
    return _FRAMES.sub(" ", text) if "\\boxed" in text else text


def without_figures(text: str) -> str:
    """The text without figure code and links: some copies of a problem carry them, others do not."""
    return _FIGURE.sub(" ", text) if "[asy]" in text or "tikz" in text or "://" in text else text


def words(text: str) -> tuple[str, ...]:
    """Words, numbers, operators and LaTeX commands of the simplified text, in order; no brackets, no commas."""
    return tuple(_TOKEN.findall(_CALL.sub(" ", simplify(text)) if "!" in text else simplify(text)))


def code_words(text: str) -> tuple[str, ...]:
    """Words and single signs in order; case, every bracket and every comma count, layout does not."""
    return tuple(_CODE_TOKEN.findall(text))


def signature(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Numbers, operators (signs, commands, words such as `plus` or `larger`), units, in order; () without a number."""
    kept = tuple(_SPELLINGS.get(token, token) for token in tokens if bears_meaning(token))
    return kept if any(token[0].isdecimal() for token in kept) else ()


def bears_meaning(token: str) -> bool:
    """Whether the token is a number, an operator, a LaTeX command, or a word that stands for one."""
    return not token[0].isalpha() or token in _OPERATOR_WORDS


def overlap(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard overlap in [0, 1]."""
    return len(first & second) / len(first | second) if first or second else 1.0


def user_texts(query: Query) -> list[str]:
    """What the user says, turn by turn."""
    return [message.content for message in query.messages if message.role == "user"]


def stem(query: Query) -> str:
    """The bare question, without options, tests and frame."""
    bare = query.meta.get("stem")
    return bare if isinstance(bare, str) else query.prompt


def head(text: str, length: int = 120) -> str:
    """The start of a text on one line, for evidence."""
    line = _SPACE.sub(" ", text).strip()
    return line if len(line) <= length else f"{line[: length - 1]}…"
