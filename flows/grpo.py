"""Phase 7: one GRPO stage. Its prompts are the last stage's, less the solved ones, plus what the stage adds."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from flows.recipe import Recipe
from infra.artifacts import Checkpoint, Dataset
from infra.config import ConfigError
from infra.phase import phase
from tasks.grpo.prompts import compose_prompts
from tasks.grpo.steps import GrpoRun, train_grpo

StageNumber = Annotated[int, Field(description="stage to train, counted from 1")]


class Improved(NamedTuple):
    """What a stage hands to the next."""

    policy: Checkpoint
    prompts: Dataset


@phase
def grpo(policy: Checkpoint, prompts: Dataset, queries: Dataset, recipe: Recipe, number: StageNumber) -> Improved:
    """Train stage `number`, counted from 1, until its plateau or its last step."""
    if not 1 <= number <= len(recipe.grpo):
        raise ConfigError(f"recipe {recipe.name} has no GRPO stage {number}; it has {len(recipe.grpo)}, from 1")
    stage = recipe.grpo[number - 1]
    config = GrpoRun(train=stage.train, policy=recipe.policy, rewards=recipe.rewards)
    chosen = compose_prompts(prompts, queries, policy, config=stage.prompts, label=f"prompts grpo-{number}")
    return Improved(policy=train_grpo(policy, chosen, config=config, label=f"grpo-{number}"), prompts=chosen)
