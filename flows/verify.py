"""Phase 3: check every label against its solution and a teacher's majority, every reference against its tests."""

from __future__ import annotations

from flows.recipe import Recipe
from infra.artifacts import Dataset
from infra.phase import phase
from tasks.verify.config import LabelCheck, SolutionCheck
from tasks.verify.solutions import check_solutions
from tasks.verify.steps import collect_answers, verify_labels


@phase
def verify(queries: Dataset, recipe: Recipe) -> Dataset:
    """Labels that the teacher and the arbiter agree on; the rest corrected or dropped."""
    if recipe.verify.solutions.check != "off":
        solutions = SolutionCheck(solutions=recipe.verify.solutions, math=recipe.rewards.math)
        queries = check_solutions(queries, config=solutions)
    answers = collect_answers(queries, config=recipe.verify.answers)
    check = LabelCheck(labels=recipe.verify.labels, rewards=recipe.rewards)
    return verify_labels(queries, answers, config=check)
