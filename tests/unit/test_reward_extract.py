"""Where an answer stands in a response."""

import pytest

from tasks.rewards.extract import answer_part, final_answer, label_answer, last_box


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),  # the template opened the thinking in the prompt
        ("<think>never ends", None),
        ("<think>a</think>b<think>c", None),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>a</think> <answer> b </answer> rest", "b"),
        ("<answer>a</answer> or <answer>b</answer>", "b"),
        ("<think><answer>a</answer></think>b", "b"),
        ("<think>a</think><answer>unclosed", "<answer>unclosed"),
    ],
)
def test_answer_part(text: str, expected: str | None) -> None:
    assert answer_part(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{1}", "1"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{x\right.}", r"\left\{x\right."),
        (r"\boxed{3", None),
        (r"\boxed{4} and \boxed{3", "4"),
        (r"\boxed 7.", "7"),
        (r"\fbox{8}", "8"),
        (r"\boxed {9}", "9"),
        ("no box", None),
        (r"\boxed{}", ""),
    ],
)
def test_last_box(text: str, expected: str | None) -> None:
    assert last_box(text) == expected


def test_box_in_thinking_is_no_answer() -> None:
    assert final_answer(r"<think>\boxed{1}</think>The answer is one.") is None
    assert final_answer(r"<think>\boxed{1}") is None
    assert final_answer(r"<think>\boxed{1}</think>\boxed{2}") == "2"


def test_hash_label_counts_for_labels_only() -> None:
    assert label_answer("so it is\n#### 1,234\n") == "1,234"
    assert label_answer("\\boxed{5}\n#### 6") == "5"
    assert label_answer("nothing") is None
    assert final_answer("#### 6") is None
