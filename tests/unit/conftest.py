"""Stores to test against: a folder, and S3 served by moto over real HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.output import Output, Resources
from infra.store import Store

BUCKET = "posttrain"


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, Any]]:
    """fsspec options of an S3 server that lives as long as the session, with one bucket."""
    server_module = pytest.importorskip("moto.server")
    import fsspec

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "test", "secret": "test"}
    fsspec.filesystem("s3", **options).call_s3("create_bucket", Bucket=BUCKET)
    yield options
    server.stop()


@pytest.fixture(params=["local", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store, once in a folder and once on S3."""
    if request.param == "local":
        return Store(str(tmp_path / "store"), local=tmp_path / "local")
    options = request.getfixturevalue("s3_options")
    return Store(f"s3://{BUCKET}/{uuid.uuid4().hex}", local=tmp_path / "local", options=options)


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    return Store(str(tmp_path / "store"), local=tmp_path / "local")


@pytest.fixture
def out(local_store: Store, tmp_path: Path) -> Output:
    """What a step named `a-step` writes through."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Output("a-step", scratch=scratch, store=local_store, resources=Resources())


@pytest.fixture(params=["local", "s3"])
def starred_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store whose address looks like a pattern, once in a folder and once on S3."""
    if request.param == "local":
        return Store(str(tmp_path / "b[1]*?"), local=tmp_path / "local")
    options = request.getfixturevalue("s3_options")
    return Store(f"s3://{BUCKET}/{uuid.uuid4().hex}/b[1]*", local=tmp_path / "local", options=options)
