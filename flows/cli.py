"""posttrain: run and plan recipes. Imports no torch, Prefect or MLflow before a run needs them."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import threading
import time
import tomllib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from infra.config import ConfigError

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.run import PlannedStep
    from infra.runtime import Runtime

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Public questions → curated data → SFT → two-stage GRPO → benchmark scores.",
)
# A pipe has no width of its own; 80 columns would cut the tables.
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)

INTERRUPT_GRACE_S = 5.0

RecipeArgument = Annotated[str, typer.Argument(help="Name of a recipe in flows/recipes, or the path of a TOML file.")]
ProfileOption = Annotated[str, typer.Option(help="Name of a profile in infra/profiles, or the path of a TOML file.")]
StoreOption = Annotated[
    str | None, typer.Option(help="Store: a folder, or s3://bucket/prefix. Default: the profile's.")
]
RawOption = Annotated[str | None, typer.Option("--raw", help="Folder of raw files, for recipes that read one.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a recipe field: --set sft.lr=1e-3 (TOML value). Repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]

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

    started = time.monotonic()
    chosen = load_recipe(recipe, _overrides(override))
    runtime = _runtime(profile, store, raw)
    # Walking the flows first costs a second and finds a missing file before anything is started.
    planned = _plan(chosen, runtime)
    num_hits = sum(line.state == "hit" for line in planned)
    errors.print(f"recipe [bold]{chosen.name}[/]: {num_hits} of {len(planned)} steps are in the store {runtime.store}")
    prepare_environment(runtime.scratch_folder.parent)
    _run(chosen, runtime, started, as_json)


def _run(recipe: Recipe, runtime: Runtime, started: float, as_json: bool) -> None:
    from flows.post_train import post_train
    from flows.report import build_report, print_report
    from infra.lineage import MlflowLineage
    from infra.run import Run, active

    with active(Run(recipe.name, runtime)) as current:
        lineage = MlflowLineage(current)
        current.lineage = lineage
        made = post_train(recipe, runtime)
        report = build_report(current, made.reports, made.checkpoint, time.monotonic() - started, lineage.page)
        current.store.note(f"runs/{current.id}.json", report.model_dump_json(indent=1).encode())
    if as_json:
        print(report.model_dump_json(indent=1))
    else:
        print_report(report, console)


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

    planned = _plan(load_recipe(recipe, _overrides(override)), _runtime(profile, store, raw))
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


def _runtime(profile: str, store: str | None, raw: str | None) -> Runtime:
    from infra.runtime import load_profile

    given = {"store": store, "raw_folder": raw}
    return load_profile(profile, {key: value for key, value in given.items() if value is not None})


def _overrides(pairs: list[str] | None) -> dict[str, Any]:
    """`key=value` texts as dotted keys and TOML values.

    Raises:
        ConfigError: a text has no `=`, or its value is not TOML.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            raise ConfigError(
                f"--set {pair}: not KEY=VALUE with a TOML value; write text in quotes: --set 'a.b=\"text\"'"
            ) from None
        if not equals:
            raise ConfigError(f"--set {pair}: no `=`; write --set key=value")
    return overrides


def main() -> None:
    """Run the command line: one clear error and an exit code other than 0 when something is wrong."""
    # As after Ctrl-C, so that servers and trainers that we started end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app(standalone_mode=True)
    except Exception as error:
        sys.exit(_tell(error))


def _interrupt(*_: object) -> NoReturn:
    """End in order, but soon: a terminal's Ctrl-C ends Prefect's embedded server too, and its client would wait for it.

    Nothing is lost by leaving at once: what is published is whole, and our child processes die with us.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    errors.print("interrupted; run the same command again and it goes on", style="yellow")
    leave = threading.Timer(INTERRUPT_GRACE_S, os._exit, (128 + signal.SIGINT,))
    leave.daemon = True
    leave.start()
    raise KeyboardInterrupt


def _tell(error: Exception) -> int:
    """Print one error. Most carry their remedy; of the others the trace helps, and goes to a file."""
    errors.print("[bold red]error[/] ", end="")
    errors.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        errors.print("free space on that disk, or name another --store; then run the same command again")
    if not isinstance(error, ConfigError):
        errors.print(f"nothing half-made was published; {_keep_trace(error)}", style="dim", soft_wrap=True)
    return 1


def _keep_trace(error: Exception) -> str:
    trace = Path(tempfile.gettempdir()) / f"posttrain-error-{os.getpid()}.log"
    try:
        trace.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError as full:
        return f"the trace could not be kept: {full}"
    return f"the trace is in {trace}"


if __name__ == "__main__":
    main()
