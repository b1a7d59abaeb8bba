"""posttrain gc, promote and costs: what keeps a store small, a champion honest, and money in sight."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows.commands.options import (
    JsonOption,
    ProfileOption,
    RecipeArgument,
    StoreOption,
    console,
    errors,
    open_runtime,
)
from infra.config import ConfigError

if TYPE_CHECKING:
    from flows.promotion import Contest
    from infra.gc import Garbage
    from infra.runtime import Runtime
    from infra.store import Store

app = typer.Typer()

GC_EPILOG = (
    "Examples:\n\n  posttrain gc\n\n  posttrain gc --keep-days 7 --delete\n\n  posttrain gc --json\n\n"
    "Aliases, the newest data versions, recent runs and the last call of each step keep what they used or made, with "
    "all ancestors. It may be interrupted at any moment: run it again and it goes on. Runs may work at the same time."
)


@app.command(epilog=GC_EPILOG)
def gc(
    profile: ProfileOption = "local",
    store: StoreOption = None,
    keep_days: Annotated[float, typer.Option(min=0, help="Younger runs keep all that they used or made.")] = 30.0,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="Nothing younger goes. Under 24 only while no other run uses the store.")
    ] = 48.0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete. Without it, only show what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show, or with --delete remove, what no alias, no recent run and no recipe's last call needs."""
    from infra.gc import Collector, GcPolicy
    from infra.run import open_store

    runtime = open_runtime(profile, store)
    policy = GcPolicy(keep_days=keep_days, grace_hours=grace_hours)
    collector = Collector(open_store(runtime), runtime.scratch_folder, policy)
    garbage = collector.find()
    if delete:
        garbage = collector.collect(garbage)
    if as_json:
        print(garbage.model_dump_json(indent=1))
    else:
        _print_garbage(garbage, runtime.store, delete)


def _print_garbage(garbage: Garbage, store: str, deleted: bool) -> None:
    table = Table(title="Deleted" if deleted else "Would be deleted", title_justify="left")
    table.add_column("what")
    for name in ("number", "bytes"):
        table.add_column(name, justify="right")
    for step, number in garbage.by_step.items():
        table.add_row(Text(f"manifests of {step}"), f"{number:,}", "")
    for name in type(garbage).model_fields:
        pieces = getattr(garbage, name)
        table.add_row(name, f"{len(pieces):,}", f"{sum(piece.bytes for piece in pieces):,}", style="bold")
    console.print(table)
    megabytes = f"{garbage.bytes / 1e6:,.1f} MB"
    end = f"{megabytes} of {store} deleted" if deleted else f"{megabytes} of {store} would go; add --delete to do it"
    console.print(end, soft_wrap=True, highlight=False, markup=False)


PROMOTE_EPILOG = (
    "Examples:\n\n  posttrain promote smoke\n\n  posttrain promote smoke --checkpoint grpo-1 --reason 'shorter answers'"
    "\n\n  posttrain promote smoke --yes --json\n\n"
    "The gate compares problem by problem with the champion, or without one with the base model of the run; "
    "`promotion` in the recipe sets its bounds."
)


@app.command(epilog=PROMOTE_EPILOG)
def promote(
    recipe: RecipeArgument,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Label of a training step (grpo-1) or the first digits of a digest. Default: the last one."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the alias.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote past a closed gate; needs --reason.")] = False,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a checkpoint of the recipe's last scored run its champion, if it is better beyond doubt."""
    from flows.promotion import find_contest
    from flows.recipe import load_recipe
    from infra.run import open_store

    if force and not reason:
        raise ConfigError("--force promotes past the gate; say why with --reason")
    chosen = load_recipe(recipe)
    runtime = open_runtime(profile, store)
    opened = open_store(runtime)
    contest = find_contest(opened, chosen.name, chosen.promotion, checkpoint)
    if not as_json:
        _print_contest(contest)
    is_moving = not contest.is_champion and _may_move(contest, reason if force else "", yes)
    if is_moving:
        contest = _move(opened, contest, reason)
    if contest.is_champion:  # also where it was before, in case that MLflow could not be reached then
        _mirror(runtime, opened, contest)
    _tell(contest, is_moving, as_json)


