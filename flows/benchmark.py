"""Phase 8: avg@k of a checkpoint on every benchmark of the recipe."""

from __future__ import annotations

from flows.recipe import Recipe
from infra.artifacts import Checkpoint, Dataset, Report
from infra.phase import phase
from tasks.benchmark.steps import Evaluation, evaluate


@phase
def benchmark(checkpoint: Checkpoint, benchmarks: tuple[Dataset, ...], recipe: Recipe, after: str) -> Report:
    """Evaluate one checkpoint; `after` names the phase that made it."""
    config = Evaluation(run=recipe.benchmark, policy=recipe.policy, rewards=recipe.rewards)
    return evaluate(checkpoint, benchmarks, config=config, label=f"scores {after}")
