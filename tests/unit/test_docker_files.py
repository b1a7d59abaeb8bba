"""The images and the compose file: pinned, without root, with a health check, and without a key."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.runtime import QUIET, load_profile

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(path.name for path in DOCKER.glob("*.Dockerfile"))
PROFILES = ("profile.toml", "profile-gpu.toml")
PINNED = re.compile(r"^[a-z0-9./-]+:[A-Za-z0-9._-]*\d[A-Za-z0-9._-]*(@sha256:[0-9a-f]{64})?$")
REQUIRED = ("POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# Started, done, gone: nothing to ask for its health.
ONE_SHOT = {"bucket", "setup"}


def instructions(dockerfile: str) -> list[list[str]]:
    """Each instruction as [NAME, ARGUMENTS], with continued lines joined and comments left out."""
    text = (DOCKER / dockerfile).read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [line.split(None, 1) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]


def last(dockerfile: str, name: str) -> str:
    """The arguments of the last such instruction of the final stage."""
    found = [(instruction[0], instruction[1]) for instruction in instructions(dockerfile)]
    final = found[max(place for place, (kind, _) in enumerate(found) if kind == "FROM") :]
    return next((arguments for kind, arguments in reversed(final) if kind == name), "")


@cache
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return parsed


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def in_compose(text: str) -> str:
    """A text of compose.yaml as it is when no variable is set."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def example_variables() -> dict[str, str]:
    lines = (DOCKER / "env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_the_images_are_those_that_compose_and_the_pools_name() -> None:
    assert DOCKERFILES == ["gpu-worker.Dockerfile", "orchestrator.Dockerfile", "s3.Dockerfile", "sandbox.Dockerfile"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_starts_from_a_pinned_base(dockerfile: str) -> None:
    found = instructions(dockerfile)
    base = next(argument.removeprefix("BASE=") for name, argument in found if name == "ARG")
    assert PINNED.match(base), base
    assert {argument.split()[0] for name, argument in found if name == "FROM"} == {"${BASE}"}


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_runs_without_root_and_says_how_it_is(dockerfile: str) -> None:
    user = last(dockerfile, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), f"a number, so that runAsNonRoot can see it: {user!r}"
    assert "CMD" in last(dockerfile, "HEALTHCHECK")
    assert last(dockerfile, "ENTRYPOINT").startswith('["tini"')
    assert last(dockerfile, "CMD").startswith("["), "a shell as process 1 does not pass signals on"


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_says_what_it_is(dockerfile: str) -> None:
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", last(dockerfile, "LABEL")))
    assert labels >= {"title", "description", "version", "licenses"}


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_keeps_no_cache_and_takes_pinned_packages(dockerfile: str) -> None:
    for run in (argument for name, argument in instructions(dockerfile) if name == "RUN"):
        if "apt-get install" in run:
            assert "--no-install-recommends" in run
            assert "rm -rf /var/lib/apt/lists/*" in run
        if "/pip install" in run:
            assert "--no-cache-dir" in run
            assert re.search(r"==\d", run), run
        if "uv pip install" in run:
            assert "--no-cache " in run
            assert "--constraints" in run or "--no-deps" in run


@pytest.mark.parametrize("dockerfile", ["gpu-worker.Dockerfile", "orchestrator.Dockerfile"])
def test_a_process_in_an_image_of_ours_sends_no_telemetry(dockerfile: str) -> None:
    environment = last(dockerfile, "ENV")
    assert {name for name, value in QUIET.items() if f"{name}={value}" not in environment} == set()
    assert "POSTTRAIN_PROFILE=/etc/posttrain/profile.toml" in environment


def test_what_an_image_copies_reaches_the_builder() -> None:
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {
        source
        for dockerfile in ("gpu-worker.Dockerfile", "orchestrator.Dockerfile")
        for name, arguments in instructions(dockerfile)
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    }
    assert copied == sent
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_uv_of_the_images_is_one_that_the_makefile_allows() -> None:
    versions = {match for name in DOCKERFILES for match in re.findall(r"\buv==(\d+\.\d+)", (DOCKER / name).read_text())}
    assert len(versions) == 1


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_of_the_containers_loads(name: str) -> None:
    runtime = load_profile(str(DOCKER / name))
    assert runtime.store == "s3://posttrain/store"
    assert runtime.tracking_uri == "http://mlflow:5000"
    assert str(runtime.scratch_folder) == "/var/lib/posttrain/scratch"
    assert runtime.training.device == ("cuda" if "gpu" in name else "cpu")


def test_the_profiles_differ_in_devices_only() -> None:
    cpu, gpu = (load_profile(str(DOCKER / name)) for name in PROFILES)
    place = {"training": cpu.training, "rollout": cpu.rollout, "verifier_processes": cpu.verifier_processes}
    assert gpu.model_copy(update=place) == cpu


def test_every_service_is_pinned_and_healthy_and_without_root() -> None:
    for name, service in services().items():
        assert PINNED.match(in_compose(service["image"])), name
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        if name in ONE_SHOT:
            assert service["healthcheck"] == {"disable": True}, name
            assert service["restart"] == "no", name
        else:
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert service["restart"] == "unless-stopped", name


def test_a_service_waits_until_what_it_needs_works() -> None:
    for name, service in services().items():
        for needed, wait in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
            assert wait["condition"] == wanted, f"{name} → {needed}"


def test_a_service_is_built_from_a_file_that_is_there() -> None:
    for name, service in services().items():
        if "build" in service:
            context = (DOCKER / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).exists(), name


def test_what_is_mounted_is_a_named_volume_or_a_file_of_ours_read_only() -> None:
    for service in services().values():
        for source, *rest in (volume.split(":") for volume in service.get("volumes", [])):
            assert source in compose()["volumes"] or ((DOCKER / source).is_file() and rest[-1] == "ro"), source


def test_every_pool_has_a_worker_and_the_gpu_pools_wait_for_their_profile() -> None:
    workers = {name.removeprefix("worker-"): one for name, one in services().items() if name.startswith("worker-")}
    assert set(workers) == set(load_profile("local").stack.pools)
    for pool, worker in workers.items():
        assert worker["command"][:5] == ["prefect", "worker", "start", "--pool", pool]
        assert ("gpu" in worker.get("profiles", [])) == pool.startswith("gpu-")
        assert "/var/lib/posttrain" in str(worker["volumes"])
        # What bubblewrap needs in a container; with less the jail falls back to resource limits alone.
        assert {"seccomp=unconfined", "systempaths=unconfined"} <= set(worker["security_opt"])


def test_a_gpu_worker_has_devices_shared_memory_and_its_group() -> None:
    for name in ("worker-gpu-rollout", "worker-gpu-train"):
        worker = services()[name]
        (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
        assert int(worker["shm_size"].removesuffix("gb")) >= 8
        assert worker["environment"]["CUDA_VISIBLE_DEVICES"]
        assert worker["command"][worker["command"].index("--limit") + 1] == "1"


def test_no_key_is_written_in_compose() -> None:
    for service in services().values():
        for name, value in service.get("environment", {}).items():
            if name.endswith(("_KEY", "_KEY_ID", "PASSWORD")):
                assert re.match(r"^\$\{[A-Z_]+:[-?]", value), name


def test_no_password_is_on_a_command_line() -> None:
    for name, service in services().items():
        told = [text for key in ("command", "entrypoint") for text in strings(service.get(key, []))]
        assert [text for text in told if re.search("PASSWORD|SECRET|_KEY", text)] == [], name


def test_links_to_mlflow_are_for_a_browser_outside_the_containers() -> None:
    shown = {load_profile(str(DOCKER / name)).mlflow_shown_at for name in PROFILES}
    assert shown == {example_variables()["MLFLOW_ALLOWED_ORIGINS"]} == {"http://localhost:5000"}


def test_everything_names_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert example_variables()["POSTTRAIN_VERSION"] == version
    pools = sorted((ROOT / "deployments" / "pools").glob("*.json"))
    for path in (DOCKER / "compose.yaml", *(DOCKER / name for name in DOCKERFILES), *pools):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"posttrain/(?:orchestrator|gpu-worker|sandbox):([\w.]+)", in_compose(text))
        found += [] if path.name == "s3.Dockerfile" else re.findall(r"ARG VERSION=(\S+)", text)
        assert set(found) <= {version}, path.name
        assert found or path.name in {"process.json", "s3.Dockerfile"}, path.name


def test_the_example_names_every_variable_and_holds_no_key() -> None:
    used = {name for text in strings(compose()) for name in re.findall(r"\$\{([A-Z_]+)", text)}
    assert used == set(example_variables())
    assert {name: example_variables()[name] for name in REQUIRED} == dict.fromkeys(REQUIRED, "")


def test_a_real_compose_reads_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no `docker compose` here")
    command = [docker, "compose", "--file", str(DOCKER / "compose.yaml"), "--profile", "gpu", "config", "--quiet"]
    env = {"PATH": str(Path(docker).parent), **dict.fromkeys(REQUIRED, "example")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
