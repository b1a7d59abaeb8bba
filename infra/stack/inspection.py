"""What a running stack says of itself over HTTP: pools, workers, flow runs; and how its flow runs are cancelled."""

from __future__ import annotations

import time
from typing import Any, Literal

import httpx
from pydantic import Field
from rich.table import Table
from rich.text import Text

from infra.config import Config
from infra.stack.keeper import ServiceState, StackState, answers
from infra.stack.plan import Plan

ACTIVE = ("RUNNING", "PENDING", "CANCELLING", "PAUSED")
TIMEOUT_S = 10.0
CANCEL_TIMEOUT_S = 30.0
PAGE = 200


class FlowRunSeen(Config):
    """A flow run that is not over."""

    id: str
    name: str
    state: str
    started: str | None = Field(default=None, description="ISO time")
    pool: str | None = None


class PoolSeen(Config):
    """A work pool."""

    name: str
    type: str
    status: str = Field(description="READY, NOT_READY or PAUSED")
    limit: int | None
    workers_online: int


class StackSeen(Config):
    """How a stack is."""

    state: Literal["up", "starting", "down", "failed", "stopping"]
    error: str = ""
    services: tuple[ServiceState, ...] = ()
    pools: tuple[PoolSeen, ...] = ()
    flow_runs: tuple[FlowRunSeen, ...] = ()


def look(plan: Plan, state: StackState | None) -> StackSeen:
    """Look at the stack of a plan; `state` is what its keeper tells or told last, None when there is no keeper."""
    if state is None:
        return StackSeen(state="down")
    if state.state == "failed" or not answers(f"{plan.prefect_url}/api/health"):
        return StackSeen(state=state.state, error=state.error, services=state.services)
    with prefect_client(plan.prefect_url) as client:
        return StackSeen(
            state=state.state,
            error=state.error,
            services=state.services,
            pools=tuple(_pool(client, fields) for fields in _post(client, "/work_pools/filter", {})),
            flow_runs=tuple(active_flow_runs(client)),
        )


def active_flow_runs(client: httpx.Client) -> list[FlowRunSeen]:
    """Flow runs that run, wait for their process, are being cancelled or wait for a person; newest first."""
    wanted = {"flow_runs": {"state": {"type": {"any_": list(ACTIVE)}}}, "sort": "START_TIME_DESC", "limit": PAGE}
    return [
        FlowRunSeen(
            id=run["id"],
            name=run["name"],
            state=run["state_name"],
            started=run["start_time"],
            pool=run.get("work_pool_name"),
        )
        for run in _post(client, "/flow_runs/filter", wanted)
    ]


def cancel_active(prefect_url: str) -> list[str]:
    """Cancel every active flow run, wait until their processes are gone, and return their names."""
    if not answers(f"{prefect_url}/api/health"):
        return []
    with prefect_client(prefect_url) as client:
        found = active_flow_runs(client)
        for run in found:
            # A paused run has a process too, which waits; forced, since a person asked for it.
            state = {"type": "CANCELLING", "name": "Cancelling", "message": "the stack was taken down"}
            _post(client, f"/flow_runs/{run.id}/set_state", {"state": state, "force": True})
        deadline = time.monotonic() + CANCEL_TIMEOUT_S
        while active_flow_runs(client) and time.monotonic() < deadline:
            time.sleep(0.5)
    return [run.name for run in found]


def prefect_client(prefect_url: str) -> httpx.Client:
    """An HTTP client of a Prefect server's API."""
    return httpx.Client(base_url=f"{prefect_url}/api", timeout=TIMEOUT_S)


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    response = client.post(path, json=body)
    response.raise_for_status()
    return response.json()


def _pool(client: httpx.Client, fields: dict[str, Any]) -> PoolSeen:
    workers = _post(client, f"/work_pools/{fields['name']}/workers/filter", {})
    return PoolSeen(
        name=fields["name"],
        type=fields["type"],
        status=fields["status"] or "",
        limit=fields["concurrency_limit"],
        workers_online=sum(worker["status"] == "ONLINE" for worker in workers),
    )


def status_table(seen: StackSeen) -> list[Table]:
    """Tables for a person. What others named is text, never markup."""
    title = Text(f"Services: the stack is {seen.state} {seen.error}".rstrip(), style="table.title")
    services = Table(title=title, title_justify="left")
    for column in ("service", "state", "process", "starts"):
        services.add_column(column)
    for service in seen.services:
        style = "green" if service.state == "up" else "yellow"
        services.add_row(Text(service.name), service.state, str(service.pid or ""), str(service.starts), style=style)
    pools = Table(title="Pools", title_justify="left")
    for column in ("pool", "type", "status", "flow runs at once", "workers online"):
        pools.add_column(column)
    for pool in seen.pools:
        named = (Text(cell) for cell in (pool.name, pool.type, pool.status))
        pools.add_row(*named, str(pool.limit or "any"), str(pool.workers_online))
    runs = Table(title="Flow runs that are not over", title_justify="left")
    for column in ("flow run", "state", "pool", "since"):
        runs.add_column(column)
    for run in seen.flow_runs:
        runs.add_row(*(Text(cell) for cell in (run.name, run.state, run.pool or "", (run.started or "")[:19])))
    return [table for table, rows in ((services, True), (pools, seen.pools), (runs, seen.flow_runs)) if rows]
