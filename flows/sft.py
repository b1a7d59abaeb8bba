"""Phase 5: the base model, and supervised fine-tuning on the selected samples."""

from __future__ import annotations

from typing import NamedTuple

from flows.recipe import Recipe
from infra.artifacts import Checkpoint, Dataset
from infra.phase import phase
from tasks.sft.steps import init_model, train_sft


class FineTuned(NamedTuple):
    """The model before and after."""

    base: Checkpoint
    policy: Checkpoint


@phase
def sft(samples: Dataset, recipe: Recipe) -> FineTuned:
    """Fine-tune the recipe's base model."""
    base = init_model(samples, config=recipe.model)
    return FineTuned(base=base, policy=train_sft(base, samples, config=recipe.sft))
