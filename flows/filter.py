"""Phase 2: drop what cannot be judged, what repeats and what leaks a benchmark."""

from __future__ import annotations

from flows.ingest import Mixture
from flows.recipe import Recipe
from infra.artifacts import Dataset
from infra.phase import phase
from tasks.filter.steps import apply_rules, decontaminate, drop_duplicates


@phase
def filter_queries(mixture: Mixture, recipe: Recipe) -> Dataset:
    """Rules, then duplicates, then decontamination against every benchmark."""
    judged = apply_rules(mixture.queries, config=recipe.filter.rules)
    unique = drop_duplicates(judged, config=recipe.filter.dedup)
    return decontaminate(unique, mixture.benchmarks, config=recipe.filter.decontamination)
