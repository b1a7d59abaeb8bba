"""Every family solves what it makes, from the text alone, and its answers are checked by other means."""

import operator
import re
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.procedural.families import (
    arithmetic,
    chat,
    code,
    comparison,
    equation,
    instruction,
    multiple_choice,
    units,
)
from tasks.procedural.families.arithmetic import ArithmeticRanges
from tasks.procedural.families.comparison import ComparisonRanges
from tasks.procedural.families.equation import EquationRanges
from tasks.procedural.families.problem import FamilyName, Problem, Solution, Style, numbers_in
from tasks.procedural.families.units import UnitRanges
from tasks.procedural.families.wording import canonical, reword
from tasks.procedural.layout import render_response
from tasks.procedural.solver import solve

Maker = Callable[[Random], Problem]
MATH_MAKERS: dict[FamilyName, Maker] = {
    FamilyName.ARITHMETIC: lambda rng: arithmetic.make(rng, ArithmeticRanges()),
    FamilyName.EQUATION: lambda rng: equation.make(rng, EquationRanges()),
    FamilyName.COMPARISON: lambda rng: comparison.make(rng, ComparisonRanges()),
    FamilyName.UNITS: lambda rng: units.make(rng, UnitRanges()),
}
MAKERS: dict[FamilyName, Maker] = {
    **MATH_MAKERS,
    FamilyName.CODE: code.make,
    FamilyName.MULTIPLE_CHOICE: multiple_choice.make,
    FamilyName.INSTRUCTION: instruction.make,
    FamilyName.CHAT: chat.make,
}
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize("family", MAKERS)
@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_a_family_solves_what_it_makes(family: FamilyName, seed: int) -> None:
    problem = MAKERS[family](Random(seed))
    assert solve(problem.prompt) == problem.solution
    assert problem.solution.family is family


@pytest.mark.parametrize("family", MAKERS)
def test_the_same_seed_makes_the_same_problems(family: FamilyName) -> None:
    first, second = Random(5), Random(5)
    assert [MAKERS[family](first) for _ in range(20)] == [MAKERS[family](second) for _ in range(20)]


@pytest.mark.parametrize("family", MATH_MAKERS)
@given(seed=seeds, num_changes=st.sampled_from([1, 2]))
@settings(max_examples=60, deadline=None)
def test_a_rewording_differs_and_has_the_same_numbers_and_answer(
    family: FamilyName, seed: int, num_changes: int
) -> None:
    rng = Random(seed)
    problem = MATH_MAKERS[family](rng)
    text = reword(problem.text, rng, num_changes)
    assert " ".join(text.lower().split()) != " ".join(problem.text.lower().split())
    assert numbers_in(text) == numbers_in(problem.text)
    assert canonical(text) == canonical(problem.text)
    assert solve(text) == problem.solution


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_chains_stay_in_range_and_their_steps_are_true(seed: int) -> None:
    problem = arithmetic.make(Random(seed), ArithmeticRanges(max_operations=4, max_value=999))
    value = numbers_in(problem.text)[0]
    for step in problem.solution.steps:
        left, symbol, right, result = re.fullmatch(r"(\d+)([-+*])(\d+)=(\d+)", step).groups()  # type: ignore[union-attr]
        assert int(left) == value
        value = OPERATORS[symbol](value, int(right))
        assert int(result) == value
        assert 0 <= value < 1000
    assert problem.solution.answer == str(value)
    assert 2 <= len(problem.solution.steps) <= 4


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_an_equation_holds_for_its_answer(seed: int) -> None:
    problem = equation.make(Random(seed), EquationRanges())
    left = re.search(r"(\d+)x ([-+]) (\d+) = (\d+)", problem.text)
    assert left is not None
    product = int(left[1]) * int(problem.solution.answer)
    assert OPERATORS[left[2]](product, int(left[3])) == int(left[4])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Start with 7, add 5, multiply by 2, subtract 3. What is the result?", "21"),
        ("Take 7. Add 5. Multiply by 2. What do you get?", "24"),
        ("Compute 7 plus 5, then times 2, then minus 3.", "21"),
        ("  BEGIN WITH 7,  ADD 5.  WHAT IS THE OUTCOME?\n", "12"),
        ("Solve for x: 3x + 4 = 19.", "5"),
        ("Let 3x - 4 = 5. What is x?", "3"),
        ("Which is larger, 37 or 52?", "52"),
        ("Which of 37 and 52 is smaller?", "37"),
        ("Convert 3 hours to minutes.", "180"),
        ("How many days are in 2 weeks?", "14"),
        ("What is 6 times 7?\nA. 13\nB. 42\nC. 41\nD. 67", "B"),
        ("What is 6 times 7?\n(A) 13\n(B) 41\n(C) 42\n(D) 67", "C"),
        ("What is 6 times 7?", "42"),
        ("Write a function plus_7(x) that returns x plus 7.", "def plus_7(x):\n    return x + 7"),
    ],
)
def test_known_answers(text: str, answer: str) -> None:
    solution = solve(text)
    assert solution is not None
    assert solution.answer == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Start with 7, add 5, multiply by",
        "Start with 7, add 5.",
        "Take 7. Add 5.",
        "Solve for x: 3x + 4 = 20.",  # x is no whole number
        "Solve for x: 3x + 4 =",
        "Which is larger, 5 or 5?",
        "Convert 3 hours to meters.",
        "What is 6 times 7?\nA. 1\nB. 2\nC. 3\nD. 4",  # no option is right
        "Write a function plus_7(x) that returns x plus 8.",
        "Write about cats. Use rhymes only.",
        "Prove that 7 + 5 = 12.",
        "Start with 7, add 5. What is the result? See https://example.com/page/1.",
    ],
)
def test_what_is_no_complete_question_is_not_solved(text: str) -> None:
    assert solve(text) is None


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_references_pass_their_tests_and_slips_fail_them(seed: int) -> None:
    rng = Random(seed)
    problem = code.make(rng)
    assert _passes(problem.solution.answer, problem.tests)
    assert not _passes(problem.solution.with_slip(rng).answer, problem.tests)


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_multiple_choice_can_be_asked_without_its_options(seed: int) -> None:
    problem = multiple_choice.make(Random(seed))
    assert len(set(problem.options)) == 4
    assert multiple_choice.stem_of(problem.prompt) == problem.text
    fact = solve(problem.text)
    assert fact is not None
    assert problem.options["ABCD".index(problem.solution.answer)] == fact.answer


