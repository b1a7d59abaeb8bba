"""Every flow that can be triggered: the entrypoints of deployments/prefect.yaml, and what fills their forms."""

from __future__ import annotations

from typing import Any

from flows import benchmark as _benchmark
from flows import filter as _filter
from flows import grpo as _grpo
from flows import ingest as _ingest
from flows import pass_rate as _pass_rate
from flows import post_train as _post_train
from flows import recurate as _recurate
from flows import sft as _sft
from flows import synthesize as _synthesize
from flows import verify as _verify
from flows.recipe import load_recipe

post_train = _post_train.post_train.deployed
recurate = _recurate.recurate.deployed
ingest = _ingest.ingest.deployed
filter_queries = _filter.filter_queries.deployed
verify = _verify.verify.deployed
synthesize = _synthesize.synthesize.deployed
sft = _sft.sft.deployed
pass_rate = _pass_rate.pass_rate.deployed
grpo = _grpo.grpo.deployed
benchmark = _benchmark.benchmark.deployed


def recipe_form(recipe: str) -> dict[str, Any]:
    """A step of prefect.yaml: every field of a recipe, so that a deployment's form opens filled in."""
    return {"recipe": load_recipe(recipe).model_dump(mode="json")}
