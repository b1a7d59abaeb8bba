"""One spelling for each text, so that texts can be compared: normal form, words, and the order of numbers."""

from __future__ import annotations

import re
import unicodedata

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
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[-+*/^=<>≤≥≠\u00d7÷·%!|_]|\\[a-z]+")
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
    )
    for word in line.split()
)
_OPERATORS = frozenset("-+*/^=<>≤≥≠\u00d7÷·%!|_")
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


def normalise(text: str) -> str:
    """The text in lower case, NFKC and single spaces, without quotes around it and punctuation at its end.

    Superscripts, subscripts and fractions keep their meaning (`x²` is `x^2`, not `x2`); a final `!` stays, because it
    may be a factorial.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", "".join(map(_spelled, text)))
    text = _SPACE.sub(" ", text.casefold()).strip().rstrip(_ENDS + " ")
    if text and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text.strip(_QUOTES + " ").rstrip(_ENDS + " ")
    return text


def _spelled(char: str) -> str:
    kind, _, rest = unicodedata.decomposition(char).partition(" ")
    if kind in {"<super>", "<sub>"}:
        return ("^" if kind == "<super>" else "_") + "".join(chr(int(code, 16)) for code in rest.split())
    return f" {unicodedata.normalize('NFKC', char).replace(chr(0x2044), '/')}" if kind == "<fraction>" else char


def simplify(text: str) -> str:
    """The normal form without LaTeX layout and without a closing sentence that only asks for a box."""
    if "\\boxed" in text:
        text = _FRAMES.sub(" ", text)
    if "\\" in text:
        text = _TEXT_COMMAND.sub(r" \1 ", _FRACTION.sub(r"\\frac \1 \2 ", text))
    return normalise(_LAYOUT.sub(" ", text))


def words(text: str) -> tuple[str, ...]:
    """Words, numbers, operators and LaTeX commands of the simplified text, in order; no brackets, no commas."""
    return tuple(_TOKEN.findall(simplify(text)))


def signature(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Numbers, operators (signs, commands, words such as `plus` or `larger`), units, in order; () without a number."""
    kept = tuple(_SPELLINGS.get(token, token) for token in tokens if _bears_meaning(token))
    return kept if any(token[0].isdecimal() for token in kept) else ()


def _bears_meaning(token: str) -> bool:
    return token[0].isdecimal() or token[0] == "\\" or token in _OPERATORS or token in _OPERATOR_WORDS


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
