"""The nouns that phases share: query, response, verdict, rollout."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from infra.artifacts import Drop
from infra.config import Config

__all__ = ["Domain", "Drop", "Message", "Outcome", "Query", "Response", "Rollout", "Verdict"]


class Domain(StrEnum):
    """What a query asks for, and so which reward judges its answers (recipes.md § 1)."""

    MATH = "math"
    CODE = "code"
    SCIENCE = "science"
    INSTRUCTION = "instruction_following"
    CHAT = "chat"


class Message(Config):
    """One turn of a dialog."""

    role: str = Field(pattern="^(system|user|assistant)$")
    content: str


class Query(Config):
    """A question with what is needed to judge an answer to it.

    `id` is a hash of source and native row (with an ordinal for byte-equal rows of one source), so every raw row has
    its own id and keeps it through all phases.
    """

    id: str
    domain: Domain
    source: str
    messages: tuple[Message, ...] = Field(description="the dialog up to and with the user turn to be answered")
    answer: str | None = Field(default=None, description="ground truth of a math or science query")
    alternatives: tuple[str, ...] = Field(default=(), description="other answers that are as right as `answer`")
    choices: tuple[str, ...] = Field(default=(), description="options of a multiple-choice query, in order A, B, …")
    solution: str | None = Field(default=None, description="the source's own worked solution or reference code")
    tests: dict[str, Any] | None = Field(
        default=None,
        description='code tests, with "language" ("python" or "cpp") where only one will do: '
        '{"kind": "assert", "setup": str, "asserts": [str]}, {"kind": "stdio", "inputs": [str], "outputs": [str]}, '
        '{"kind": "call", "function": str, "inputs": [[…]], "outputs": […]} or '
        '{"kind": "check", "entry_point": str, "code": str}',
    )
    constraints: list[dict[str, Any]] | None = Field(
        default=None, description="IFEval instructions: [{id, kwargs}] of an instruction-following query"
    )
    license: str = ""
    meta: dict[str, Any] = Field(default={}, description="fields of the native row that have no place above")

    @property
    def prompt(self) -> str:
        """Text of the user turn that is to be answered."""
        return self.messages[-1].content


class Response(Config):
    """A model's text for a query."""

    query_id: str
    model: str
    sample_index: int
    text: str
    finish_reason: str = Field(description="stop or length")
    usage: dict[str, int] = Field(default={}, description="prompt_tokens, completion_tokens")


class Outcome(StrEnum):
    """What grading found. A fault says nothing about the response, and never becomes a reward."""

    EQUAL = "equal"  # math and choice: the answer is the ground truth
    DIFFERENT = "different"
    PASSED = "passed"  # code and instructions: every test, or every constraint, holds
    WRONG = "wrong"
    SCORED = "scored"  # a reward model's score in [0, 1]

    ANSWER_MISSING = "answer_missing"
    ANSWER_UNPARSEABLE = "answer_unparseable"
    NO_CODE = "no_code"
    COMPILE_ERROR = "compile_error"
    RUNTIME_ERROR = "runtime_error"
    TIME_LIMIT = "time_limit"  # of the program, not of the grader
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"

    GOLD_UNPARSEABLE = "gold_unparseable"
    TESTS_MISSING = "tests_missing"
    TIME_OUT = "time_out"
    CRASH = "crash"
    SANDBOX_ERROR = "sandbox_error"

    @property
    def is_right(self) -> bool:
        """True when the response is what was asked for; a score in between is neither right nor not."""
        return self in {Outcome.EQUAL, Outcome.PASSED}

    @property
    def is_fault(self) -> bool:
        """True when grading itself failed: no statement about the response, so no reward."""
        return self in _FAULTS


_FAULTS = frozenset({
    Outcome.GOLD_UNPARSEABLE, Outcome.TESTS_MISSING, Outcome.TIME_OUT, Outcome.CRASH, Outcome.SANDBOX_ERROR,
})  # fmt: skip


class Verdict(Config):
    """What a reward says of one response."""

    outcome: Outcome
    score: float | None = Field(default=None, description="reward in [0, 1]; None when grading itself failed")
    fraction: float | None = Field(default=None, description="share of a program's tests that pass, where all were run")
    extracted: str | None = Field(default=None, description="the answer that was judged")
    method: str = Field(default="", description="what decided: string, numeric, math_verify, tests, instructions, …")
    ms: float = Field(default=0.0, description="milliseconds of grading, without queueing; never part of identity")
    detail: str = ""


class Rollout(Config):
    """One sample of a group, as it is stored for the update (`step_N/rollouts.parquet`)."""

    query_id: str
    group: int = Field(description="index of the prompt within the batch; a group is all samples of one prompt")
    sample_index: int
    weights_version: str = Field(description="version of the weights that sampled it")
    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float]
    stop_reason: str = Field(description="stop or length")
    outcome: Outcome
    reward: float | None = Field(description="None when grading failed; such a sample is left out of the statistics")
    text: str
