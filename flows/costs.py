"""The cost ledger of a recorded run: each step, each kept row, what the store saved. Also as JSON and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from flows.report import StepLine, per_training_row, run_cost, step_lines
from infra.config import Config, ConfigError
from infra.costs import CostSummary
from infra.output import Cost
from infra.run import RunRecord

_HEADER = (
    "step", "state", "rows", "to make s", "s a row", "USD", "USD a row", "tokens in", "tokens out", "cached rows",
    "saved s", "saved USD",
)  # fmt: skip


class RunCosts(Config):
    """What a run cost."""

    run: str
    recipe: str
    state: str
    steps: tuple[StepLine, ...]
    cost: CostSummary


def costs_of(run: RunRecord) -> RunCosts:
    """The ledger of a run, whichever processes its phases ran in."""
    return RunCosts(
        run=run.id, recipe=run.recipe, state=run.state, steps=step_lines(run.steps), cost=run_cost(run.steps)
    )


def find_run(runs: Sequence[RunRecord], text: str | None) -> RunRecord:
    """The run whose id begins with `text`; by default the newest.

    Raises:
        ConfigError: no such run, or more than one.
    """
    found = [run for run in runs if text is None or run.id.startswith(text)]
    if not found:
        if not runs:
            raise ConfigError("no run is recorded in the store; run a recipe first: posttrain run RECIPE")
        raise ConfigError(f"no run `{text}` in the store; the newest are: {', '.join(run.id for run in runs[-5:])}")
    if text is not None and len(found) > 1 and text not in {run.id for run in found}:
        raise ConfigError(f"{len(found)} runs begin with {text}: {', '.join(run.id for run in found)}; give more of it")
    return next((run for run in found if run.id == text), found[-1])


def costs_table(costs: RunCosts) -> Table:
    """A line for each step, for a person."""
    table = Table(title=f"Cost by step: recipe {costs.recipe}, run {costs.run} ({costs.state})", title_justify="left")
    for name in _HEADER:
        table.add_column(name, justify="left" if name in {"step", "state"} else "right")
    for line in costs.steps:
        table.add_row(*_cells(line))
    return table


def cost_card(costs: RunCosts) -> str:
    """The same as Markdown: totals, then each step."""
    totals = (
        ("spent", costs.cost.spent),
        ("saved by the store", costs.cost.saved),
        ("to make it all", costs.cost.made),
    )
    parts = [
        f"# Cost of run {costs.run}",
        _markdown(("", *_TOTALS), [(name, *_total_cells(cost)) for name, cost in totals]),
        per_training_row(costs.cost),
        _markdown(_HEADER, [_cells(line) for line in costs.steps]),
    ]
    return "\n\n".join(part for part in parts if part)


_TOTALS = ("seconds", "USD", "tokens in", "tokens out", "row-cache hits")


def _total_cells(cost: Cost) -> tuple[str, ...]:
    counts = (cost.prompt_tokens, cost.completion_tokens, cost.cache_hits)
    return (f"{cost.seconds:,.1f}", f"{cost.usd:,.4f}", *(f"{count:,}" for count in counts))


def _cells(line: StepLine) -> tuple[str, ...]:
    return (
        line.label,
        line.state,
        f"{line.rows_out:,}" if line.rows_out else "",
        f"{line.seconds_to_make:,.1f}",
        "" if line.seconds_per_row is None else f"{line.seconds_per_row:.2g}",
        _some(line.usd),
        "" if not line.usd_per_row else f"{line.usd_per_row:.2g}",
        *("" if not count else f"{count:,}" for count in (line.prompt_tokens, line.completion_tokens)),
        f"{line.row_cache_hits:,}" if line.row_cache_hits else "",
        f"{line.saved_s:,.1f}" if line.saved_s else "",
        _some(line.saved_usd),
    )


def _some(usd: float) -> str:
    return f"{usd:,.4f}" if usd else ""


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
