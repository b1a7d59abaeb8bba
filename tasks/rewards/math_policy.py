"""Policies of math grading: what counts as the answer, and what as equal, where people disagree."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from infra.config import Config


class PercentPolicy(StrEnum):
    """What `50%` equals beside itself."""

    EITHER = "either"  # 0.5 and 50: prompts rarely say whether the sign is part of the answer
    SHARE = "share"  # 0.5 only
    NUMBER = "number"  # 50 only
    STRICT = "strict"  # neither


class BasePolicy(StrEnum):
    """What `1011_2` equals beside itself. Digits without a base are never decimal by silence alone."""

    WRITTEN = "written"  # nothing else: digits and base must be there
    OPTIONAL = "optional"  # 1011: the question has named the base
    VALUE = "value"  # whatever has its value: 11, 13_8


class BoxPolicy(StrEnum):
    """Which of several boxes is judged."""

    LAST = "last"
    ALL_EQUAL = "all_equal"  # every box must be right: no listing of guesses
    ANY = "any"  # one right box is enough: rewards listing of guesses, so for looking at answers only


class Fallback(StrEnum):
    r"""Where an answer is looked for when a text holds no box, in the order of this list."""

    LABEL = "label"  # `#### N`
    PHRASE = "phrase"  # `the answer is …`, `answer: …`
    NUMBER = "number"  # the last number


class Policy(Config):
    """When two bare answers are equal."""

    percent: PercentPolicy = Field(
        default=PercentPolicy.EITHER, description="what 50% equals: 0.5, 50, both or neither"
    )
    bases: BasePolicy = Field(default=BasePolicy.WRITTEN, description="what 1011_2 equals: 1011, 11, or itself only")
    min_rounded_digits: int | None = Field(
        default=6,
        ge=1,
        description="a decimal that rounds the exact value is right from this many significant digits; none: never",
    )
