"""What a judging host is asked over HTTP: one POST holds a program and all of its tests, the answer is a verdict.

The host runs the same grader, so what is expected stays out of its jails too; and no request leans on an earlier one,
so that any balancer may send it anywhere.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from infra.config import Config
from infra.sandbox.limits import Language
from tasks.rewards.code import CodeConfig

JUDGE_PATH, HEALTH_PATH, METRICS_PATH = "/v1/judge", "/health", "/metrics"


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


def read_trouble(error: ValidationError) -> Refusal:
    """Fields and reasons, without the values: a program may be megabytes, or secret."""
    found = [(".".join(map(str, problem["loc"])) or "request", problem["msg"]) for problem in error.errors()]
    return Refusal(
        error="; ".join(f"{field}: {reason}" for field, reason in found), fields=[field for field, _ in found]
    )
