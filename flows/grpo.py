"""Phase 7: one GRPO stage. Its prompts are the last stage's, less the solved ones, plus what the stage adds."""

from __future__ import annotations

from typing import NamedTuple

from flows.recipe import GrpoStage, Recipe
from infra.artifacts import Checkpoint, Dataset
from infra.step import phase
from tasks.grpo.prompts import compose_prompts
from tasks.grpo.steps import GrpoRun, train_grpo


class Improved(NamedTuple):
    """What a stage hands to the next."""

    policy: Checkpoint
    prompts: Dataset


@phase
def grpo(
    policy: Checkpoint, prompts: Dataset, queries: Dataset, recipe: Recipe, stage: GrpoStage, number: int
) -> Improved:
    """Train until the stage's plateau or its last step."""
    config = GrpoRun(train=stage.train, policy=recipe.policy, rewards=recipe.rewards)
    chosen = compose_prompts(prompts, queries, policy, config=stage.prompts, label=f"prompts grpo-{number}")
    return Improved(policy=train_grpo(policy, chosen, config=config, label=f"grpo-{number}"), prompts=chosen)
