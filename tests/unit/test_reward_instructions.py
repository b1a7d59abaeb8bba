"""IFEval's checkers by upstream's rules: every id of the benchmark, followed and broken, with Google's quirks."""

from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

from tasks.procedural.families import instruction
from tasks.records import Outcome
from tasks.rewards.instruction_upstream import ConstraintError, registry, sentence_tokenizer
from tasks.rewards.instructions import InstructionConfig, build, judge_instructions

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
    ("keywords:letter_frequency", {"let_relation": "at least", "letter": "B", "let_frequency": 2}, "a Bb", "ab"),
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
    follows = build(name, {**kwargs, "absent": None}, "strict")
    assert follows(good)
    assert not follows(bad)
    assert not follows("  ")


def test_every_checker_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(registry())


def test_strict_means_all_of_them() -> None:
    constraints = [{"id": "punctuation:no_comma", "kwargs": {}}, {"id": "startend:quotation", "kwargs": {}}]
    assert judge_instructions(constraints, '<think>a, b</think>"text"').outcome is Outcome.PASSED
    wrong = judge_instructions(constraints, '"one, two"')
    assert (wrong.outcome, wrong.score, wrong.detail) == (Outcome.WRONG, 0.0, "punctuation:no_comma")
    assert wrong.method == "instructions_strict"
    assert judge_instructions(constraints, "<think>only").outcome is Outcome.ANSWER_MISSING
    assert judge_instructions(constraints, "<think>a</think> ").score == 0.0


def test_one_instruction_twice_is_checked_twice() -> None:
    twice = [{"id": "keywords:existence", "kwargs": {"keywords": [word]}} for word in ("tea", "milk")]
    assert judge_instructions(twice, "milk").detail == "keywords:existence"
    assert judge_instructions(twice, "tea").detail == "keywords:existence"


def test_loose_forgives_a_first_line_and_stars() -> None:
    constraints = [{"id": "startend:quotation", "kwargs": {}}]
    response = 'Sure, here it is:\n"text"'
    assert judge_instructions(constraints, response).outcome is Outcome.WRONG
    assert judge_instructions(constraints, response, InstructionConfig(rules="loose")).outcome is Outcome.PASSED


def test_a_flood_of_text_follows_nothing() -> None:
    constraints = [{"id": "detectable_content:number_placeholders", "kwargs": {"num_placeholders": 1}}]
    assert judge_instructions(constraints, "[" * 1_000_000).outcome is Outcome.ANSWER_UNPARSEABLE


@pytest.mark.parametrize(
    ("name", "kwargs", "told"),
    [("made:up", {}, "made:up.*known: change_case"), ("count:word_count_range", {"min_words": 1}, "unknown"),
     ("keywords:existence", {}, "lacks.*keywords"), ("keywords:existence", {"keywords": []}, "lacks.*keywords"),
     ("length_constraints:number_words", {"relation": "about", "num_words": 3}, "relation"),
     ("punctuation:no_comma", {"num_commas": 3}, "num_commas"),
     ("language:response_language", {"language": "xx"}, "xx")],
)  # fmt: skip
def test_what_cannot_be_checked_is_told(name: str, kwargs: dict[str, Any], told: str) -> None:
    for response in ("text", "", "<think>only"):
        with pytest.raises(ConstraintError, match=told):
            judge_instructions([{"id": name, "kwargs": kwargs}], response)


def test_a_keyword_that_is_no_pattern_is_the_questions_fault_in_strict() -> None:
    constraints = [{"id": "keywords:existence", "kwargs": {"keywords": ["(a"]}}]
    with pytest.raises(ConstraintError, match=r"set rewards\.instructions.rules"):
        judge_instructions(constraints, "(a")
    assert judge_instructions(constraints, "(a", InstructionConfig(rules="fixed")).outcome is Outcome.PASSED


def test_nested_json_does_not_end_the_grader() -> None:
    constraints: list[dict[str, Any]] = [{"id": "detectable_format:json_format", "kwargs": {}}]
    assert judge_instructions(constraints, "[" * 40_000).outcome is Outcome.WRONG


def test_a_verdict_is_the_same_every_time_and_from_any_thread() -> None:
    mixed = "Guten Tag, this is un texte mixte, ni english oder deutsch."
    chosen = [
        {"id": "language:response_language", "kwargs": {"language": "en"}},
        {"id": "keywords:letter_frequency", "kwargs": {"let_relation": "at least", "letter": "#", "let_frequency": 3}},
    ]
    with ThreadPoolExecutor(8) as threads:
        verdicts = threads.map(lambda _: judge_instructions(chosen, mixed), range(40))
    assert len({(verdict.outcome, verdict.detail) for verdict in verdicts}) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [("One. Two! Three?", 3), ("Dr. Smith met Mr. Jones. They talked.", 2), ("It cost 3.50 dollars. Yes.", 2),
     ("no end", 1), ("", 0), ('He said "stop." Then he left.', 2), ("At 5 p.m. he left for the U.S. embassy.", 1)],
)  # fmt: skip
def test_sentences(text: str, count: int) -> None:
    assert len(sentence_tokenizer().tokenize(text)) == count


def test_procedural_solutions_follow_their_instructions() -> None:
    rng = Random(3)
    for _ in range(60):
        problem = instruction.make(rng)
        constraints = [{"id": i, "kwargs": k} for i, k in zip(problem.instruction_ids, problem.kwargs, strict=True)]
        verdict = judge_instructions(constraints, problem.solution.answer)
        assert verdict.outcome is Outcome.PASSED, (verdict.detail, problem.solution.answer)
