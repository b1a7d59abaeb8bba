"""How labels are checked (AM § 3.1)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from infra.config import Config
from tasks.generation.teacher import TeacherConfig
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


class VerifyConfig(Config):
    """Majority, arbitration, and the check of reference solutions."""

    answers: AnswersConfig = Field(description="the teacher's answers")
    labels: LabelsConfig = Field(default=LabelsConfig(), description="what becomes of a label")


class LabelCheck(Config):
    """What `verify_labels` depends on."""

    labels: LabelsConfig
    rewards: RewardConfig = Field(description="how answers are compared and reference solutions run")
