"""Boxes, labels and phrases: where an answer stands, in time that is linear in the text, however hostile it is."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rewards.extract import answer_part, boxes, last_box, last_label
from tasks.rewards.math_answer import find_answers, last_number, phrased_answer
from tasks.rewards.math_guard import clean
from tasks.rewards.math_policy import BoxPolicy, Fallback

# Half a megabyte each: what took seconds or minutes where a pattern went back over its text.
HOSTILE = {
    "boxes that never close": r"\boxed{" * 70_000,
    "boxes in boxes": r"\boxed{" * 70_000 + "}" * 70_000,
    "braces": "{" * 500_000,
    "closed braces": "}" * 250_000 + r"\boxed{1}" * 20_000,
    "backslashes": "\\" * 500_000,
    "answer tags": "<answer>" * 60_000,
    "closing tags": "</answer>" * 50_000 + "<answer>" * 10_000,
    "thinking tags": "</think>" * 60_000,
    "labels": "#### " * 100_000,
    "a label and spaces": "#### x" + " " * 500_000 + "y",
    "phrases": "the answer is " * 35_000,
    "half phrases": "answer to the " * 35_000,
    "stars": "answer" + "*" * 500_000,
    "digits": "1" * 500_000,
    "grouped digits": "1,111" * 100_000,
    "fractions": r"\frac{-" * 70_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_no_longer_than_another(name: str) -> None:
    started = time.process_time()
    for policy in BoxPolicy:
        find_answers(HOSTILE[name], policy, tuple(Fallback))
    for part in (last_box, last_label, phrased_answer, last_number, answer_part):
        part(HOSTILE[name])
    assert time.process_time() - started < 10  # measured: below 1.5 s; going back over the text takes minutes


@given(st.text(alphabet="\\boxed{}<think>/ 1", max_size=60))
def test_any_text_has_boxes_or_none(text: str) -> None:
    assert all(box == box.strip() and box in text for box in boxes(text))


@given(st.text(alphabet="ab1{}", max_size=20).filter(lambda t: t.count("{") == t.count("}") and "}{" not in t))
def test_balanced_content_comes_back(content: str) -> None:
    depth = [content[:end].count("{") - content[:end].count("}") for end in range(len(content) + 1)]
    if min(depth) >= 0:
        assert boxes(rf"x \boxed{{{content}}} y") == [content]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{1} or \boxed{2}", ["1", "2"]),
        (r"\boxed{\boxed{2}}", ["2"]),
        (r"\boxed{1 \boxed{2} 3} \boxed{4}", ["2", "4"]),
        (r"\boxed{1", []),
        (r"\boxed{1}} \boxed{2}", ["1", "2"]),
        (r"\boxed {1}", ["1"]),
        (r"\boxedtext{1}", []),
        (r"line \\ \boxed{1}", ["1"]),
        (r"line \\\boxed{1}", ["1"]),
    ],
)
def test_boxes(text: str, expected: list[str]) -> None:
    assert boxes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 5.", "5"),
        ("The answer to the question is: **x = 2**", "x = 2"),
        ("Answer: 1,234", "1,234"),
        ("the answer is $\\frac{1}{2}$, because it is", r"\frac{1}{2}"),
        ("The result equals 2.50.", "2.50"),
        ("I have no answer.", None),
        ("The answer is", None),
    ],
)
def test_phrases(text: str, expected: str | None) -> None:
    assert phrased_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5 of 7", "7"), ("1,234,567 in all", "1,234,567"), ("it is -2.5", "-2.5"), ("3/4 of it", "3/4"), ("50%", "50%"),
     (r"\frac{1}{2}", r"\frac{1}{2}"), ("none", None)],
)  # fmt: skip
def test_last_number(text: str, expected: str | None) -> None:
    assert last_number(text) == expected


def test_invisible_characters_are_no_part_of_an_answer() -> None:
    assert clean("\u200b1\u202e2\x00\ufeff") == "12"
    assert clean("\ud800") == "\ufffd"
