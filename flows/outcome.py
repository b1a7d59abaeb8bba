"""What a run leaves to be seen when it ends: its report in the store, and cards in Prefect and MLflow."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flows.costs import cost_card, costs_of
from flows.report import RunReport, build_report
from infra.artifacts import Checkpoint, Report
from infra.card import funnel_table
from infra.cards import link, show
from infra.run import RUNS, Run, require_run, run_record


def show_outcome(checkpoint: Checkpoint, reports: Sequence[Report]) -> None:
    """Write the report of the run, whichever processes its phases ran in, and show it."""
    run = require_run()
    if run.planning:
        return
    report = report_of(run, checkpoint, reports)
    run.store.note(f"{RUNS}/{run.id}/report.json", report.model_dump_json(indent=1).encode())
    show("report", report_card(report))
    show("funnel", f"# Funnel: every raw row, by source and reason\n\n{funnel_table(report.funnel)}")
    show("cost", cost_card(costs_of(run_record(run))))
    if run.lineage is not None:
        run.lineage.describe(report_card(report))
        link("mlflow", run.lineage.url, f"run {run.id} in MLflow: inputs, models, curves, lineage.html")


def report_of(run: Run, checkpoint: Checkpoint, reports: Sequence[Report]) -> RunReport:
    """The report of a run that is about to end."""
    page = run.lineage.url if run.lineage is not None else ""
    return build_report(run, run_record(run).steps, reports, checkpoint, time.time() - run.started, page)


def report_card(report: RunReport) -> str:
    """Scores after each training phase, and where things lie, in Markdown."""
    lines = [
        f"# {report.recipe}: scores, in points, with 95 % intervals",
        "| after | benchmark | measure | score | gain over the line before (paired) |\n|" + " --- |" * 5,
    ]
    for line in report.scores:
        score, gain = line.score, line.gain
        told = "" if gain is None else f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
        lines[-1] += (
            f"\n| {line.after} | {line.benchmark} | avg@{score.k}, {score.n} problems "
            f"| {100 * score.mean:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}] | {told} |"
        )
    lines.append(f"Run {report.run} took {report.seconds:.0f} s.")
    lines.append(f"- checkpoint `{report.checkpoint_digest[:12]}` in `{report.checkpoint}`\n- store `{report.store}`")
    if report.stand_ins:
        lines.append(f"A scripted stand-in, no real model, played: {', '.join(report.stand_ins)}.")
    return "\n\n".join(lines)
