"""Checkers of IFEval that say what their instruction says, where upstream's are known to be wrong.

A model that is rewarded learns what a checker misses, so training takes these; published numbers take upstream's.
Each says in its docstring what upstream does instead. Ids that are not here are right as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tasks.rewards.instruction_upstream import ConstraintError, Kwargs

_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_WORD = re.compile(r"\w+(?:[-'’]\w+)*")
_BULLET = re.compile(r"^[ \t]*[*+-][ \t]+\S")
_RULE = re.compile(r"^[ \t]*([*-])(?:[ \t]*\1){2,}[ \t]*$")
_HIGHLIGHT = re.compile(r"(?<![*\w])(\*{1,3})(?=[^\s*])[^\n*]*(?<=[^\s*])\1(?!\*)")
_PLACEHOLDER = re.compile(r"\[(?![ xX]?\])[^\[\]\n]+\](?!\()")
_DIVIDER = re.compile(r"(?<!\S)\*\*\*(?!\S)")


def _meets(relation: str, count: int, threshold: int) -> bool:
    return count < threshold if relation == "less than" else count >= threshold


def _num_words_like(word: str, text: str) -> int:
    """Whole words, marks and all; upstream takes it for a pattern, and finds `tea` in `team`."""
    return len(re.findall(rf"(?<!\w){re.escape(word.strip())}(?!\w)", text, flags=re.IGNORECASE))


def has_keywords(text: str, k: Kwargs) -> bool:
    """All keywords, as whole words. Upstream: patterns, within words too."""
    return all(_num_words_like(word, text) for word in k["keywords"])


def keyword_frequency(text: str, k: Kwargs) -> bool:
    """How often the word is there, as a whole word. Upstream: pattern, within words too."""
    return _meets(k["relation"], _num_words_like(k["keyword"], text), k["frequency"])


def lacks_words(text: str, k: Kwargs) -> bool:
    r"""None of the words. Upstream puts `\b` around a pattern, which never matches one that ends in a mark (`C++`)."""
    return not any(_num_words_like(word, text) for word in k["forbidden_words"])


def letter_frequency(text: str, k: Kwargs) -> bool:
    """Any one character. Upstream counts a random letter where it is no letter of a to z (two of IFEval's prompts)."""
    if len(k["letter"]) != 1:
        raise ConstraintError(f"keywords:letter_frequency: letter {k['letter']!r}; give one character")
    return _meets(k["let_relation"], text.lower().count(k["letter"].lower()), k["let_frequency"])


def response_language(text: str, k: Kwargs) -> bool:
    """Upstream lets a text pass that shows no language, such as digits alone."""
    return bool(detect_language(text) == k["language"])


def english_capital(text: str, _: Kwargs) -> bool:
    """Upstream asks for the language of the capitals, which are often taken for German; and see `response_language`."""
    return text.isupper() and detect_language(text) == "en"


def detect_language(text: str) -> str | None:
    """Two-letter code; None where the text has nothing to tell it by. Upstream's loading has set the seed."""
    import langdetect  # type: ignore[import-untyped]

    try:
        return str(langdetect.detect(text.lower()))
    except langdetect.LangDetectException:
        return None


def num_words(text: str, k: Kwargs) -> bool:
    """`don't` and `well-known` are one word each. Upstream: two."""
    return _meets(k["relation"], len(_WORD.findall(text)), k["num_words"])


def nth_paragraph_first_word(text: str, k: Kwargs) -> bool:
    """Upstream counts filled paragraphs but looks up among all, and cuts the word at an apostrophe, not at a colon."""
    paragraphs = [paragraph for paragraph in re.split(r"\n\n", text) if paragraph.strip()]
    nth = k["nth_paragraph"]
    if len(paragraphs) != k["num_paragraphs"] or not 1 <= nth <= len(paragraphs):
        return False
    found = re.search(r"\w+(?:[-'’]\w+)*", paragraphs[nth - 1].split()[0])
    return found is not None and found[0].lower() == k["first_word"].lower()


def num_paragraphs(text: str, k: Kwargs) -> bool:
    """A divider stands alone. Upstream finds one within `***bold***` and `******`."""
    paragraphs = [paragraph.strip() for paragraph in _DIVIDER.split(text)]
    inner, filled = paragraphs[1:-1], [paragraph for paragraph in paragraphs if paragraph]
    return all(inner) and len(filled) == k["num_paragraphs"]


def num_sections(text: str, k: Kwargs) -> bool:
    """A mark begins a line. Upstream counts `see Section 2` within a sentence, and takes the mark for a pattern."""
    mark = rf"^[ \t#*_>]*{re.escape(k['section_spliter'].strip())}[ \t]*\d+"
    return bool(len(re.findall(mark, text, flags=re.MULTILINE)) >= k["num_sections"])


def num_bullets(text: str, k: Kwargs) -> bool:
    """A mark, then space. Upstream counts rules (`---`), `-5` and lines that begin with `*emphasis*`."""
    lines = text.splitlines()
    return bool(sum(bool(_BULLET.match(line)) and not _RULE.match(line) for line in lines) == k["num_bullets"])


def num_highlights(text: str, k: Kwargs) -> bool:
    """Stars around text without space inside. Upstream finds one between the bullets of a line, or in `2 * 3 * 4`."""
    return bool(len(_HIGHLIGHT.findall(text)) >= k["num_highlights"])


def num_placeholders(text: str, k: Kwargs) -> bool:
    """Something in the brackets, and no link or tick box. Upstream counts `[]`, `[x]` and `[text](url)`."""
    return bool(len(_PLACEHOLDER.findall(text)) >= k["num_placeholders"])


def has_postscript(text: str, k: Kwargs) -> bool:
    """It begins a line, and says something. Upstream finds `p.s.` anywhere, also in `tips.s.`, and without a text."""
    letters = re.findall(r"\w", k["postscript_marker"])
    mark = r"\.?\s?".join(re.escape(letter) for letter in letters)
    return re.search(rf"^[ \t*_>#]*{mark}\b[^\w\n]*\w", text, flags=re.MULTILINE | re.IGNORECASE) is not None


def one_option(text: str, _: Kwargs) -> bool:
    """One of the options. Upstream lets a response pass that says all three."""
    return sum(option in text for option in _OPTIONS) == 1


FIXES: dict[str, Callable[[str, Kwargs], bool]] = {
    "change_case:english_capital": english_capital,
    "detectable_content:number_placeholders": num_placeholders,
    "detectable_content:postscript": has_postscript,
    "detectable_format:constrained_response": one_option,
    "detectable_format:multiple_sections": num_sections,
    "detectable_format:number_bullet_lists": num_bullets,
    "detectable_format:number_highlighted_sections": num_highlights,
    "keywords:existence": has_keywords,
    "keywords:forbidden_words": lacks_words,
    "keywords:frequency": keyword_frequency,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "length_constraints:number_paragraphs": num_paragraphs,
    "length_constraints:number_words": num_words,
}
