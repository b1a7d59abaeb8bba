"""Phase 6: how hard each query is for the SFT model; the ones it sometimes solves go on to RL."""

from __future__ import annotations

from flows.recipe import Recipe
from infra.artifacts import Checkpoint, Dataset
from infra.phase import phase
from tasks.pass_rate.steps import PassRate, measure_pass_rate


@phase
def pass_rate(policy: Checkpoint, queries: Dataset, recipe: Recipe) -> Dataset:
    """Queries whose pass rate lies strictly inside (0, 1)."""
    config = PassRate(measure=recipe.pass_rate, policy=recipe.policy, rewards=recipe.rewards)
    return measure_pass_rate(policy, queries, config=config)
