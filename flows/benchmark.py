"""Phase 8: avg@k of a checkpoint on every benchmark of the recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flows.recipe import Recipe
from infra.artifacts import Checkpoint, Dataset, Report
from infra.phase import phase
from tasks.benchmark.steps import Evaluation, evaluate

After = Annotated[str, Field(description="phase that made the checkpoint; part of the scores' label")]


@phase
def benchmark(checkpoint: Checkpoint, benchmarks: tuple[Dataset, ...], recipe: Recipe, after: After) -> Report:
    """Evaluate one checkpoint."""
    config = Evaluation(run=recipe.benchmark, policy=recipe.policy, rewards=recipe.rewards)
    return evaluate(checkpoint, benchmarks, config=config, label=f"scores {after}")
