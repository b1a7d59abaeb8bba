"""Phase 3: check every label against a teacher's majority, and every reference solution against its tests."""

from __future__ import annotations

from flows.recipe import Recipe
from infra.artifacts import Dataset
from infra.phase import phase
from tasks.verify.config import LabelCheck
from tasks.verify.steps import collect_answers, verify_labels


@phase
def verify(queries: Dataset, recipe: Recipe) -> Dataset:
    """Labels that the teacher and the arbiter agree on; the rest corrected or dropped."""
    answers = collect_answers(queries, config=recipe.verify.answers)
    check = LabelCheck(labels=recipe.verify.labels, rewards=recipe.rewards)
    return verify_labels(queries, answers, config=check)
