"""The stack on Postgres: both servers keep what they know in a real server's databases, over a restart."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.process import free_port
from tests.integration.stack import running_stack, tiny_recipe

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
pytestmark = [
    pytest.mark.integration,
    pytest.mark.thorough,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not BINARIES, reason="no Postgres here: `apt-get install postgresql`"),
    pytest.mark.skipif(find_spec("psycopg2") is None, reason="MLflow's driver is missing: extra `postgres`"),
]
DATABASES = ("prefect", "mlflow")


class Server(NamedTuple):
    """A Postgres server of a test's own."""

    port: int

    def url(self, database: str) -> str:
        """The address that a profile's environment variable holds."""
        return f"postgresql://owner@127.0.0.1:{self.port}/{database}"

    def ask(self, database: str, query: str) -> str:
        """The answer of a query, a row a line."""
        command = [BINARIES[-1] / "psql", "-AtX", self.url(database), "-c", query]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = Path(tmp_path_factory.mktemp("postgres"))
    # Postgres refuses to run as root.
    user: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    inner = Path(f"/tmp/posttrain-postgres-{free_port()}")
    inner.mkdir(mode=0o700)
    if user:
        shutil.chown(inner, "nobody", "nogroup")
    port, control = free_port(), [BINARIES[-1] / "pg_ctl", "-D", inner / "cluster", "-w"]

    def run(*command: object) -> None:
        subprocess.run([str(part) for part in command], check=True, cwd=inner, **user)

    try:
        run(BINARIES[-1] / "initdb", "-D", inner / "cluster", "-A", "trust", "-U", "owner")
        run(*control, "-l", inner / "log", "-o", f"-p {port} -k {inner}", "start")
        running = Server(port)
        for database in DATABASES:
            running.ask("postgres", f"create database {database}")
        yield running
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.copy(inner / "log", folder)
        shutil.rmtree(inner)


def test_both_servers_keep_what_they_know_over_a_restart(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack: dict[str, Any] = {"prefect_port": free_port(), "mlflow_port": free_port()}
    for database in DATABASES:
        monkeypatch.setenv(f"TEST_{database.upper()}_DATABASE", server.url(database))
        stack[f"{database}_database_env"] = f"TEST_{database.upper()}_DATABASE"
    with running_stack(tmp_path, stack=stack) as first:
        flow_run = first.trigger("ingest/ingest", recipe=tiny_recipe())
        first.complete(flow_run)
    assert server.ask("prefect", f"select state_type from flow_run where id = '{flow_run}'") == "COMPLETED\n"
    assert int(server.ask("mlflow", "select count(*) from runs where status = 'FINISHED'")) > 1
    assert not list(first.store_folder.rglob("*.db"))
    with running_stack(tmp_path, stack=stack) as second:
        assert second.flow_run(flow_run)["state_type"] == "COMPLETED"
