"""The end of a run: its checkpoint becomes `candidate`, and behind the gate and a person's yes `champion`."""

from __future__ import annotations

from flows.approval import ask
from flows.promotion import CHAMPION, Candidate, Contest, hold_contest
from flows.recipe import Recipe
from infra.aliases import set_alias
from infra.artifacts import Checkpoint, Report
from infra.cards import show
from infra.run import Run, require_run

CANDIDATE = "candidate"


def propose(policy: Checkpoint, reports: tuple[Report, ...], recipe: Recipe, ask_person: bool) -> None:
    """Set `candidate`; with a person to ask, and where the gate passes, ask whether it shall be `champion`.

    Raises:
        RefusedError: the person says no; the checkpoint stays `candidate`.
    """
    run = require_run()
    if run.planning:
        return
    candidate = Candidate(run.id, policy, report=reports[-1], base=reports[0])
    contest = hold_contest(run.store, recipe.name, recipe.promotion, candidate)
    card = gate_card(contest)
    show("promotion-gate", card)
    point(run, CANDIDATE, policy, "last checkpoint of its run")
    if ask_person and contest.result.passed and not contest.is_champion:
        reason = ask("approve-champion", f"Make {policy.name} the champion of {recipe.name}?", card)
        point(run, CHAMPION, policy, reason)


def point(run: Run, alias: str, checkpoint: Checkpoint, reason: str) -> None:
    """Move an alias of the run's recipe in the store, and in MLflow's registry after it."""
    set_alias(run.store, run.name, alias, checkpoint, reason, by=f"run {run.id}")
    if run.lineage is not None:
        run.lineage.set_alias(run.store.manifest(checkpoint), run.name, alias)


def gate_card(contest: Contest) -> str:
    """What the gate says, in Markdown."""
    against = f"champion `{contest.champion.digest[:12]}`" if contest.champion else "the run's own base model"
    lines = [
        f"# Gate: {contest.candidate.checkpoint.name} against {against}",
        "**passed**" if contest.result.passed else "**not passed**: " + "; ".join(contest.result.reasons),
        "| benchmark | gain in points | 95 % interval | problems |\n| --- | --- | --- | --- |",
    ]
    gains = {**contest.result.gains, **({"all": contest.result.overall} if contest.result.overall else {})}
    rows = [
        f"| {name} | {100 * gain.mean:+.1f} | [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}] | {gain.n} |"
        for name, gain in gains.items()
    ]
    return "\n\n".join(lines) + "\n" + "\n".join(rows)
