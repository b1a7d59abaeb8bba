"""IFEval's checkers: every id of the benchmark, followed and broken, with Google's quirks."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tasks.procedural.families import instruction
from tasks.records import Outcome
from tasks.rewards.instruction_text import count_sentences
from tasks.rewards.instructions import CHECKERS, ConstraintError, follows, judge_instructions

IFEVAL = Path(__file__).resolve().parents[2].parent / "shared/data/benchmarks/ifeval.jsonl"
ENGLISH = "this is a short english sentence about the weather and the people who talk about it"

# id, arguments, a text that follows, a text that does not.
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 2}, "I SAY", "I say"),
    ("change_case:capital_word_frequency", {"capital_relation": "less than", "capital_frequency": 2}, "I say", "I SAY"),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
    ("change_case:english_lowercase", {}, ENGLISH, ENGLISH.capitalize()),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. It.", "It. Say it."),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:two_responses", {}, "******one******two******", "one****** ******two"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] and [place]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "text\nP. S. more", "text"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "text\np.p.s. more", "text P.S. more"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "My answer: maybe"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:multiple_sections", {"section_spliter": "PART", "num_sections": 2}, "PART 1 a\nPART 2 b",
     "PART 1 a"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and **"),
    ("detectable_format:title", {}, "<<A title>>\ntext", "<< >>\ntext"),
    ("keywords:existence", {"keywords": ["Green", "tea"]}, "green teapot", "green"),
    ("keywords:forbidden_words", {"forbidden_words": ["tea"]}, "a teapot", "Tea, please"),
    ("keywords:frequency", {"relation": "at least", "keyword": "tea", "frequency": 2}, "tea and Teapots", "tea"),
    ("keywords:frequency", {"relation": "less than", "keyword": "tea", "frequency": 2}, "tea", "tea tea"),
    ("keywords:letter_frequency", {"let_relation": "at least", "letter": "!", "let_frequency": 2}, "a!b!", "a!"),
    ("language:response_language", {"language": "de"}, "Das ist ein Satz in deutscher Sprache, nicht mehr.", ENGLISH),
    ("length_constraints:nth_paragraph_first_word", {"first_word": "so", "num_paragraphs": 2, "nth_paragraph": 2},
     "a\n\n\"So,\" he said", "so\n\na"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n***\nb\n***\nc"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "a", "a *** b"),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}, "One. Two.", "One, two."),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "two words", "now three words"),
    ("punctuation:no_comma", {}, "none here", "one, here"),
    ("startend:end_checker", {"end_phrase": "Is that all?"}, 'text "is that all?"', "Is that all? Yes"),
    ("startend:quotation", {}, ' "text" ', '"text'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_checkers(name: str, kwargs: dict[str, Any], good: str, bad: str) -> None:
    assert follows(name, {**kwargs, "absent": None}, good)
    assert not follows(name, kwargs, bad)
    assert not follows(name, kwargs, "  ")


def test_every_checker_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(CHECKERS)


def test_strict_means_all_of_them() -> None:
    constraints = [{"id": "punctuation:no_comma", "kwargs": {}}, {"id": "startend:quotation", "kwargs": {}}]
    assert judge_instructions(constraints, '<think>a, b</think>"text"').outcome is Outcome.PASSED
    wrong = judge_instructions(constraints, '"one, two"')
    assert (wrong.outcome, wrong.score, wrong.detail) == (Outcome.WRONG, 0.0, "punctuation:no_comma")
    assert judge_instructions(constraints, "<think>only").outcome is Outcome.ANSWER_MISSING
    assert judge_instructions(constraints, "<think>a</think> ").score == 0.0


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("made:up", {}), ("keywords:existence", {}),
     ("length_constraints:number_words", {"relation": "about", "num_words": 3})],
)  # fmt: skip
def test_what_cannot_be_checked_is_told(name: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConstraintError, match=name if name == "made:up" else "relation|keywords"):
        follows(name, kwargs, "text")


@pytest.mark.parametrize(
    ("text", "count"),
    [("One. Two! Three?", 3), ("Dr. Smith met Mr. Jones. They talked.", 2), ("It cost 3.50 dollars. Yes.", 2),
     ("no end", 1), ("", 0), ('He said "stop." Then he left.', 2), ("A list:\n1. First item.\n2. Second item.", 3)],
)  # fmt: skip
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count


@pytest.mark.skipif(not IFEVAL.exists(), reason="the shared data folder is not there")
def test_every_instruction_of_ifeval_can_be_checked() -> None:
    rows = [json.loads(line) for line in IFEVAL.read_text(encoding="utf-8").splitlines()]
    pairs = [pair for row in rows for pair in zip(row["instruction_id_list"], row["kwargs"], strict=True)]
    slow = ("language:", "change_case:english")  # and tested above
    checkable = [pair for pair in pairs if not pair[0].startswith(slow)]
    assert len(pairs) == 834
    assert all(follows(name, kwargs, "Some text.") in {True, False} for name, kwargs in checkable)


def test_procedural_solutions_follow_their_instructions() -> None:
    rng = Random(3)
    for _ in range(60):
        problem = instruction.make(rng)
        constraints = [{"id": i, "kwargs": k} for i, k in zip(problem.instruction_ids, problem.kwargs, strict=True)]
        verdict = judge_instructions(constraints, problem.solution.answer)
        assert verdict.outcome is Outcome.PASSED, (verdict.detail, problem.solution.answer)