CHECKS: dict[str, Callable[..., bool]] = {
    "punctuation:no_comma": lambda reply: "," not in reply,
    "change_case:english_lowercase": lambda reply: reply.islower(),
    "keywords:existence": lambda reply, keywords: all(re.search(word, reply, re.IGNORECASE) for word in keywords),
    "length_constraints:number_words": lambda reply, relation, num_words: (
        relation == "at least" and len(re.findall(r"\w+", reply)) >= num_words
    ),
    "startend:end_checker": lambda reply, end_phrase: reply.strip().strip('"').lower().endswith(end_phrase.lower()),
    "startend:quotation": lambda reply: len(reply) > 1 and reply[0] == reply[-1] == '"',
    "detectable_format:title": lambda reply: bool(re.search(r"<<[^\n]+>>", reply)),
}


@given(seed=seeds)
@settings(max_examples=200, deadline=None)
def test_replies_keep_their_instructions_and_slips_break_them(seed: int) -> None:
    problem = instruction.make(Random(seed))
    wishes = list(zip(problem.instruction_ids, problem.kwargs, strict=True))
    assert all(CHECKS[name](problem.solution.answer, **kwargs) for name, kwargs in wishes)
    slip = problem.solution.with_slip(Random(0)).answer
    assert not any(CHECKS[name](slip, **kwargs) for name, kwargs in wishes)


@given(seed=seeds, family=st.sampled_from([name for name in MAKERS if name is not FamilyName.CHAT]))
@settings(max_examples=100, deadline=None)
def test_a_slip_changes_the_answer(seed: int, family: FamilyName) -> None:
    rng = Random(seed)
    solution = MAKERS[family](rng).solution
    slip = solution.with_slip(rng)
    assert slip.answer != solution.answer
    if family in MATH_MAKERS:
        assert int(slip.answer) >= 0
        assert slip.steps[:-1] == solution.steps[:-1]


def test_the_layout_is_one() -> None:
    solution = solve("Start with 7, add 5, multiply by 2, subtract 3. What is the result?")
    assert solution is not None
    assert solution.render(Style.DIRECT) == "<think>\n</think>\n<answer>\n\\boxed{21}\n</answer>"
    assert solution.render(Style.STEPS) == (
        "<think>\n7+5=12\n12*2=24\n24-3=21\n</think>\n<answer>\n\\boxed{21}\n</answer>"
    )
    function = Solution(FamilyName.CODE, (), "def f(x):\n    return x")
    assert function.render(Style.DIRECT) == render_response((), "```python\ndef f(x):\n    return x\n```")


def test_ranges_refuse_what_cannot_be_drawn() -> None:
    with pytest.raises(ValidationError, match="swap them"):
        ArithmeticRanges(min_start=9, max_start=3)
    with pytest.raises(ValueError, match="raise max_value"):
        arithmetic.make(Random(0), ArithmeticRanges(min_start=9, symbols=("+",), min_term=9, max_value=10))


def _passes(source: str, tests: tuple[str, ...]) -> bool:
    scope: dict[str, object] = {}
    try:
        exec("\n".join([source, *tests]), scope)
    except AssertionError:
        return False
    return True
