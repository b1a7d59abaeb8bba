r"""Math answers as text: one spelling for what LaTeX writes in many ways. Never changes what an answer means."""

from __future__ import annotations

import re

_DROPPED = re.compile(
    r"\\(?:displaystyle|textstyle|limits|nolimits|quad|qquad|bigg?|Bigg?|left|right)(?![a-zA-Z])"
    r"|\\[!,;:> ]|[~$]|\\[()\[\]]"
)
_GROUPED = re.compile(r"(?<=\d)\{,\}(?=\d)")
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathit|mathsf|rm|mbox|operatorname)\*?\s*\{([^{}]*)\}"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*(\d|\{[^{}]*\})\s*(\d|[a-zA-Z]|\{[^{}]*\})")
_SHORT_ROOT = re.compile(r"\\sqrt ?([\da-zA-Z])")
_ROOT_SIGN = re.compile(r"\u221a(\d+|[a-zA-Z])")
# What only changes the look: weights and colours; their arguments stay.
_STYLE = re.compile(r"\\(?:boldsymbol|bm|underline|bf)(?![a-zA-Z]) *|\\(?:textcolor|color) *\{[^{}]*\} *")
_SLANTED = re.compile(r"\\([lg]eq)slant(?![a-zA-Z])")
_REPEATING = re.compile(r"(?<![\d.,])(\d{0,30})\.(\d{0,30})\\(?:overline|bar) ?\{(\d{1,30})\}")
_DEGREES = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])(?:\^\{?-?\d\}?)?) ?([({]?) ?(\d{1,4})(?:\.(\d{1,6}))?"
    r" ?\^ ?(?:\{ ?\\circ ?\}|\\circ)"
)
_PRIMES = re.compile(r"\^ *(?:\{ *(?:\\prime *)+\}|\\prime(?![a-zA-Z]))")
# The parser takes T for a transpose and drops it.
_POWER_T = re.compile(r"(?<![a-zA-Z\\])e\^(?:\{T\}|T)(?![a-zA-Z])")
_LETTER_TIMES = re.compile(r"(?<=\d)( ?)x\1(?=10\^)")
_ALL_REALS = re.compile(r"(?:the set of )?all real(?:s| numbers)", re.IGNORECASE)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_WIDE_DIGITS = str.maketrans("０１２３４５６７８９", "0123456789")
_SPACED_THOUSANDS = re.compile(r"-?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_NO_SOLUTION = re.compile(
    r"(?:there (?:is|are) )?no (?:(?:real|integer|such) )?(?:solutions?|numbers?|values?)(?: exists?)?"
    r"|(?:the )?empty set|none|does not exist",
    re.IGNORECASE,
)
_EMPTY = re.compile(r"\\(?:varnothing|empty|emptyset)(?![a-zA-Z])|\\\{ ?\\\}|\u2205")
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
}
_NAMED = re.compile(r"^(?:[a-zA-Z]|\\[a-z]+)(?:_\{?\w+\}?)?(?:\([a-z]\))?\s*=\s*(?![=<>])")
_SPACES = re.compile(r"\s+")
_FREE_SPACE = re.compile(r"(?<![\w}]) | (?![\w{])")
_SHORTEST_WORD = 4
_SHORT_WORDS = frozenset({"yes", "no", "odd", "all"})
_CHARACTERS = str.maketrans({
    "\u2212": "-", "\u2013": "-", "\u2014": "-", "\uff0d": "-", "\u00d7": r"\times ", "\u00b7": r"\cdot ",
    "\u00f7": "/", "\u221e": r"\infty ", "\u03c0": r"\pi ", "\u00b0": r"^\circ ", "\u2264": r"\le ",
    "\u2265": r"\ge ", "\u2260": r"\ne ", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\uff0c": ",",
    "\u222a": r"\cup ", "\u221a": r"\sqrt ", "\u2208": r"\in ", "\u2044": "/",
})  # fmt: skip
_WORDS = {r"\leq": r"\le", r"\geq": r"\ge", r"\neq": r"\ne", r"\degree": r"^\circ", r"\lt": "<", r"\gt": ">"}
_WORD = re.compile(r"\\(?:leq|geq|neq|degree|lt|gt)(?![a-zA-Z])")


def normalise(answer: str) -> str:
    r"""One spelling of an answer. A space between two numbers stays: `1 1/2` is not `11/2`.

    >>> normalise(r"$\left( \dfrac12, 3\right)$."), normalise("1,\\!234"), normalise("x = 5")
    ('(\\frac{1}{2},3)', '1,234', '5')
    """
    text = in_latex(answer).strip().rstrip(".").strip()
    text = text.replace("\\\\(", "(").replace(r"\$", "\\textdollar ").replace("\\textdollar ", r"\dollar ")
    text = text.replace("\\\\", r"\newrow ") if r"\begin" in text else text
    text = _DROPPED.sub(_space_for, text)
    text = _GROUPED.sub(",", text)
    text = _WORD.sub(lambda found: _WORDS[found[0]], text)
    text = _FRACTION.sub(r"\\frac", text)
    text = _SHORT_FRACTION.sub(lambda found: rf"\frac{_group(found[1])}{_group(found[2])}", text)
    text = _SHORT_ROOT.sub(r"\\sqrt{\1}", text)
    text = _EMPTY.sub(r"\\emptyset ", text)
    text = _SPACES.sub(" ", text).strip()
    text = text.replace(" ", "") if _SPACED_THOUSANDS.fullmatch(text) else text
    # Of several named values the names tell which is which; math_rules looks at those.
    text = _NAMED.sub("", text) if text.count("=") == 1 else text
    text = _FREE_SPACE.sub("", text)
    text = re.sub(r"\^\{(\w)\}", r"^\1", text.replace("**", "^"))
    text = r"\mathbb{R}" if _ALL_REALS.fullmatch(without_text_marks(text)) else text
    text = text.replace(r"\mathbb{R}", r"(-\infty,\infty)").replace(r"+\infty", r"\infty")
    return _in_digits(text.strip().rstrip("."))


