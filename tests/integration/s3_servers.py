"""S3 servers on this machine, started for a test and ended with it: SeaweedFS, a real one, and moto's."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.process import ChildProcess, free_port
from infra.runtime import child_environment

STARTUP_TIMEOUT_S = 120.0
BUCKET = "posttrain"
ADMIN, READER = "admin", "reader"
IDENTITIES = {
    ADMIN: ["Admin", "Read", "Write", "List", "Tagging"],
    READER: ["Read", "List"],
}
SERVICES = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class S3Server:
    """A running server with one bucket."""

    endpoint_url: str

    def options(self, identity: str = ADMIN) -> dict[str, Any]:
        """fsspec options of an identity."""
        return {"endpoint_url": self.endpoint_url, "key": identity, "secret": f"{identity}-secret"}

    def file_system(self) -> Any:
        """The server's objects, as its administrator sees them now."""
        import fsspec

        return fsspec.filesystem("s3", use_listings_cache=False, **self.options())


@contextmanager
def seaweed_server(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS with its files in `folder`, on ports that were free."""
    ports = _ports()
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}")
    (folder / "objects").mkdir(parents=True)
    (folder / "identities.json").write_text(json.dumps({"identities": [_identity(name) for name in IDENTITIES]}))
    process = ChildProcess(_command(folder, ports), name="SeaweedFS", log=folder / "log", env=child_environment())
    try:
        _make_bucket(server, process)
        yield server
    finally:
        process.stop(grace_s=0.1)  # its own orderly end takes ten seconds, and nobody reads its files again


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Moto in a thread of this process; it asks nobody for keys."""
    from moto.server import ThreadedMotoServer

    serving = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    server = S3Server(f"http://{host}:{port}")
    server.file_system().call_s3("create_bucket", Bucket=BUCKET)
    try:
        yield server
    finally:
        serving.stop()


def _ports() -> dict[str, int]:
    """Free ports of every service and of its gRPC twin."""
    names = [name for service in SERVICES for name in (f"{service}.port", f"{service}.port.grpc")]
    return {name: free_port() for name in names}


def _identity(name: str) -> dict[str, Any]:
    keys = {"accessKey": name, "secretKey": f"{name}-secret"}
    return {"name": name, "credentials": [keys], "actions": IDENTITIES[name]}


def _command(folder: Path, ports: dict[str, int]) -> list[str]:
    settings = {
        "dir": folder / "objects",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 100,
        "volume.preStopSeconds": 0,
        "filer.localSocket": folder / "filer.sock",
        "s3": "true",
        "s3.config": folder / "identities.json",
        "s3.iam": "false",
        "s3.localSocket": folder / "s3.sock",
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    weed = str(Path(sys.executable).with_name("weed"))
    return [weed, "server", *(f"-{name}={value}" for name, value in {**settings, **ports}.items())]


def _make_bucket(server: S3Server, process: ChildProcess) -> None:
    """Wait until an object can be written: the gateway listens before the rest is up."""
    deadline = time.monotonic() + STARTUP_TIMEOUT_S
    while not _is_writable(server):
        assert process.running, process.tail()
        assert time.monotonic() < deadline, f"SeaweedFS does not answer; its log ends: {process.tail()}"
        time.sleep(0.5)


def _is_writable(server: S3Server) -> bool:
    from botocore.exceptions import BotoCoreError

    try:
        files = server.file_system()
        if not files.exists(BUCKET):
            files.call_s3("create_bucket", Bucket=BUCKET)
        files.pipe_file(f"{BUCKET}/ready", b"")
    except (BotoCoreError, OSError):
        return False
    return True