def _may_move(contest: Contest, forced_for: str, yes: bool) -> bool:
    """True when the gate, or who forces it, and the person at the terminal agree."""
    if not contest.result.passed and not forced_for:
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("nobody is at the terminal to confirm; give --yes")
    return typer.confirm(f"make {contest.candidate.checkpoint.name} the champion of {contest.recipe}?", err=True)


def _move(store: Store, contest: Contest, reason: str) -> Contest:
    from flows.promotion import promote as move

    gate = "passed the gate" if contest.result.passed else f"forced past the gate: {'; '.join(contest.result.reasons)}"
    return move(store, contest, reason=f"{reason} ({gate})" if reason else gate)


def _mirror(runtime: Runtime, store: Store, contest: Contest) -> None:
    """Say in MLflow's registry what the store says."""
    from flows.promotion import CHAMPION
    from infra.runtime import prepare_environment

    prepare_environment(runtime.scratch_folder.parent)
    from infra.lineage import MlflowLineage, Tracking
    from infra.run import Run

    candidate = contest.candidate
    parent = Tracking(runtime).find_parent(candidate.run)
    if parent is None:
        raise ConfigError(
            f"champion is set in the store, but MLflow does not know run {candidate.run}; "
            "rebuild MLflow with `posttrain trace --sync`, then give this command again"
        )
    lineage = MlflowLineage(Run(contest.recipe, runtime, id_=candidate.run), parent)
    lineage.set_alias(store.manifest(candidate.checkpoint), contest.recipe, CHAMPION)


def _tell(contest: Contest, has_moved: bool, as_json: bool) -> None:
    """The end line, and exit code 1 where the champion is another one still."""
    if as_json:
        print(json.dumps(contest.as_json(has_moved), indent=1))
    for reason in () if contest.result.passed or has_moved or contest.is_champion else contest.result.reasons:
        errors.print("[bold red]not promoted[/] ", end="")
        errors.print(reason, markup=False, highlight=False, soft_wrap=True)
    name = f"{contest.candidate.checkpoint.name} {contest.candidate.checkpoint.digest[:12]}"
    if has_moved:
        errors.print(f"{name} is now champion of {contest.recipe}", highlight=False, soft_wrap=True, markup=False)
    elif contest.is_champion:
        errors.print(f"{name} is champion of {contest.recipe} already", highlight=False, soft_wrap=True, markup=False)
    else:
        errors.print("the champion stays; --force with --reason promotes past the gate", highlight=False)
        raise typer.Exit(1)


def _print_contest(contest: Contest) -> None:
    candidate, champion = contest.candidate, contest.champion
    against = "the base model" if champion is None else f"champion {champion.digest[:12]}"
    name = f"{candidate.checkpoint.name} {candidate.checkpoint.digest[:12]}"
    title = f"{name} of run {candidate.run} against {against}"
    console.print(title, highlight=False, soft_wrap=True, markup=False)
    table = Table(title="Gate, in points", title_justify="left")
    for name in ("benchmark", "problems", "paired gain", "95 % interval"):
        table.add_column(name, justify="left" if name == "benchmark" else "right")
    overall = contest.result.overall
    for name, gain in [*contest.result.gains.items(), *([("all", overall)] if overall else [])]:
        interval = f"[{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
        cells = (Text(cell) for cell in (name, str(gain.n), f"{100 * gain.mean:+.1f}", interval))
        table.add_row(*cells, style="bold" if name == "all" else "")
    console.print(table)


COSTS_EPILOG = "Examples:\n\n  posttrain costs\n\n  posttrain costs 20260131-1200 --json"


@app.command(epilog=COSTS_EPILOG)
def costs(
    run: Annotated[str | None, typer.Argument(help="First characters of a run's id. Default: the newest run.")] = None,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a recorded run cost, step by step and row by row, and what the store saved it."""
    from flows.costs import costs_of, costs_table, find_run
    from flows.report import cost_table
    from infra.run import open_store, read_runs

    found = costs_of(find_run(read_runs(open_store(open_runtime(profile, store))), run))
    if as_json:
        print(found.model_dump_json(indent=1))
        return
    console.print(costs_table(found))
    console.print(cost_table(found.cost))
    spent, saved = found.cost.spent, found.cost.saved
    console.print(
        f"run {found.run} spent {spent.seconds:,.0f} s and {spent.usd:,.2f} USD; the store saved it "
        f"{saved.seconds:,.0f} s and {saved.usd:,.2f} USD",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
