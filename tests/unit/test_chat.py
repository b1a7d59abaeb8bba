"""What comes back from an endpoint, read without one."""

from __future__ import annotations

from typing import Any

import pytest

from infra.chat import GarbledReplyError, split_completion, text_of


def test_thinking_apart_from_content_is_put_before_it() -> None:
    apart = {"message": {"content": "\\boxed{4}", "reasoning_content": "2 + 2 is 4"}}
    assert text_of(apart) == "<think>\n2 + 2 is 4\n</think>\n\\boxed{4}"
    assert text_of({"message": {"content": None, "reasoning_content": "2 + 2"}}) == "<think>\n2 + 2"
    assert text_of({"message": {"content": ""}}) == ""


def test_a_body_that_is_no_completion_is_garbled() -> None:
    bodies: list[Any] = [
        None,
        [],
        "text",
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"message": {"content": 3}}]},
    ]
    for body in bodies:
        with pytest.raises(GarbledReplyError):
            split_completion(body)
