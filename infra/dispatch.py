"""Phases as flow runs of their own deployments on their own pools, and the watch that ends them with their parent."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

import httpx
from pydantic import Field

from infra.config import Config
from infra.passing import encode
from infra.run import Run

POLL_S = 2.0
# Seconds that the worker gets to end a flow run whose parent is gone, before the process ends itself.
WORKER_GRACE_S = 15.0
SIGTERM_GRACE_S = 60.0


class DispatchError(RuntimeError):
    """A phase's flow run that did not complete."""


class Ticket(Config):
    """What makes a flow run part of a run that began in another process."""

    run: str = Field(description="id of the run")
    part: str = Field(description="name of this call within the run")
    lineage: str = Field(description="the run's parent in MLflow")
    parent: str = Field(description="the flow run that waits for this one; when it ends, this one ends")


def deployment_of(phase: str) -> str:
    """`flow/deployment` that a phase is dispatched to."""
    return f"{phase}/{phase}"


def result_note(run: str, part: str) -> str:
    """Store note where a dispatched phase leaves its result."""
    return f"runs/results/{run}/{part}.json"


class PoolDispatcher:
    """Calls phases of one run through the Prefect API.

    Args:
        run: the run whose phases are dispatched.
        flow_run: id of the flow run that waits for them.
        attempt: its run count; a retried parent asks anew, an interrupted wait finds the flow run that is there.
        lineage: the run's parent in MLflow.
    """

    def __init__(self, run: Run, flow_run: str, attempt: int, lineage: str) -> None:
        self._run, self._flow_run, self._attempt, self._lineage = run, flow_run, attempt, lineage
        self._calls: Counter[str] = Counter()
        self._served: dict[str, bool] = {}

    def serves(self, phase: str) -> bool:
        """True when the phase has a deployment; without one it runs inline."""
        if phase not in self._served:
            self._served[phase] = _has_deployment(phase)
        return self._served[phase]

    def call(self, phase: str, arguments: Mapping[str, Any]) -> Any:
        """Run the phase's deployment and wait; its result, encoded.

        Raises:
            DispatchError: the flow run failed, crashed or was cancelled; the message says where to look.
        """
        from prefect.deployments import run_deployment

        self._calls[phase] += 1
        part = f"{phase}-{self._calls[phase]}"
        ticket = Ticket(run=self._run.id, part=part, lineage=self._lineage, parent=self._flow_run)
        made: Any = run_deployment(
            deployment_of(phase),
            parameters={name: encode(value) for name, value in arguments.items()} | {"ticket": encode(ticket)},
            flow_run_name=f"{self._run.name} {part}",
            idempotency_key=f"{self._run.id}/{part}/{self._attempt}",
            tags=[f"recipe:{self._run.name}", f"run:{self._run.id}"],
            timeout=0,
        )
        done = _wait_for(made.id)
        if done.state is None or not done.state.is_completed():
            name, why = (done.state.name, done.state.message) if done.state else ("unknown", "")
            raise DispatchError(f"{phase} ended {name}: {why or 'no message'}; see flow run {done.name} ({done.id})")
        answer = self._run.store.read_note(result_note(self._run.id, part))
        if answer is None:
            raise DispatchError(
                f"{phase} completed, but left no result in {self._run.store.uri}; the worker of its pool has a profile "
                "with another store: give all workers the same one"
            )
        return json.loads(answer)


def _wait_for(flow_run: UUID) -> Any:
    """The flow run once it is over. Patient: the server may be started anew while a training goes on for days.

    Raises:
        DispatchError: the server refuses to tell.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        while True:
            try:
                seen = client.read_flow_run(flow_run)
                if seen.state is not None and seen.state.is_final():
                    return seen
            except (OSError, httpx.HTTPError) as error:
                if _is_refusal(error):
                    raise DispatchError(f"flow run {flow_run} cannot be followed: {error}") from error
            time.sleep(POLL_S)


def _is_refusal(error: Exception) -> bool:
    """True when asking again cannot help."""
    if not isinstance(error, httpx.HTTPStatusError):
        return False
    return error.response.status_code < 500 and error.response.status_code not in (408, 429)


def _has_deployment(phase: str) -> bool:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(deployment_of(phase))
        except ObjectNotFound:
            return False
    return True


@contextmanager
def while_needed(flow_run: UUID, parent: str | None) -> Iterator[None]:
    """Within the block, cancel our own flow run once the one that waits for it is cancelled, crashed or failed.

    A parent's cancellation ends its own process only. The look-out is in the child, so it also works when the parent
    was killed and could tell nobody.
    """
    if parent is None:
        yield
        return
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(flow_run, UUID(parent), over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()


def _watch(flow_run: UUID, parent: UUID, over: threading.Event) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    with get_client(sync_client=True) as client:
        while not over.wait(POLL_S):
            why = _end_of(client, parent)
            if why is not None:
                with suppress(OSError, httpx.HTTPError):
                    client.set_flow_run_state(flow_run, Cancelling(message=why))
                _end_ourselves(over)
                return


def _end_of(client: Any, parent: UUID) -> str | None:
    """Why nobody waits for us any more; None while somebody does, or while nothing is known."""
    from prefect.exceptions import ObjectNotFound

    try:
        state = client.read_flow_run(parent).state
    except ObjectNotFound:
        return "the flow run that waits for this one was deleted"
    except (OSError, httpx.HTTPError):  # the server is away for a moment
        return None
    if state is not None and (state.is_final() or state.is_cancelling()):
        return f"the flow run that waits for this one is {state.name}"
    return None


def _end_ourselves(over: threading.Event) -> None:
    """What the worker does for a cancelled flow run; where it does not, or code of ours does not listen, we do."""
    for grace_s, number in ((WORKER_GRACE_S, signal.SIGTERM), (SIGTERM_GRACE_S, signal.SIGKILL)):
        if over.wait(grace_s):
            return
        os.kill(os.getpid(), number)
