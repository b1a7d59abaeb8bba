"""Verifiable instructions of IFEval: 1 iff every one is followed (arXiv 2311.07911; google-research)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from infra.config import Config
from tasks.records import Outcome, Verdict
from tasks.rewards.extract import answer_part
from tasks.rewards.instruction_fixes import FIXES
from tasks.rewards.instruction_upstream import (
    Checker,
    ConstraintError,
    Kwargs,
    build_checker,
    given_arguments,
    loose_variants,
)
from tasks.rewards.verdicts import verdict

__all__ = ["ConstraintError", "InstructionConfig", "build", "judge_instructions"]
Rules = Literal["strict", "loose", "fixed"]


class InstructionConfig(Config):
    """Whose checkers decide; all of it may change a verdict."""

    version: int = Field(default=2, description="of the checkers; raise it with any change of theirs")
    rules: Rules = Field(
        default="strict",
        description="strict: upstream's checkers, for published numbers; loose: upstream's, on eight variants of the "
        "response; fixed: upstream's known faults mended, which a rewarded model would learn to use",
    )
    max_chars: int = Field(
        default=50_000, ge=1, description="a longer answer follows nothing: some of the patterns take quadratic time"
    )


def judge_instructions(
    constraints: Sequence[Mapping[str, Any]] | None, response: str, config: InstructionConfig | None = None
) -> Verdict:
    """Verdict on the answer part of a response; no answer part, or an empty one, follows nothing.

    Raises:
        ConstraintError: a constraint cannot be checked, or there is none. Whatever the response says: a fault of the
            question is none of its.
    """
    config = config or InstructionConfig()
    if not constraints:
        raise ConstraintError("no constraints to check; an instruction-following query needs some")
    checkers = {
        f"{index}: {c['id']}": build(str(c["id"]), c.get("kwargs") or {}, config.rules)
        for index, c in enumerate(constraints)
    }
    answer = answer_part(response)
    if not answer:
        return verdict(Outcome.ANSWER_MISSING, "instructions", detail="no answer part")
    if len(answer) > config.max_chars:
        return verdict(Outcome.ANSWER_UNPARSEABLE, "instructions", detail=f"{len(answer)} characters")
    started = time.perf_counter()  # the first checker to be built has loaded upstream, which is no grading
    broken = [name.partition(": ")[2] for name, follows in checkers.items() if not follows(answer)]
    ms = (time.perf_counter() - started) * 1000
    outcome = Outcome.WRONG if broken else Outcome.PASSED
    return verdict(outcome, f"instructions_{config.rules}", detail=", ".join(broken), ms=ms)


def build(instruction_id: str, kwargs: Kwargs, rules: Rules) -> Checker:
    """The checker of one instruction by the given rules.

    Raises:
        ConstraintError: the id is unknown, or an argument is missing or odd.
    """
    upstream = build_checker(instruction_id, kwargs)
    if rules == "loose":
        return lambda text: any(upstream(variant) for variant in loose_variants(text))
    if rules == "fixed" and instruction_id in FIXES:
        fix, given = FIXES[instruction_id], given_arguments(kwargs)
        return lambda text: bool(text.strip()) and fix(text, given)
    return upstream
