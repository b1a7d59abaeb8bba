"""The end of a run: its checkpoint becomes `candidate`, and behind the gate and a person's yes `champion`."""

from __future__ import annotations

from flows.recipe import Recipe
from infra.artifacts import Checkpoint, Report
from infra.run import require_run


def propose(policy: Checkpoint, reports: tuple[Report, ...], recipe: Recipe, ask_person: bool) -> None:
    """Set `candidate`; with a person to ask, and where the gate passes, ask whether it shall be `champion`."""
    if require_run().planning:
        return
