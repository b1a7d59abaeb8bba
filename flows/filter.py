"""Phase 2: drop what cannot be judged, what repeats, what is unclear and what leaks a benchmark."""

from __future__ import annotations

from flows.ingest import Mixture
from flows.recipe import Recipe
from infra.artifacts import Dataset
from infra.lookup import find_artifact
from infra.phase import phase
from infra.run import require_run
from tasks.filter.config import FilterConfig
from tasks.filter.judge import judge_queries
from tasks.filter.rewrite import rewrite_choices
from tasks.filter.rewrite_config import RewriteCheck
from tasks.filter.semantic_steps import drop_semantic_duplicates, drop_semantic_leaks, find_semantic_leaks
from tasks.filter.steps import (
    apply_rules,
    decontaminate,
    drop_duplicates,
    find_duplicate_signals,
    find_leak_signals,
    find_rule_signals,
)


@phase
def filter_queries(mixture: Mixture, recipe: Recipe) -> Dataset:
    """Rules, duplicates, the models' votes, multiple choice rewritten; then leaks of what is asked at last."""
    policy = recipe.filter
    queries = apply_rules(mixture.queries, find_rule_signals(mixture.queries), config=policy.rules)
    queries = _drop_duplicates(queries, policy)
    if policy.judge is not None:
        queries = judge_queries(queries, config=policy.judge)
    if policy.rewrite is not None:
        queries = rewrite_choices(queries, config=RewriteCheck(rewrite=policy.rewrite, math=recipe.rewards.math))
    return _drop_leaks(queries, mixture.benchmarks, policy)


def _drop_duplicates(queries: Dataset, policy: FilterConfig) -> Dataset:
    signals = find_duplicate_signals(queries, config=policy.dedup.search)
    queries = drop_duplicates(queries, signals, config=policy.dedup, keepers=_keepers(policy))
    if policy.semantic.dedup is None:
        return queries
    return drop_semantic_duplicates(queries, config=policy.semantic.dedup)


def _keepers(policy: FilterConfig) -> Dataset | None:
    if policy.keepers is None:
        return None
    found = find_artifact(require_run().store, policy.keepers)
    assert isinstance(found, Dataset), "keepers are the queries of a data version"
    return found


def _drop_leaks(queries: Dataset, benchmarks: tuple[Dataset, ...], policy: FilterConfig) -> Dataset:
    """A step a benchmark, so that a new benchmark costs a search for that one only."""
    search = policy.decontamination.search
    signals = tuple(
        find_leak_signals(queries, (each,), config=search, label=f"leaks of {each.name}") for each in benchmarks
    )
    queries = decontaminate(queries, signals, config=policy.decontamination)
    if policy.semantic.leaks is None:
        return queries
    likeness = find_semantic_leaks(queries, benchmarks, config=policy.semantic.leaks)
    return drop_semantic_leaks(queries, likeness, config=policy.semantic.leak_policy)
