"""How labels are checked (AM § 3.1, and SK's re-extraction)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from infra.config import Config
from tasks.generation.teacher import TeacherConfig
from tasks.records import Domain
from tasks.rewards.math import MathConfig
from tasks.rewards.math_policy import Fallback
from tasks.rewards.rewarder import RewardConfig


class AnswersConfig(Config):
    """The teacher's answers to labelled queries."""

    teacher: TeacherConfig = Field(description="who answers; `source-solutions` confirms labels without checking them")
    num_samples: int = Field(default=4, ge=1, description="choice: teacher answers for each label")


class ArbiterConfig(Config):
    """The model that rules where teacher and label contradict each other; sampling values are left to its endpoint."""

    model: str = Field(description="model at the endpoint `arbiter`")
    max_tokens: int = Field(default=32768, ge=1, description="longest response, thinking included")


class LabelsConfig(Config):
    """What becomes of a label."""

    arbiter: ArbiterConfig | None = Field(
        default=None, description="without one, every label that the teacher contradicts is dropped as unresolved"
    )
    unverified: Literal["drop", "keep"] = Field(
        default="drop", description="what becomes of a labelled query to which the teacher gave no answer"
    )


class SolutionsConfig(Config):
    """Whether the source's own solution has to end in the label (SK)."""

    check: Literal["off", "stated", "required"] = Field(
        default="off",
        description="stated: drop a label that differs from the answer which the solution states; required (SK): drop "
        "also what has no solution, or one that states no answer",
    )
    domains: tuple[Domain, ...] = Field(default=(Domain.MATH,), description="what is checked (SK: math)")
    extraction: tuple[Fallback, ...] = Field(
        default=(Fallback.LABEL, Fallback.PHRASE),
        description="choice: what states the answer of a solution without a box, always in the order label (`#### N`), "
        "phrase (`the answer is N`), number (the last one)",
    )


class SolutionCheck(Config):
    """What `check_solutions` depends on."""

    solutions: SolutionsConfig
    math: MathConfig = Field(description="how answers are compared; that of the rewards")


class VerifyConfig(Config):
    """The sources' solutions, majority, arbitration, and the check of reference solutions."""

    solutions: SolutionsConfig = Field(
        default=SolutionsConfig(), description="whether a source's solution has to end in its label"
    )
    answers: AnswersConfig = Field(description="the teacher's answers")
    labels: LabelsConfig = Field(default=LabelsConfig(), description="what becomes of a label")


class LabelCheck(Config):
    """What `verify_labels` depends on."""

    labels: LabelsConfig
    rewards: RewardConfig = Field(description="how answers are compared and reference solutions run")
