"""posttrain run and plan."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from flows.commands.options import (
    JsonOption,
    ProfileOption,
    RawOption,
    RecipeArgument,
    SetOption,
    StoreOption,
    console,
    errors,
    open_runtime,
    overrides,
)

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.run import PlannedStep
    from infra.runtime import Runtime

app = typer.Typer()

RUN_EPILOG = (
    "Examples:\n\n  posttrain run smoke\n\n  posttrain run smoke --set model.seed=1 --json > report.json\n\n"
    "  posttrain run real-sample --raw FOLDER\n\nRun the same command again after an interruption: it goes on."
)


@app.command(epilog=RUN_EPILOG)
def run(
    recipe: RecipeArgument,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    raw: RawOption = None,
    override: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe from raw questions to benchmark scores; what is in the store already is not made again."""
    from flows.recipe import load_recipe
    from infra.runtime import prepare_environment

    chosen = load_recipe(recipe, overrides(override))
    runtime = open_runtime(profile, store, raw)
    # Walking the flows first costs a second and finds a missing file before anything is started.
    planned = _plan(chosen, runtime)
    num_hits = sum(line.state == "hit" for line in planned)
    errors.print(f"recipe [bold]{chosen.name}[/]: {num_hits} of {len(planned)} steps are in the store {runtime.store}")
    prepare_environment(runtime.scratch_folder.parent)
    _run(chosen, runtime, as_json)


def _run(recipe: Recipe, runtime: Runtime, as_json: bool) -> None:
    from flows.outcome import report_of
    from flows.post_train import post_train
    from flows.report import print_report
    from infra.lineage import MlflowLineage
    from infra.run import Run, active

    with active(Run(recipe.name, runtime)) as current:
        current.lineage = MlflowLineage(current)
        made = post_train(recipe, runtime)
        report = report_of(current, made.checkpoint, made.reports)
    if as_json:
        print(report.model_dump_json(indent=1))
    else:
        print_report(report, console)


@app.command(epilog="Examples:\n\n  posttrain recurate smoke\n\n  posttrain recurate real-sample --raw FOLDER --json")
def recurate(
    recipe: RecipeArgument,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    raw: RawOption = None,
    override: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Curate the sources as they are today; publish a data version if anything changed. Trains nothing."""
    from flows.recipe import load_recipe
    from flows.recurate import recurate as curate_anew
    from infra.data_versions import last_version
    from infra.lineage import MlflowLineage
    from infra.run import Run, active
    from infra.runtime import prepare_environment

    chosen, runtime = load_recipe(recipe, overrides(override)), open_runtime(profile, store, raw)
    prepare_environment(runtime.scratch_folder.parent)
    with active(Run(chosen.name, runtime)) as current:
        current.lineage = MlflowLineage(current)
        curate_anew(chosen, runtime)
        version = last_version(current.store, chosen.name)
        page = current.lineage.url
    assert version is not None, "re-curation publishes the first version, and any that differs"
    if as_json:
        print(version.model_dump_json(indent=1))
        return
    is_new = version.run == current.id
    console.print(
        f"[bold]data version {version.number} of {version.recipe}[/] {'is published' if is_new else 'stands'}"
    )
    console.print(f"  queries     {version.num_queries:,}  {version.queries}", soft_wrap=True, highlight=False)
    console.print(f"  samples     {version.num_samples:,}  {version.samples}", soft_wrap=True, highlight=False)
    console.print(f"  store       {current.store.uri}\n  lineage     {page}", soft_wrap=True, highlight=False)


@app.command(epilog="Examples:\n\n  posttrain plan smoke\n\n  posttrain plan smoke --set sft.lr=1e-3 --json")
def plan(
    recipe: RecipeArgument,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    raw: RawOption = None,
    override: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show, without running anything, which steps are in the store and what changed since the last run."""
    from flows.recipe import load_recipe
    from flows.report import plan_table

    planned = _plan(load_recipe(recipe, overrides(override)), open_runtime(profile, store, raw))
    if as_json:
        print(json.dumps([line.model_dump() for line in planned], indent=1))
    else:
        console.print(plan_table(planned))


def _plan(recipe: Recipe, runtime: Runtime) -> list[PlannedStep]:
    from flows.post_train import post_train
    from infra.run import Run, active

    with active(Run(recipe.name, runtime, planning=True)) as walked:
        post_train(recipe, runtime)
    return walked.planned
