"""The whole pipeline on one screen: public questions → curated data → SFT → GRPO in stages → benchmark scores."""

from __future__ import annotations

from typing import NamedTuple

from flows.benchmark import benchmark
from flows.filter import filter_queries
from flows.grpo import grpo
from flows.ingest import ingest
from flows.pass_rate import pass_rate
from flows.recipe import Recipe
from flows.sft import sft
from flows.synthesize import synthesize
from flows.verify import verify
from infra.artifacts import Checkpoint, Report
from infra.runtime import Runtime
from infra.step import phase


class PostTrained(NamedTuple):
    """What a run ends with: the last checkpoint, and the scores after each training phase, base model first."""

    checkpoint: Checkpoint
    reports: tuple[Report, ...]


@phase
def post_train(recipe: Recipe, runtime: Runtime) -> PostTrained:
    """Run every phase of the recipe; what is in the store already is not made again."""
    mixture = ingest(recipe, runtime)
    queries = verify(filter_queries(mixture, recipe), recipe)
    samples = synthesize(queries, recipe)
    base, policy = sft(samples, recipe)
    prompts = pass_rate(policy, queries, recipe)
    reports = [
        benchmark(base, mixture.benchmarks, recipe, after="base"),
        benchmark(policy, mixture.benchmarks, recipe, after="sft"),
    ]
    for number, stage in enumerate(recipe.grpo, start=1):
        policy, prompts = grpo(policy, prompts, queries, recipe, stage, number)
        reports.append(benchmark(policy, mixture.benchmarks, recipe, after=f"grpo-{number}"))
    return PostTrained(checkpoint=policy, reports=tuple(reports))
