"""What a person sees at the end of a run: phases, scores with intervals, funnel, where things lie. Also as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import Field
from rich.console import Console
from rich.table import Table

from infra.artifacts import Checkpoint, Report, Score
from infra.config import Config
from infra.costs import CostSummary, StepCost, cost_summary, step_cost
from infra.run import RUNS, PlannedStep, Run, StepRecord
from infra.runtime import without_password
from infra.store import Store
from tasks.benchmark.scores import PairedGain, paired_gain, problem_scores

# The phases whose steps keep or drop raw rows, and the steps among them that make something else of them.
_CURATION = {"ingest", "filter-queries", "verify", "synthesize"}
_NOT_COUNTED = {"ingest-benchmark", "collect-answers", "synthesize-responses", "generate-corpus"}


class StepLine(StepCost):
    """One step of the run, with its cost."""

    phase: str
    label: str
    rows_in: int
    rows_out: int
    state: str = Field(description="run or cached")
    seconds: float
    digest: str


class ScoreLine(Config):
    """One benchmark after one training phase; `gain` is paired with the line before."""

    after: str
    benchmark: str
    score: Score
    gain: PairedGain | None


class RunReport(Config):
    """Everything that `posttrain run` reports."""

    recipe: str
    run: str
    seconds: float
    steps: tuple[StepLine, ...]
    scores: tuple[ScoreLine, ...]
    funnel: dict[str, dict[str, int]] = Field(
        description="source → {reason or `kept`: raw rows}, over all curation steps"
    )
    cost: CostSummary
    checkpoint: str = Field(description="Hugging Face folder of the last checkpoint; in a bucket its address")
    checkpoint_digest: str
    store: str
    mlflow_command: str = Field(description="opens MLflow on the run; empty where a server shows it already")
    lineage_page: str = Field(description="the clickable map of everything that the run used and made")
    mlflow_page: str = Field(description="address of the run's page")
    stand_ins: tuple[str, ...] = Field(description="roles that the scripted stand-in played")


def build_report(
    run: Run,
    records: Sequence[StepRecord],
    reports: Sequence[Report],
    checkpoint: Checkpoint,
    seconds: float,
    page: str,
) -> RunReport:
    """Gather the report of a finished run; `records` may come from several processes."""
    endpoints = run.runtime.endpoints
    return RunReport(
        recipe=run.name,
        run=run.id,
        seconds=round(seconds, 1),
        steps=step_lines(records),
        scores=_score_lines(run.store, reports),
        funnel=total_funnel(records),
        cost=run_cost(records),
        checkpoint=_checkpoint_place(run.store, checkpoint),
        checkpoint_digest=checkpoint.digest,
        store=run.store.uri,
        lineage_page=f"{run.store.uri}/{RUNS}/{run.id}/lineage.html",
        mlflow_command=_mlflow_command(run.runtime.mlflow_uri),
        mlflow_page=page,
        stand_ins=tuple(sorted(role for role, endpoint in endpoints.items() if endpoint.base_url == "stand-in")),
    )


def _checkpoint_place(store: Store, checkpoint: Checkpoint) -> str:
    """A folder costs links in a local store; from a bucket it would fetch all weights only to be named."""
    return str(store.checkout(checkpoint)) if store.is_local else checkpoint.uri


def _mlflow_command(tracking_uri: str) -> str:
    if tracking_uri.startswith("http"):
        return ""
    if without_password(tracking_uri) != tracking_uri:  # a report is stored and shown
        return 'mlflow server --backend-store-uri "$MLFLOW_BACKEND_STORE_URI" --port 5000'
    return f"mlflow server --backend-store-uri {tracking_uri} --port 5000"


def step_lines(records: Sequence[StepRecord]) -> tuple[StepLine, ...]:
    """A line for each step."""
    return tuple(
        StepLine(
            phase=r.phase,
            label=r.label,
            rows_in=r.rows_in,
            rows_out=r.rows_out,
            digest=r.artifact.digest,
            state="cached" if r.cached else "run",
            seconds=round(r.seconds, 2),
            **step_cost(r).model_dump(),
        )
        for r in records
    )


def run_cost(records: Sequence[StepRecord]) -> CostSummary:
    """Totals; training gets the rows of the last curation step, and all curation is their cost."""
    curation = [record for record in records if record.phase in _CURATION]
    counted = [record for record in curation if record.step not in _NOT_COUNTED]
    return cost_summary(records, curation, training_rows=counted[-1].rows_out if counted else 0)


def total_funnel(records: Sequence[StepRecord]) -> dict[str, dict[str, int]]:
    """Source → reason → raw rows over the curation steps; `kept` is what the last of them kept. Rows in = sum."""
    totals: dict[str, Counter[str]] = {}
    for record in records:
        if record.phase not in _CURATION or record.step in _NOT_COUNTED:
            continue
        for source, counts in record.funnel.items():
            total = totals.setdefault(source, Counter())
            total.update({reason: count for reason, count in counts.items() if reason != "kept"})
            total["kept"] = counts.get("kept", 0)
        if record.step != "ingest-source":
            for source in totals.keys() - record.funnel.keys():
                totals[source]["kept"] = 0  # the step over all sources saw no row of this one
    return {source: dict(sorted(counts.items())) for source, counts in sorted(totals.items())}


def _score_lines(store: Store, reports: Sequence[Report]) -> tuple[ScoreLine, ...]:
    lines: list[ScoreLine] = []
    before: dict[str, dict[str, float]] = {}
    for report in reports:
        now = problem_scores(store, report)
        for benchmark, score in report.scores.items():
            gain = paired_gain(before[benchmark], now[benchmark]) if benchmark in before else None
            lines.append(
                ScoreLine(after=report.name.removeprefix("scores "), benchmark=benchmark, score=score, gain=gain)
            )
        before = now
    return tuple(lines)


def print_report(report: RunReport, console: Console) -> None:
    """Tables for a person."""
    console.print(_steps_table(report))
    console.print(_funnel_table(report))
    console.print(_scores_table(report))
    console.print(cost_table(report.cost))
    if report.stand_ins:
        console.print(f"scripted stand-in, no real model, played: {', '.join(report.stand_ins)}", style="yellow")
    console.print(f"[bold]recipe {report.recipe}[/] finished in {report.seconds:.0f} s; run {report.run}")
    for name, value in (
        ("checkpoint", report.checkpoint),
        ("store", report.store),
        ("lineage", report.lineage_page),
        ("MLflow", report.mlflow_command),
        ("then open" if report.mlflow_command else "open", report.mlflow_page),
    ):
        if value:
            console.print(f"  {name:<11} {value}", soft_wrap=True, highlight=False)


def _steps_table(report: RunReport) -> Table:
    table = Table(title="Phases", title_justify="left")
    for name in ("phase", "step", "rows in", "rows out", "state", "seconds"):
        table.add_column(name, justify="right" if name in {"rows in", "rows out", "seconds"} else "left")
    before = ""
    for line in report.steps:
        phase = line.phase if line.phase != before else ""
        before = line.phase
        counts = (str(line.rows_in or ""), str(line.rows_out or ""))
        table.add_row(phase, line.label, *counts, line.state, f"{line.seconds:.1f}")
    return table


def _funnel_table(report: RunReport) -> Table:
    """A line for each source: most have a few reasons of their own, and a column for each reason would not fit."""
    table = Table(title="Funnel: every raw row, by source and reason", title_justify="left")
    for name in ("source", "raw", "kept", "dropped", "reasons"):
        table.add_column(name, justify="left" if name in {"source", "reasons"} else "right")
    for source, counts in report.funnel.items():
        dropped = {reason: count for reason, count in counts.items() if reason != "kept"}
        most_first = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
        reasons = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in most_first)
        cells = (sum(counts.values()), counts.get("kept", 0), sum(dropped.values()))
        table.add_row(source, *(str(cell) for cell in cells), reasons)
    return table


def _scores_table(report: RunReport) -> Table:
    table = Table(title="Scores, in points, with 95 % intervals", title_justify="left")
    for name in ("after", "benchmark", "measure", "score", "gain over the line before (paired)"):
        table.add_column(name)
    for line in report.scores:
        score = line.score
        gain = "" if line.gain is None else f"{_points(line.gain.mean, sign=True)} {_interval(line.gain)}"
        measure = f"avg@{score.k}, {score.n} problems"
        table.add_row(line.after, line.benchmark, measure, f"{_points(score.mean)} {_interval(score)}", gain)
    return table


def cost_table(cost: CostSummary) -> Table:
    """What the run spent, what the store saved it, and what everything takes to make."""
    table = Table(title="Cost", title_justify="left", caption=per_training_row(cost), caption_justify="left")
    for name in ("", "seconds", "USD", "prompt tokens", "completion tokens", "row-cache hits"):
        table.add_column(name, justify="right" if name else "left")
    for name, part in (("spent", cost.spent), ("saved by the store", cost.saved), ("to make it all", cost.made)):
        counts = (part.prompt_tokens, part.completion_tokens, part.cache_hits)
        table.add_row(name, f"{part.seconds:,.1f}", f"{part.usd:,.4f}", *(f"{count:,}" for count in counts))
    return table


def per_training_row(cost: CostSummary) -> str:
    """One phrase: what the curation of one row takes; empty where no row was curated."""
    if cost.seconds_per_training_row is None:
        return ""
    each = f"{cost.seconds_per_training_row:.3g} s and {cost.usd_per_training_row:.3g} USD"
    return f"curation of {cost.training_rows:,} training rows: {each} a row that was kept"


def _points(share: float, sign: bool = False) -> str:
    return f"{100 * share:+.1f}" if sign else f"{100 * share:.1f}"


def _interval(value: Score | PairedGain) -> str:
    return f"[{100 * value.low:.1f}, {100 * value.high:.1f}]"


def plan_table(planned: Sequence[PlannedStep]) -> Table:
    """What a run would do, step by step."""
    table = Table(title="Plan", title_justify="left")
    for name in ("phase", "step", "state", "why"):
        table.add_column(name)
    style = {"hit": "green", "miss": "yellow", "waits": "dim"}
    for line in planned:
        table.add_row(line.phase, line.label, line.state, line.why, style=style[line.state])
    return table
