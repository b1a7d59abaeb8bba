"""What a Prefect server is told: a pool of another type is refused, since Prefect would keep it and only warn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.config import ConfigError
from infra.runtime import PoolRuntime
from infra.stack.plan import DEPLOYMENTS
from infra.stack.setup import _pool

TEMPLATE = DEPLOYMENTS / "pools" / "process.json"


class FakePrefect:
    """A server's pools: name → type."""

    def __init__(self, **pools: str) -> None:
        self.pools = pools

    def read_work_pool(self, name: str) -> Any:
        from prefect.exceptions import ObjectNotFound

        if name not in self.pools:
            raise ObjectNotFound(http_exc=ValueError("404"))
        return SimpleNamespace(type=self.pools[name])

    def create_work_pool(self, wanted: Any, overwrite: bool) -> None:
        assert overwrite
        self.pools.setdefault(wanted.name, wanted.type)  # as Prefect does


def set_up_cpu(server: FakePrefect, template: Path = TEMPLATE) -> None:
    _pool(server, "cpu", PoolRuntime(limit=7), template)


def test_a_pool_is_made_and_made_again() -> None:
    server = FakePrefect()
    set_up_cpu(server)
    set_up_cpu(server)
    assert server.pools == {"cpu": "process"}


def test_a_pool_of_another_type_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"pool cpu is of type docker, .*\(prefect work-pool delete cpu\), then"):
        set_up_cpu(FakePrefect(cpu="docker"))
