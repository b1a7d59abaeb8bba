"""A Docker engine of the tests' own: its folder, socket and processes end with it; no registry and no bridge needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.process import ChildProcess
from infra.runtime import child_environment
from tests.integration.debian_root import RootError, write_root

ROOT = Path(__file__).parents[2]
BASE, SANDBOX = "posttrain-test/base:1", "posttrain-test/sandbox:1"
STARTUP_TIMEOUT_S = 60.0


class EngineError(RuntimeError):
    """No engine can be started here; the message says why."""


@contextmanager
def docker_engine(folder: Path) -> Iterator[Path]:
    """The socket of a running engine that keeps everything below `folder`.

    Raises:
        EngineError: not root, no dockerd, or it did not come up; then with the last lines of its log.
    """
    if os.geteuid() != 0:
        raise EngineError("dockerd needs root")
    if shutil.which("dockerd") is None:
        raise EngineError("no dockerd here; `apt-get install docker.io`")
    socket = folder / "docker.sock"
    places = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    # Flow runs use the host's network and graded programs none, so no bridge and no firewall rules are made here.
    network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--host-gateway-ip=127.0.0.1"]
    command = ["dockerd", f"--host=unix://{socket}", *places, *network]
    process = ChildProcess(command, name="dockerd", log=folder / "dockerd.log", env=child_environment())
    try:
        _wait(process, socket)
        yield socket
    finally:
        process.stop(grace_s=20)
        _unmount_below(folder)
        shutil.rmtree(folder / "data", ignore_errors=True)


@contextmanager
def engine_with_base(folder: Path) -> Iterator[Path]:
    """The socket of a running engine that holds the image `BASE`, made of this machine's own packages.

    Raises:
        EngineError: no engine can be started here, or no image be made.
    """
    try:
        root = write_root(folder / "root.tar")
    except RootError as error:
        raise EngineError(str(error)) from error
    with docker_engine(folder) as socket:
        with docker_client(socket) as client:
            client.api.import_image_from_file(str(root), *BASE.split(":"))
        root.unlink()
        yield socket


def build_sandbox_image(client: Any) -> str:
    """The name of docker/sandbox.Dockerfile's image, built without a network on the base image."""
    options = {"dockerfile": "sandbox.Dockerfile", "buildargs": {"BASE": BASE}, "network_mode": "none", "rm": True}
    client.images.build(path=str(ROOT / "docker"), tag=SANDBOX, **options)
    return SANDBOX


@contextmanager
def docker_client(socket: Path) -> Iterator[Any]:
    """docker-py's client of the engine."""
    import docker

    client = docker.DockerClient(base_url=f"unix://{socket}", timeout=120)
    try:
        yield client
    finally:
        client.close()


def _wait(process: ChildProcess, socket: Path) -> None:
    deadline = time.monotonic() + STARTUP_TIMEOUT_S
    while time.monotonic() < deadline and process.running:
        if socket.exists() and _answers(socket):
            return
        time.sleep(0.2)
    raise EngineError(f"dockerd did not come up:\n{process.tail(8)}")


def _unmount_below(folder: Path) -> None:
    """The engine leaves the network namespace of its containers mounted, and then nobody could remove the folder."""
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    for place in reversed([place for place in places if place.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", place], check=False)


def _answers(socket: Path) -> bool:
    import docker.errors
    import requests

    try:
        with docker_client(socket) as client:
            return bool(client.ping())
    except (docker.errors.DockerException, requests.ConnectionError):
        return False
