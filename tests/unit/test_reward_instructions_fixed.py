"""Every mended checker: what upstream says, what is right, and that the plain cases stay as they are."""

from typing import Any

import pytest

from tasks.rewards.instruction_fixes import FIXES
from tasks.rewards.instruction_upstream import ConstraintError
from tasks.rewards.instructions import build

ENGLISH = "this is a short english sentence about the weather and the people who talk about it"
FIRST = {"first_word": "don't", "num_paragraphs": 2, "nth_paragraph": 2}

# id, arguments, text, whether it follows. Upstream says the opposite of each.
MENDED: list[tuple[str, dict[str, Any], str, bool]] = [
    ("change_case:english_capital", {}, "USE WEIRD LANGUAGE WHEN EXPLAINING USING MATHEMATICAL NOTATION.", True),
    ("change_case:english_capital", {}, "WHO WON THE DEFAMATION CASE BETWEEN AMBER HEARD AND JOHNNY DEPP?", True),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[] and [x] [link](url)", False),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "the tip.s. of the day", False),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "the end\nP.S.", False),
    ("detectable_format:constrained_response", {}, "My answer is yes. My answer is no.", False),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2},
     "Section 1\nsee Section 2", False),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b\n---\nend", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "* a\n-5 degrees", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "2 * 3 * 4", False),
    ("keywords:existence", {"keywords": ["tea"]}, "a team", False),
    ("keywords:existence", {"keywords": ["a.c"]}, "abc", False),
    ("keywords:forbidden_words", {"forbidden_words": ["e.g."]}, "so, e.g. this", False),
    ("keywords:frequency", {"relation": "at least", "keyword": "tea", "frequency": 2}, "tea for the team", False),
    ("keywords:letter_frequency", {"let_relation": "at least", "letter": "!", "let_frequency": 2}, "a!b!", True),
    ("language:response_language", {"language": "de"}, "12 + 30 = 42", False),
    ("length_constraints:nth_paragraph_first_word", FIRST, "One.\n\n\n\nDon't go.", True),
    ("length_constraints:nth_paragraph_first_word", FIRST, "One.\n\nDon't: go.", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "so ***very*** good", True),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "don't well-known", True),
]  # fmt: skip

# What both say.
PLAIN: list[tuple[str, dict[str, Any], str, bool]] = [
    ("change_case:english_capital", {}, ENGLISH.upper(), True),
    ("change_case:english_capital", {}, ENGLISH, False),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "Dear [name], of [place]", True),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "text\n\nP.P.S. more", True),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "text\nP. S. more", True),
    ("detectable_format:constrained_response", {}, "My answer is no.", True),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2},
     "SECTION 1 a\nSECTION 2 b", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 3}, "*a b* and **c** and *d*", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **", False),
    ("keywords:existence", {"keywords": ["Green", "tea"]}, "green tea", True),
    ("keywords:forbidden_words", {"forbidden_words": ["tea"]}, "a teapot", True),
    ("keywords:frequency", {"relation": "less than", "keyword": "tea", "frequency": 2}, "tea", True),
    ("keywords:letter_frequency", {"let_relation": "less than", "letter": "a", "let_frequency": 2}, "Aa", False),
    ("language:response_language", {"language": "en"}, ENGLISH, True),
    ("length_constraints:nth_paragraph_first_word", FIRST, "One.", False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", True),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "now three words", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs", "text", "is_followed"), MENDED)
def test_mended(name: str, kwargs: dict[str, Any], text: str, is_followed: bool) -> None:
    assert build(name, kwargs, "fixed")(text) is is_followed
    assert build(name, kwargs, "strict")(text) is not is_followed


@pytest.mark.parametrize(("name", "kwargs", "text", "is_followed"), PLAIN)
def test_plain_cases_stay(name: str, kwargs: dict[str, Any], text: str, is_followed: bool) -> None:
    assert build(name, kwargs, "fixed")(text) is is_followed
    assert build(name, kwargs, "strict")(text) is is_followed
    assert not build(name, kwargs, "fixed")("  ")


def test_every_mended_checker_has_a_case() -> None:
    assert {case[0] for case in MENDED} == set(FIXES)


def test_a_letter_is_one_character() -> None:
    follows = build(
        "keywords:letter_frequency", {"let_relation": "at least", "letter": "ab", "let_frequency": 1}, "fixed"
    )
    with pytest.raises(ConstraintError, match="one character"):
        follows("ab")
