"""Signals of one query: each rule returns the piece of text that shows it, or None. Pure; which ones drop is policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from tasks.filter.config import ALL_DOMAINS, RulesConfig
from tasks.filter.reasons import DropReason
from tasks.filter.text import head, stem
from tasks.records import Query

Rule = Callable[[Query], str | None]

# Words without which a pattern cannot match: looking for them first halves the time of the rules.
_PICTURE_WORDS = (
    "figure",
    "diagram",
    "picture",
    "image",
    "drawing",
    "sketch",
    "illustration",
    "photo",
    "graph",
    "plot",
    "chart",
    "asy]",
    "<img",
    "![",
    "tikz",
    "{asy",
    "fig.",
)
_PROOF_WORDS = ("prove", "proof", "show that", "demonstrate that", "establish that")

_URL = re.compile(r"\b(?:https?|ftp)://[^\s<>\"')\]}]+|\bwww\.[\w-]+\.[a-z]{2,}[^\s<>\"')\]}]*", re.IGNORECASE)
_PICTURE = r"(?:figures?|diagrams?|pictures?|images?|drawings?|sketch|illustrations?|photos?|photographs?)"
_PLOT = r"(?:graphs?|plots?|charts?)"
_IMAGE = re.compile(
    r"<image[^>]*>|<img\b|\[image\]|!\[[^\]]*\]\([^)]*\)|\[/?asy\]|\\includegraphics|\\begin\{(?:tikzpicture|asy|figure)\}"
    r"|data:image/"
    rf"|\b(?:as\s+)?(?:shown|given|depicted|illustrated|pictured|labell?ed|indicated)\s+(?:in|on|by)\s+(?:the|this)\s+"
    rf"(?:\w+\s+){{0,2}}?(?:{_PICTURE}|{_PLOT})\b(?!\s+of\b)"
    rf"|\b(?:in|from|see|on|to|of)\s+(?:the|this)\s+(?:accompanying|attached|adjacent|following|above)\s+{_PICTURE}\b"
    rf"|\b(?:the|this)\s+(?:accompanying|attached|adjacent)\s+(?:{_PICTURE}|{_PLOT})\b"
    rf"|\bin\s+(?:the|this)\s+(?:figure|diagram)\b(?!\s+(?:of|out)\b)"
    rf"|\b{_PICTURE}\s+(?:is\s+|are\s+)?(?:below|above|shown|on\s+the\s+(?:left|right)|to\s+the\s+(?:left|right))\b"
    rf"|\b{_PLOT}\b[^.?!]{{0,60}}?\b(?:shown\b|(?:given|pictured|sketched|drawn|depicted)\s+(?:below|above|here)\b)"
    rf"|\b{_PLOT}\s+(?:below|above)(?=\s*[.,:;?]|\s+(?:shows|depicts|is))"
    r"|\b(?:see|refer to)\s+(?:the\s+)?(?:figure|diagram)\b"
    r"|(?-i:\bFig(?:ure|\.)\s*\d)",
    re.IGNORECASE,
)
_TABLE_WORDS = ("table", "chart below", "spreadsheet")
_TABLE = re.compile(
    r"\b(?:(?:in|from|see|using|use|of|by)\s+)?(?:the|this|a)\s+(?:\w+\s+){0,2}?tables?\s+(?:\w+\s+){0,2}?"
    r"(?:below|above|shows?|shown|gives?|lists?|summari[sz]es|presents|displays)\b"
    r"|\b(?:in|from|see|use|using|of|to)\s+(?:the|this)\s+(?:following|accompanying|given|attached|above)\s+tables?\b"
    r"|\bthe\s+(?:following|accompanying|attached)\s+tables?\s+(?:is|are|has)\b"
    r"|(?-i:\bTable\s+\d+(?:[.-]\d+)*\b)",
    re.IGNORECASE,
)
# What shows that a table is there: rows with bars, tabs or wide gaps, LaTeX, HTML, lists, or many numbers.
_TABLE_BODY = re.compile(
    r"\|.*\||\t|\\begin\{(?:tabular|array|[pbv]?matrix|align)|\\hline|<t[dr]\b|<table|&.*\\\\|\S {3,}\S.*\n.*\S {2,}\S"
    r"|\n\s*[-*\u2022]\s",
    re.IGNORECASE,
)
_TABLE_ROW = re.compile(r"^\s*\|.*\|\s*$|^[-+|=: ]{3,}$|^\s*[\d.,%$ \t|-]+$", re.MULTILINE)
# Two or three bytes of UTF-8 read as Latin-1 or Windows-1252: `Ã©`, `â€™`.
_MOJIBAKE = re.compile(
    r"[\u00c2\u00c3][\u0080-\u00bf\u2018-\u203a\u0152-\u0192\u02c6\u02dc\u20ac\u2122]"
    r"|\u00e2[\u0080-\u00bf\u20ac][\u0080-\u00bf\u2018-\u203a\u0152-\u0192\u02dc\u2122\u0153]|\u00ef\u00bf\u00bd"
)
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd\ufffe\uffff]|[\ud800-\udfff]")
_BLOB = re.compile(r"(?=[A-Za-z+/]*\d)(?=[\d+/]*[A-Z])[A-Za-z0-9+/]{200,}={0,2}|(?:\\x[0-9a-fA-F]{2}){16,}")
_CLAUSE = r"(?:^|[.?!:;,\n\])}$]|\b(?:and|then|hence|thus)\b)\s*(?:\(?[a-z0-9]{1,3}[.)]\s*)?"
_PROOF = re.compile(
    r"(?<!can )(?<!could )(?<!may )\b(?:prove|disprove)\s+(?:or\s+disprove\s+)?(?:that|the\s+following)\b"
    r"|\bprove\s+or\s+(?:disprove|refute)\b"
    rf"|{_CLAUSE}(?:please\s+)?(?:prove|disprove)\b(?!\s+(?:your|to|useful|helpful|difficult))"
    rf"|{_CLAUSE}(?:please\s+)?(?:show|demonstrate|establish)\s+that\b"
    r"|\b(?:give|write|provide|construct|find)\s+a\s+(?:\w+\s+)?proof\b",
    re.IGNORECASE,
)
_ASKS = re.compile(  # anywhere in a text
    r"\?|(?<![a-z])(?:what|which|who|whom|whose|when|where|why|how|find|compute|calculate|determine|evaluate|solve|"
    r"simplify|express|factor|expand|estimate|prove|show|give|state|(?:re)?write|convert|change|round|list|name|describe|"
    r"explain|derive|obtain|identify|count|draw|sketch|graph|verify|order|rank|choose|select|decide|rationalize|complete|"
    r"differentiate|integrate|construct|predict|classify|suggest|discuss|minimize|maximize|enter|provide|fill|answer|"
    r"whether)(?![a-z])|\(A\).*\(B\)",
    re.IGNORECASE | re.DOTALL,
)
_PART_ASKS = re.compile(  # at the start of a clause, so that a condition such as `each player who …` is none
    r"\?|(?:^|[.;,:]\s+|\bthen\s+|\band\s+)(?:please\s+)?(?:what|how\s+(?:many|much|long|far|fast|old)|find|compute|calculate|"
    r"determine|evaluate|solve|simplify|express|estimate|prove|show\s+that|sketch|derive|rewrite|convert|give)\b",
    re.IGNORECASE,
)
_LETTERS, _DIGITS = tuple("abcdefgh"), tuple("123456789")
_AT_START = r"(?:^|(?<=[\s.?!:;$]))"
_NAMED = r"\b(?:part|question|problem)\s+\(?({})\)?\s*[:.)]"
_MARKS = (
    (_LETTERS, re.compile(rf"{_AT_START}\(?([a-h])\)[\s:]")),
    (_DIGITS, re.compile(rf"{_AT_START}\(([1-9])\)[\s:]|(?:^|\n)\s*([1-9])[.)]\s")),
    (("i", "ii", "iii", "iv", "v", "vi"), re.compile(rf"{_AT_START}\(?(iii|ii|iv|vi|i|v)\)[\s:]")),
    (_LETTERS, re.compile(_NAMED.format("[a-h]"), re.IGNORECASE)),
    (_DIGITS, re.compile(_NAMED.format("[1-9]"), re.IGNORECASE)),
)
_WORD, _NUMBER = re.compile(r"[^\W\d_]+"), re.compile(r"\d+(?:[.,]\d+)*")
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}")
_SEVERAL_VALUES = re.compile(r"\w\$?\s*,\s*\$?\s*[\w\\]|\band\b")
_BREAKS_OFF = re.compile(
    r"(?:(?<!\\),|(?<!\^)[-+*/]|(?<![\\a-z])"
    r"(?:plus|minus|times|then|and|or|the|with|to|by|from|if|that|what|which|how|for|an|multiply|subtract|add))$",
    re.IGNORECASE,
)
_BLANK = re.compile(
    r"_{2,}|\\boxed\{\s*\}|\\square|\\underline|\\_|\(\s*\)|\\blank|\.\.\.|…|=\s*\$*\s*[.。]?\s*$|\bis\s*[:.]?\s*$",
    re.IGNORECASE,
)


def find_empty(query: Query) -> str | None:
    """No letter and no digit in the turn to answer."""
    return None if any(char.isalnum() for char in query.prompt) else repr(query.prompt[:40])


def find_url(query: Query) -> str | None:
    """A URL; the bare word `www` is none."""
    return _found(_URL, query.prompt, ("://", "www."))


def find_image(query: Query) -> str | None:
    """An image mark, figure code, or words that point at a figure (`figure out` and `the graph of f` do not)."""
    return _found(_IMAGE, query.prompt, _PICTURE_WORDS)


def find_table(query: Query) -> str | None:
    """Words that point at a table that is not there, or a table with no words around it.

    A passage that several questions share is no table, and neither is furniture.
    """
    text = query.prompt
    words = [word for word in _WORD.findall(_TABLE_ROW.sub("", text)) if len(word) > 1]
    if len(words) < 2 and _TABLE_BODY.search(text) and text.count("\n"):
        return f"a table and no question: {head(text, 60)}"
    pointed = _found(_TABLE, text, _TABLE_WORDS)
    return pointed if pointed and not _TABLE_BODY.search(text) and not _has_figures(text) else None


def find_non_text(query: Query) -> str | None:
    """Bytes that are no text: control and replacement characters, wrongly decoded UTF-8, or encoded binary."""
    text = query.prompt
    if broken := _NO_TEXT.findall(text):
        return f"{len(broken)} characters that are none, such as {broken[0]!a}"
    if blob := _BLOB.search(text):
        return f"encoded: {head(blob[0], 40)}"
    garbled = [] if text.isascii() else _MOJIBAKE.findall(text)
    return f"wrongly decoded: {' '.join(garbled[:5])}" if garbled else None


def find_proof(query: Query) -> str | None:
    """An order to prove; `show your work` and `it can be shown that` are none."""
    return None if query.choices else _found(_PROOF, stem(query), _PROOF_WORDS)


def find_multi_part(query: Query) -> str | None:
    """Two or more marks in order, (a) (b) or (1) (2) or (i) (ii), each followed by a question or an order; or two
    questions with a label of two values.

    Lists of conditions, equation tags, `f(a)`, and options of a multiple-choice query ask nothing and do not count.
    """
    if query.choices:
        return None
    for names, pattern in _MARKS:
        asked = [part for part in _parts(stem(query), names, pattern) if _PART_ASKS.search(part)]
        if len(asked) > 1:
            return " | ".join(head(part, 50) for part in asked)
    questions = re.findall(r"[^.?!]*\?", stem(query))
    several = len(questions) > 1 and _SEVERAL_VALUES.search(_BRACKETS.sub("", query.answer or ""))
    return " | ".join(head(question, 50) for question in questions) if several else None


def find_incomplete(query: Query) -> str | None:
    """The text breaks off (a comma or an open word at its end), leaves a LaTeX environment open, or asks nothing."""
    text = stem(query).rstrip(" $\\)]\n")
    if broken := _BREAKS_OFF.search(text):
        return f"ends with: {head(text[max(0, broken.start() - 40) :], 80)}"
    opened, closed = text.count("\\begin{"), text.count("\\end{")
    if opened != closed:
        return f"{opened} \\begin for {closed} \\end"
    if query.choices or _ASKS.search(text) or _BLANK.search(text):
        return None
    return f"asks nothing: {head(text[-60:])}"


def find_answer_missing(query: Query) -> str | None:
    """No ground truth, or a letter that names no option."""
    if query.answer is None or not query.answer.strip():
        return "no answer"
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(query.choices)]
    if query.choices and query.answer not in tuple(letters):
        return f"answer {query.answer} names none of {len(query.choices)} options"
    return None


def find_tests_missing(query: Query) -> str | None:
    """No tests, tests without a case, or inputs without the outputs to compare with."""
    tests = query.tests or {}
    if tests.get("asserts") or str(tests.get("code") or "").strip():
        return None
    inputs, outputs = tests.get("inputs") or (), tests.get("outputs") or ()
    if not inputs:
        return "no tests"
    return None if len(inputs) == len(outputs) else f"{len(inputs)} inputs for {len(outputs)} outputs"


def find_constraints_missing(query: Query) -> str | None:
    """No instruction that a rule can check."""
    return None if query.constraints else "no checkable instructions"


def find_too_long(query: Query, max_chars: int) -> str | None:
    """More characters over all turns than allowed."""
    length = sum(len(message.content) for message in query.messages)
    return f"{length} characters" if length > max_chars else None


_ORDER = {reason: number for number, reason in enumerate(DropReason)}
_RULES: dict[DropReason, Rule] = {
    DropReason.EMPTY: find_empty,
    DropReason.NON_TEXT: find_non_text,
    DropReason.URL: find_url,
    DropReason.IMAGE: find_image,
    DropReason.TABLE: find_table,
    DropReason.PROOF: find_proof,
    DropReason.MULTI_PART: find_multi_part,
    DropReason.INCOMPLETE: find_incomplete,
    DropReason.ANSWER_MISSING: find_answer_missing,
    DropReason.TESTS_MISSING: find_tests_missing,
    DropReason.CONSTRAINTS_MISSING: find_constraints_missing,
}


def find_signals(query: Query) -> dict[DropReason, str]:
    """Evidence for every rule that holds, whatever the domain, in the order of the reasons."""
    found = {reason: rule(query) for reason, rule in _RULES.items()}
    return {reason: evidence for reason, evidence in found.items() if evidence is not None}


def apply_policy(query: Query, found: Mapping[DropReason, str], config: RulesConfig) -> dict[DropReason, str]:
    """Evidence for what drops the query by this config; empty: it stays."""
    dropping = {DropReason.EMPTY: found[DropReason.EMPTY]} if DropReason.EMPTY in found else {}
    if too_long := find_too_long(query, config.max_prompt_chars):
        dropping[DropReason.TOO_LONG] = too_long
    chosen = {reason: text for reason, text in found.items() if query.domain in getattr(config, reason.value, ())}
    return dict(sorted((dropping | chosen).items(), key=lambda item: _ORDER[item[0]]))


def signals(query: Query, config: RulesConfig) -> dict[DropReason, str]:
    """Evidence for every rule that holds where the policy applies it, in the order of the reasons; empty: it stays."""
    rules = [reason for reason in _RULES if query.domain in getattr(config, reason.value, ALL_DOMAINS)]
    found = {reason: evidence for reason in rules if (evidence := _RULES[reason](query)) is not None}
    return apply_policy(query, found, config)


def _found(pattern: re.Pattern[str], text: str, needs: tuple[str, ...]) -> str | None:
    lower = text.lower()
    match = pattern.search(text) if any(word in lower for word in needs) else None
    if match is None:
        return None
    return head(match[0].strip(" \n.,;:?!"), 100) or head(match[0])


def _has_figures(text: str) -> bool:
    """Whether the text holds so many numbers that a table may have lost its lines."""
    return len(_NUMBER.findall(text)) >= 12


def _parts(text: str, names: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
    """Texts after the marks that are named `names`, as far as they come in order from the first."""
    marks: list[re.Match[str]] = []
    for match in pattern.finditer(text):
        name = next(group for group in match.groups() if group).lower()
        if len(marks) < len(names) and name == names[len(marks)]:
            marks.append(match)
    ends = [match.start() for match in marks[1:]] + [len(text)]
    return [text[match.end() : end].strip() for match, end in zip(marks, ends, strict=False)]
