"""What a judging host is asked over HTTP: one POST holds a program and all of its tests, the answer is a verdict.

The host runs the same grader, so what is expected stays out of its jails too; and no request leans on an earlier one,
so that any balancer may send it anywhere.
"""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from infra.config import Config
from infra.sandbox.limits import Language
from tasks.records import Verdict
from tasks.rewards.code import CodeConfig

JUDGE_PATH, HEALTH_PATH, METRICS_PATH = "/v1/judge", "/health", "/metrics"
_MOST_PROBLEMS, _LONGEST_NAME = 20, 100


class JudgeRequest(Config):
    """A program, or a response that holds one, with its tests."""

    tests: dict[str, Any] | None = Field(description="tests of a query, as `Query.tests`")
    program: str | None = Field(default=None, description="a bare program; either this or `response`")
    response: str | None = Field(default=None, description="a model's text, whose last code block is judged")
    language: Language | None = Field(default=None, description="of the program; None: what the tests say")
    config: CodeConfig = Field(default=CodeConfig(), description="limits and rules")

    @model_validator(mode="after")
    def _has_one_text(self) -> Self:
        if (self.program is None) == (self.response is None):
            raise ValueError("give `program` or `response`, and not both")
        return self

    @property
    def tests_with_language(self) -> dict[str, Any] | None:
        """The tests as the grader takes them."""
        if self.language is None or self.tests is None:
            return self.tests
        return {**self.tests, "language": str(self.language)}


class Refusal(Config):
    """Why a host gives no verdict."""

    error: str
    fields: list[str] = Field(default=[], description="fields of the request that cannot be used")


def request_from_json(body: bytes) -> JudgeRequest:
    """The request; unlike pydantic's own JSON, Python's has half surrogate pairs, which a model may well write.

    Raises:
        ValidationError: a field cannot be used.
        ValueError: it is no JSON.
    """
    try:
        content = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return JudgeRequest.model_validate(content)


def verdict_to_json(found: Verdict) -> str:
    """A verdict, half surrogate pairs and all."""
    return json.dumps(found.model_dump())


def verdict_from_json(text: bytes) -> Verdict:
    """What `verdict_to_json` wrote.

    Raises:
        ValueError: it is no verdict.
    """
    try:
        return Verdict.model_validate(json.loads(text))
    except RecursionError:
        raise ValueError("no verdict is nested so deeply") from None


def read_trouble(error: ValueError) -> Refusal:
    """Fields and reasons, a bounded number of each, without the values: a program may be megabytes, or secret."""
    if not isinstance(error, ValidationError):
        return Refusal(error="request: it is no JSON that can be read", fields=["request"])
    # With its input, each of the problems would hold a copy of the program.
    problems = error.errors(include_url=False, include_input=False, include_context=False)[:_MOST_PROBLEMS]
    found = [(_field(problem["loc"]), problem["msg"][:_LONGEST_NAME]) for problem in problems]
    return Refusal(
        error="; ".join(f"{field}: {reason}" for field, reason in found), fields=[field for field, _ in found]
    )


def _field(names: tuple[int | str, ...]) -> str:
    name = ".".join(map(str, names))[:_LONGEST_NAME] or "request"
    return name.encode("utf-8", "replace").decode("utf-8")
