"""posttrain sandbox: this machine's jails, for other machines to judge programs in."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import errors

if TYPE_CHECKING:
    from infra.sandbox.backend import Backend

LOCAL = "127.0.0.1"


class Place(StrEnum):
    """Where programs are run."""

    LOCAL = "local"
    DOCKER = "docker"


app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Judge programs for other machines.")
app.add_typer(group, name="sandbox")

SERVE_EPILOG = (
    "Examples:\n\n  posttrain sandbox serve\n\n"
    "  export SANDBOX_TOKEN=$(openssl rand -hex 32)\n\n"
    "  posttrain sandbox serve --host 0.0.0.0 --token-env SANDBOX_TOKEN --slots 32\n\n"
    "POST /v1/judge judges a program by its tests; /health and /metrics (Prometheus) need no token. Any balancer may "
    "stand before many hosts, as each request is whole. SIGTERM: takes nothing more, finishes what it has, ends."
)


@group.command(epilog=SERVE_EPILOG)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; one that others reach needs --token-env.")] = LOCAL,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0: a free one, which the first line tells.")
    ] = 8300,
    slots: Annotated[int | None, typer.Option(min=1, help="Programs judged at a time. Default: one a CPU.")] = None,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; one more gets 429.")] = 256,
    max_body_mib: Annotated[int, typer.Option(min=1, help="Largest request; a larger one gets 413.")] = 64,
    token_env: Annotated[str | None, typer.Option(help="Variable with the token that clients must send.")] = None,
    backend: Annotated[
        Place, typer.Option(help="Jails of this machine, or containers of its Docker engine.")
    ] = Place.LOCAL,
    image: Annotated[str | None, typer.Option(help="Of the containers; made from docker/sandbox.Dockerfile.")] = None,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Also where no secure jail works. For tests only.")] = False,
) -> None:
    """Judge programs over HTTP until SIGTERM."""
    from infra.runtime import secret
    from tasks.rewards import code_service

    token = None if token_env is None else secret(token_env)
    sizes = {"num_slots": slots or os.cpu_count() or 1, "max_waiting": queue}
    config = code_service.ServiceConfig(**sizes, max_body_bytes=max_body_mib * code_service.MIB)
    listener = code_service.open_listener(host, port, token is not None)
    jails = _open(backend, image, config.num_slots, unsafe)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    errors.print(f"judging on {address}: {jails.level}, {config.num_slots} slots, queue {queue}", highlight=False)
    judge = code_service.judge_in(jails)
    try:
        code_service.serve(lambda: code_service.JudgeService(config, judge, jails.level, token), listener)
    finally:
        jails.close()


def _open(place: Place, image: str | None, num_slots: int, unsafe: bool) -> Backend:
    if place is Place.LOCAL:
        from infra.sandbox.sandbox import Sandbox

        return Sandbox(unsafe=unsafe)
    from infra.sandbox.docker import DockerSandbox
    from infra.sandbox.docker_container import DockerConfig

    config = DockerConfig(num_slots=num_slots)
    return DockerSandbox(config if image is None else config.model_copy(update={"image": image}))
