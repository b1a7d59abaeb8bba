"""What a Prefect server must know before deployments: work pools and automations. Harmless when told twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from infra.config import ConfigError
from infra.runtime import PoolRuntime, StackRuntime, load_profile
from infra.stack.plan import DEPLOYMENTS


def set_up(stack: StackRuntime, deployments: Path = DEPLOYMENTS) -> None:
    """Make or update the pools of a profile and the automations of the project."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for name, pool in stack.pools.items():
            _pool(client, name, pool, deployments / "pools" / f"{pool.template}.json")
        for automation in yaml.safe_load((deployments / "automations.yaml").read_text(encoding="utf-8")):
            _automation(automation)


def _pool(client: Any, name: str, pool: PoolRuntime, template: Path) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    check_type(_type_of(client, name), name, pool)

    wanted = WorkPoolCreate(
        name=name,
        type=pool.type,
        base_job_template=json.loads(template.read_text(encoding="utf-8")),
        concurrency_limit=pool.limit,
    )
    client.create_work_pool(wanted, overwrite=True)
    print(f"pool {name}: {pool.type}, {pool.limit} flow runs at once")


def _type_of(client: Any, name: str) -> str | None:
    """The type of a pool that the server has; None where it has none of that name."""
    from prefect.exceptions import ObjectNotFound

    try:
        return str(client.read_work_pool(name).type)
    except ObjectNotFound:
        return None


def check_type(found: str | None, name: str, wanted: PoolRuntime) -> None:
    """Prefect keeps the type of a pool for ever, and no worker of another type takes anything from it.

    Raises:
        ConfigError: the server's pool is of another type than the profile's.
    """
    if found not in (None, wanted.type):
        raise ConfigError(
            f"pool {name} is of type {found}, and the profile wants {wanted.type}; "
            f"delete it (prefect work-pool delete {name}), then posttrain up"
        )


def _automation(fields: dict[str, Any]) -> None:
    from prefect.automations import Automation

    wanted = Automation.model_validate(fields)
    try:
        found = Automation.read(name=wanted.name)
    except ValueError:
        wanted.create()
    else:
        wanted.id = found.id
        wanted.update()
    print(f"automation {wanted.name}")


if __name__ == "__main__":
    set_up(load_profile(sys.argv[1]).stack)
