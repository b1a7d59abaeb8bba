"""Phase 4: teacher responses, filtered for quality, as samples to fine-tune on."""

from __future__ import annotations

from flows.recipe import Recipe
from infra.artifacts import Dataset
from infra.phase import phase
from tasks.synthesize.config import SampleSelection
from tasks.synthesize.perplexity import score_perplexity
from tasks.synthesize.steps import select_samples, synthesize_responses


@phase
def synthesize(queries: Dataset, recipe: Recipe) -> Dataset:
    """Ask for several responses a query and keep the ones that pass."""
    responses = synthesize_responses(queries, config=recipe.synthesize.responses)
    perplexities = None
    if recipe.synthesize.perplexity is not None:
        perplexities = score_perplexity(queries, responses, config=recipe.synthesize.perplexity)
    selection = SampleSelection(
        selection=recipe.synthesize.selection,
        rewards=recipe.rewards,
        system_prompt=recipe.policy.system_prompt,
        tokenizer=recipe.model.path,
    )
    return select_samples(queries, responses, config=selection, perplexities=perplexities)
