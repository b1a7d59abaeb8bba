"""What happens when a phase's deployment runs on a worker: its run is opened, its result is left for whoever waits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from infra.dispatch import PoolDispatcher, Ticket, result_note, while_needed
from infra.passing import artifacts_in, encode
from infra.run import RefusedError, Run, active
from infra.runtime import worker_runtime

if TYPE_CHECKING:
    from infra.phase import Phase


def run_deployed(phase: Phase[Any, Any], given: Mapping[str, Any]) -> Any:
    """Run a phase from its filled form; its result, encoded, or the Prefect state Refused.

    Raises:
        ConfigError: a field that cannot be used.
    """
    from prefect.states import Cancelled

    ticket = Ticket.model_validate(given["ticket"]) if given.get("ticket") else None
    with _opened(phase, given, ticket) as run:
        arguments = phase.arguments(given, run)
        run.note_inputs(artifacts_in(tuple(arguments.values())))
        try:
            result = encode(phase.run_in(run, arguments))
        except RefusedError as refused:
            run.reason = str(refused)
            return Cancelled(name="Refused", message=str(refused))
        run.store.note(result_note(run.id, run.part), json.dumps(result).encode())
        return result


@contextmanager
def _opened(phase: Phase[Any, Any], given: Mapping[str, Any], ticket: Ticket | None) -> Iterator[Run]:
    from prefect.context import FlowRunContext

    from infra.lineage import MlflowLineage

    context: Any = FlowRunContext.get()
    flow_run = context.flow_run
    runtime = worker_runtime(given.get("profile") or None)
    # A run that began here is named by its flow run, so that a retry or a resumed pause is the same run.
    own_id = f"{flow_run.expected_start_time:%Y%m%d-%H%M%S}-{str(flow_run.id)[-6:]}"
    run = Run(
        recipe_name(given),
        runtime,
        id_=ticket.run if ticket else own_id,
        part=ticket.part if ticket else phase.name,
    )
    with active(run), while_needed(flow_run.id, ticket.parent if ticket else None):
        lineage = MlflowLineage(run, parent_id=ticket.lineage if ticket else None)
        run.lineage = lineage
        run.dispatcher = PoolDispatcher(run, str(flow_run.id), flow_run.run_count, lineage.run_id)
        yield run


def recipe_name(given: Mapping[str, Any]) -> str:
    """Name of the recipe in a filled form, whether it is validated or plain JSON."""
    recipe = given["recipe"]
    return str(recipe["name"] if isinstance(recipe, Mapping) else recipe.name)