def in_latex(answer: str) -> str:
    r"""An answer with LaTeX for Unicode's mathematics, and for spellings that mathematics does not have.

    >>> in_latex("√51 ≤ 2¹⁰"), in_latex(r"\bm{\color{red}{12}}"), in_latex(r"0.\overline{3}")
    ('\\sqrt{51} \\le  2^{10}', '12', '\\frac{3}{9}')
    """
    text = _SUPERSCRIPT.sub(lambda found: f"^{{{found[0].translate(_SUPERSCRIPTS)}}}", answer)
    text = _ROOT_SIGN.sub(r"\\sqrt{\1}", text)
    text = _without_styles(text.translate(_CHARACTERS).translate(_WIDE_DIGITS))
    text = _PRIMES.sub(lambda found: "'" * found[0].count("prime"), text)
    text = _LETTER_TIMES.sub(r"\\times ", _SLANTED.sub(r"\\\1", text))
    return _POWER_T.sub("e^{t}", _DEGREES.sub(_in_radians, _REPEATING.sub(_repeated, text)))


def _without_styles(text: str) -> str:
    position = 0
    while found := _STYLE.search(text, position):
        rest = text[found.end() :]
        end = _closing(rest)
        position = found.start()
        space = " " if text[:position][-1:].isalpha() else ""  # \pi\bm{r}
        text = text[:position] + space + (rest if end < 0 else rest[1:end] + rest[end + 1 :])
    return text


def _closing(text: str) -> int:
    """Where the brace that a text begins with is closed; -1: it begins with none, or nothing closes it."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return index or -1
    return -1


def _in_radians(found: re.Match[str]) -> str:
    r"""`\sin 22.5^\circ` with its angle as an exact multiple of pi; elsewhere a degree stays a unit."""
    function, bracket, whole, decimals = found.groups()
    angle = rf"\frac{{{int(whole + (decimals or ''))}\pi}}{{{180 * 10 ** len(decimals or '')}}}"
    return f"{function}{bracket}{angle}" if bracket else f"{function}({angle})"


def _repeated(found: re.Match[str]) -> str:
    r"""`0.\overline{3}` as a fraction, which is exact."""
    whole, plain, again = found.groups()
    numerator = int(whole + plain + again) - int((whole + plain) or 0)
    return rf"\frac{{{numerator}}}{{{'9' * len(again)}{'0' * len(plain)}}}"


def _in_digits(text: str) -> str:
    """A number or a number word that is the whole answer, and marked as text."""
    plain = without_text_marks(text) if _TEXT.fullmatch(text) or text.isalpha() else text
    if plain.isalpha():
        return _NUMBER_WORDS.get(plain.lower(), text)
    return text if words_of(text) else _FREE_SPACE.sub("", plain)


def _space_for(found: re.Match[str]) -> str:
    # Thin and negative spaces group digits (1,\!234); the other marks stand between things.
    return "" if found[0] in {r"\!", r"\,", "$", r"\(", r"\)", r"\[", r"\]"} else " "


def _group(token: str) -> str:
    return token if token.startswith("{") else "{" + token + "}"


def without_text_marks(text: str) -> str:
    r"""`\text{east}` as `east`."""
    previous = None
    while previous != text:
        previous, text = text, _TEXT.sub(r"\1", text)
    return text.strip()


def words_of(text: str) -> str | None:
    r"""An answer that is plain words (`\text{Friday}`, `No solution`), lower case; None for anything mathematical.

    A few letters without a text mark may be a variable or a product, and are no word here.
    """
    plain = r"\emptyset" if text == r"\emptyset" else without_text_marks(text)
    if plain == r"\emptyset" or _NO_SOLUTION.fullmatch(plain):
        return "no solution"
    is_marked = plain != text
    if not re.fullmatch(r"[A-Za-z][A-Za-z' -]*", plain):
        return None
    word = " ".join(plain.lower().split())
    return word if is_marked or len(word) >= _SHORTEST_WORD or word in _SHORT_WORDS else None


def split_list(text: str) -> list[str]:
    r"""Parts of a list at its outer commas, semicolons, `and`, `or`; braces of a set around the whole are taken off.

    A number with thousands commas is one part; `(1,2)` is one part, since its order counts.

    >>> split_list(r"1331\text{ and }1728"), split_list("1,234"), split_list(r"\{1,2\}"), split_list("(1,2)")
    (['1331', '1728'], ['1,234'], ['1', '2'], ['(1,2)'])
    """
    text = re.sub(r"\\(?:text|mathrm|mbox)\{\s*,?\s*(?:and|or)\s*\}|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])", ";", text)
    text = re.sub(r"^\\\{(.*)\\\}$", r"\1", text.strip())
    if is_thousands(text):
        return [text]
    return [part.strip() for part in _split_outer(text) if part.strip()]


def is_thousands(text: str) -> bool:
    """Whether the commas of a text group the digits of one number."""
    return re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text) is not None


def _split_outer(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character in ",;":
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]
