"""The gist of a question: numbers however they are spelled, opposites, options, and what speaks against a likeness."""

import doctest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.filter import semantic_text
from tasks.filter.semantic_text import contradiction, gist_of, in_digits, plain
from tasks.records import Domain, Message, Query
from tests.integration.paraphrases import spell


def ask(text: str, **fields: Any) -> Query:
    defaults: dict[str, Any] = {"id": text[:20], "domain": Domain.MATH, "source": "toy", "answer": "5"}
    return Query(messages=(Message(role="user", content=text),), **(defaults | fields))


def objection(ours: str, theirs: str, strictly: bool = True) -> str | None:
    return contradiction(gist_of(ask(ours)), gist_of(ask(theirs)), strictly)


def test_the_examples_of_the_docstrings_hold() -> None:
    assert doctest.testmod(semantic_text).failed == 0


@given(st.integers(0, 9999))
def test_every_number_in_words_is_the_number(number: int) -> None:
    assert in_digits(f"it has {spell(number)} parts") == f"it has {number} parts"


@given(st.text(max_size=60))
def test_plain_text_stays_as_it_is(text: str) -> None:
    once = plain(text)
    assert in_digits(once) == once


@pytest.mark.parametrize(
    ("formula", "read_aloud"),
    [
        ("$x^2 + 3$", "x squared plus three"),
        ("\\dfrac{1}{2} of 3,000", "1/2 of three thousand"),
        ("$2 \\cdot 7 = 14$", "two times seven equals fourteen"),
        ("10\\% of 2.50", "ten percent of 2.5"),
        ("$5 \\leq x$", "5 at most x"),
    ],
)
def test_a_formula_and_its_reading_are_one_text(formula: str, read_aloud: str) -> None:
    assert plain(formula).split() == plain(read_aloud).split()


def test_numbers_are_told_in_digits_words_and_fractions() -> None:
    gist = gist_of(ask("Twice, three of 2 dozen eggs, one half of $\\frac{3}{4}$"))
    assert gist.numbers == ("2", "3", "2", "12", "2", "3", "4")
    assert gist.hidden == {"12"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Solve x+3=20.", "Solve x+3=21."),
        ("Start with 9, add 7, subtract 2.", "Start with 9, subtract 7, add 2."),
        ("Convert 50 days to hours.", "Convert 50 hours to minutes."),
        ("Find the largest number of a list.", "Find the smallest number of a list."),
        ("Find the sum of the even numbers.", "Find the sum of the odd numbers."),
        ("Find the first repeated character.", "Find the first non-repeated character."),
        ("Change a camel case string to a snake case string.", "Change a snake case string to a camel case string."),
        ("Tell who ruled in the city of Rome then.", "Tell who ruled in the city of Athens then."),
        ("Find the area of the circle.", "Find the area of the square."),
    ],
)
def test_the_template_trap(ours: str, theirs: str) -> None:
    assert objection(ours, theirs) is not None
    assert objection(theirs, ours) is not None
    assert objection(ours, ours) is None


def test_a_rewording_meets_no_objection() -> None:
    theirs = "Tom has 3 apples and buys 4 bags of 12 apples. How many apples has Tom?"
    assert objection("Four bags of a dozen apples are bought by Ann, who has three.", theirs, strictly=False) is None
    assert objection("Four bags of a dozen apples are bought by Ann, who has three.", theirs) is not None
    assert objection("Ann, with three apples, buys four bags of twelve. How many has she?", theirs) is None


def test_options_are_compared_as_a_set_and_a_letter_is_its_option() -> None:
    fields: dict[str, Any] = {"domain": Domain.SCIENCE, "choices": ("iron", "gold", "lead"), "answer": "B"}
    ours = gist_of(ask("Which metal of these is dear?", **fields))
    turned = gist_of(
        ask("Which metal of these is dear?", **fields | {"choices": ("gold", "lead", "iron"), "answer": "A"})
    )
    other = gist_of(ask("Which metal of these is dear?", **fields | {"choices": ("tin", "zinc", "iron")}))
    assert ours.answer == turned.answer == "gold"
    assert contradiction(ours, turned, strictly=True) is None
    assert contradiction(ours, other, strictly=False) == "other options"


def test_an_answer_that_says_little_is_none() -> None:
    given_ = ("Yes", "1", None, " 0.50 ", "$\\frac{1}{2}$")
    answers = [gist_of(ask("What?", answer=answer)).answer for answer in given_]
    assert answers == [None, None, None, "1/2", "1/2"]


def test_dialogs_are_one_text_and_need_equal_turns() -> None:
    turns = tuple(
        Message(role=role, content=text) for role, text in (("user", "Who?"), ("assistant", "I."), ("user", "Why?"))
    )
    dialog = gist_of(ask("x").model_copy(update={"messages": turns}))
    assert (dialog.text, dialog.turns) == ("who? why", 2)
    assert contradiction(dialog, gist_of(ask("Who? Why?")), strictly=False) == "other turns"
