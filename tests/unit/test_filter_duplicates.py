"""Exact duplicates and rewordings go; template-near questions stay."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.filter.config import DedupConfig
from tasks.filter.dedup import Judged, exact_key, judge_duplicates
from tasks.filter.reasons import DropReason
from tasks.filter.text import normalise, signature, words
from tasks.records import Domain, Message, Query

NEAR = DedupConfig(near_duplicates=True)


def ask(name: str, text: str, **fields: Any) -> Query:
    defaults: dict[str, Any] = {"id": name, "domain": Domain.MATH, "source": "toy", "answer": "5"}
    return Query(messages=(Message(role="user", content=text),), **(defaults | fields))


def judged(*queries: Query, config: DedupConfig = NEAR) -> list[Judged]:
    return list(judge_duplicates(queries, config))


def is_kept(first: str, second: str, answers: tuple[str, str] = ("5", "5")) -> bool:
    queries = [
        ask(str(n), text, answer=answer) for n, (text, answer) in enumerate(zip((first, second), answers, strict=True))
    ]
    return judged(*queries)[1].duplicate is None


@pytest.mark.parametrize(
    "text",
    [
        "What is 2 + 3?",
        "WHAT IS 2 + 3",
        "  What  is\n2 + 3 ? ",
        "“What is 2 + 3?”",
        "What is \uff12 + 3?",
    ],  # full-width 2
)
def test_case_spacing_width_and_end_marks_do_not_matter(text: str) -> None:
    found = judged(ask("a", "What is 2 + 3?"), ask("b", text), config=DedupConfig())[1].duplicate
    assert found is not None
    assert found.reason is DropReason.DUPLICATE
    assert found.evidence == "repeats a of toy"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("What is 5²?", "What is 52?"),
        ("What is a₁ + 1?", "What is a1 + 1?"),
        ("What is 5!", "What is 5"),
        ("Is 2½ an integer?", "Is 21/2 an integer?"),
        ("What is -3 + 2?", "What is 3 + 2?"),
    ],
)
def test_marks_that_mean_something_are_kept(first: str, second: str) -> None:
    assert normalise(first) != normalise(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Solve x + 3 = 20.", "Solve x + 3 = 21."),
        (
            "Start with 7, add 5, subtract 2. What is the result?",
            "Start with 7, subtract 5, add 2. What is the result?",
        ),
        ("Tom has 3 apples and Ann has 5. Who has more?", "Tom has 5 apples and Ann has 3. Who has more?"),
        ("Find the larger of 3 and 5.", "Find the smaller of 3 and 5."),
        ("What is 12 times 3?", "What is 12 plus 3?"),
        ("Solve x^2 + 3 = 4.", "Solve x^3 + 2 = 4."),
        ("How many cats like dogs?", "How many dogs like cats?"),
        ("Convert 52 hours to minutes.", "Convert 52 minutes to seconds."),
    ],
)
def test_template_near_questions_stay_even_with_equal_answers(first: str, second: str) -> None:
    assert is_kept(first, second)


def test_the_same_numbers_in_another_role_stay() -> None:
    story = "Tom has 3 apples and Ann has 5 apples. How many apples has {}?"
    assert is_kept(story.format("Tom"), story.format("Ann"), answers=("3", "5"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Compute 6 minus 2, then plus 15.", "Calculate 6 minus 2, then plus 15."),
        ("Find $x$ if \\(2x - 7 = 5\\).", "Determine x if 2x - 7 = 5."),
        ("Which is larger, 37 or 52?", "Say which is bigger, 37 or 52?"),
        ("How many squares below $2023$ divide $\\dfrac{1}{2}$?", "How many squares below 2023 divide \\frac12 ?"),
    ],
)
def test_rewordings_go(first: str, second: str) -> None:
    found = judged(ask("a", first), ask("b", second))[1].duplicate
    assert found is not None
    assert found.reason is DropReason.NEAR_DUPLICATE
    assert found.evidence.startswith("repeats a of toy; words ")
    assert judged(ask("a", first), ask("b", second), config=DedupConfig())[1].duplicate is None


def test_no_rewording_without_a_telling_answer() -> None:
    first, second = "Is it true that 7 is prime and odd?", "Is it true that 7 is even and odd?"
    assert is_kept(first, second, answers=("yes", "yes"))
    queries = [ask("a", first, answer=None), ask("b", second, answer=None)]
    assert judged(*queries)[1].duplicate is None


def test_the_keeper_is_the_first_and_different_answers_are_told() -> None:
    rows = [ask("a", "1+1?", source="good"), ask("b", "1 + 1"), ask("c", "1+1?", answer="6"), ask("d", "1+1")]
    found = judged(*rows, config=DedupConfig())
    assert [each.duplicate is None for each in found] == [True, True, False, False]
    assert found[2].duplicate is not None
    assert found[2].duplicate.evidence == "repeats a of good; answers differ: 5 ≠ 6"


def test_dialogs_differ_by_their_history_and_code_by_its_case() -> None:
    turns = (Message(role="user", content="Hi"), Message(role="assistant", content="Hello"))
    short = ask("a", "Who are you?")
    long = short.model_copy(update={"messages": (*turns, *short.messages)})
    assert exact_key(short) != exact_key(long)
    codes = [
        ask(name, f"Count the letter '{letter}'.", domain=Domain.CODE) for name, letter in (("a", "x"), ("b", "X"))
    ]
    assert exact_key(codes[0]) != exact_key(codes[1])


def test_signature_orders_numbers_and_operators() -> None:
    assert signature(words("Take 7, add 5 and multiply by 2.")) == ("7", "add", "5", "multiply", "2")
    assert signature(words("$3x + 4 = \\frac{1}{2}$")) == ("3", "+", "4", "=", "\\frac", "1", "2")
    assert signature(words("no number, only more")) == ()


TEXTS = st.lists(
    st.tuples(
        st.sampled_from(["Add 1 to 2.", "add 1 to 2", "Add 2 to 1.", "Kindly add 1 to 2.", "Hi"]), st.sampled_from("35")
    ),
    max_size=12,
)


@settings(deadline=None)
@given(TEXTS, st.booleans())
def test_every_query_is_judged_once_in_order_and_a_second_pass_drops_nothing(
    rows: list[tuple[str, str]], near: bool
) -> None:
    config = DedupConfig(near_duplicates=near)
    queries = [ask(str(n), text, answer=answer) for n, (text, answer) in enumerate(rows)]
    first = judged(*queries, config=config)
    assert [each.query for each in first] == queries
    kept = [each.query for each in first if each.duplicate is None]
    assert all(each.duplicate is None for each in judged(*kept, config=config))
    keepers = {query.id for query in kept}
    dropped = [each for each in first if each.duplicate]
    for each in dropped:
        assert each.duplicate is not None
        keeper = each.duplicate.evidence.split()[1]
        assert keeper in keepers
        assert int(keeper) < int(each.query.id)
    assert not queries or queries[0] in kept
