"""A person's approval: the flow run pauses in Prefect with a form, and goes on or ends by what it says."""

from __future__ import annotations

from typing import Any

from flows.recipe import Recipe
from infra.artifacts import Dataset
from infra.cards import show
from infra.config import ConfigError
from infra.run import RefusedError, require_run

# A run that nobody answers ends after a week.
TIMEOUT_S = 7 * 24 * 3600
POLL_S = 2


def approve_training(queries: Dataset, recipe: Recipe) -> None:
    """Ask whether to train on a data version.

    Raises:
        RefusedError: the person says no; the run ends in state Refused.
    """
    lines = [f"{source}: {counts.get('kept', 0)} rows" for source, counts in queries.funnel.items()]
    ask(
        key="approve-training",
        question=f"Train {recipe.name} on data version {queries.digest[:12]}, {queries.rows} queries?",
        details="\n".join(f"- {line}" for line in lines),
    )


def ask(key: str, question: str, details: str) -> str:
    """Pause until a person answers; the reason that came with a yes.

    Raises:
        RefusedError: the answer is no.
        ConfigError: there is no server where a person could answer.
    """
    run = require_run()
    if run.planning:
        return ""
    if run.dispatcher is None:
        raise ConfigError(
            "nobody can be asked: approval needs the Prefect UI; run the recipe's deployment after `posttrain up`, or "
            "leave `ask_person` off"
        )
    show(key, f"# {question}\n\n{details}\n\nThe run waits: *Resume* it in its page and fill in the form.")
    answer = _wait_for(question)
    verdict = "approved" if answer.approve else "refused"
    reason = answer.reason or "no reason given"
    run.store.note(f"approvals/{run.id}/{key}.md", f"{question}\n{verdict}: {reason}\n".encode())
    show(key, f"# {question}\n\n**{verdict}**: {reason}\n\n{details}")
    if not answer.approve:
        raise RefusedError(f"{question} Refused: {reason}")
    return reason


def _wait_for(question: str) -> Any:
    from prefect.flow_runs import pause_flow_run
    from prefect.input import RunInput
    from pydantic import Field

    class Approval(RunInput):  # type: ignore[misc]
        """The form."""

        approve: bool = Field(default=False, description=f"{question} Yes goes on; no ends the run.")
        reason: str = Field(default="", description="kept with the run, the data version and the checkpoint")

    return pause_flow_run(wait_for_input=Approval, timeout=TIMEOUT_S, poll_interval=POLL_S)
