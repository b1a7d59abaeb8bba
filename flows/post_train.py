"""The whole pipeline on one screen: public questions → curated data → SFT → GRPO in stages → benchmark scores."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from flows.approval import approve_training
from flows.benchmark import benchmark
from flows.curate import curate
from flows.grpo import grpo
from flows.outcome import show_outcome
from flows.pass_rate import pass_rate
from flows.propose import propose
from flows.recipe import Recipe
from flows.sft import sft
from infra.artifacts import Checkpoint, Report
from infra.phase import phase
from infra.runtime import Runtime

AskPerson = Annotated[
    bool, Field(description="wait for a person's approval before training, and before the result becomes `champion`")
]


class PostTrained(NamedTuple):
    """What a run ends with: the last checkpoint, and the scores after each training phase, base model first."""

    checkpoint: Checkpoint
    reports: tuple[Report, ...]


@phase
def post_train(recipe: Recipe, runtime: Runtime, ask_person: AskPerson = False) -> PostTrained:
    """Run every phase of the recipe; what is in the store already is not made again."""
    queries, samples, benchmarks = curate(recipe, runtime)
    if ask_person:
        approve_training(queries, recipe)
    base, policy = sft(samples, recipe)
    prompts = pass_rate(policy, queries, recipe)
    reports = [
        benchmark(base, benchmarks, recipe, after="base"),
        benchmark(policy, benchmarks, recipe, after="sft"),
    ]
    for number in range(1, len(recipe.grpo) + 1):
        policy, prompts = grpo(policy, prompts, queries, recipe, number)
        reports.append(benchmark(policy, benchmarks, recipe, after=f"grpo-{number}"))
    show_outcome(policy, reports)
    propose(policy, tuple(reports), recipe, ask_person)
    return PostTrained(checkpoint=policy, reports=tuple(reports))
