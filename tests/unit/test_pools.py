"""The pools' job templates, read by the code that reads them in a worker."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from infra.runtime import QUIET

pytest.importorskip("prefect_docker", reason="the extra `pools` is not installed")
pytest.importorskip("prefect_kubernetes", reason="the extra `pools` is not installed")

POOLS = Path(__file__).parents[2] / "deployments" / "pools"
NAMES = sorted(path.stem for path in POOLS.glob("*.json"))
GIB = 1024**3


@cache
def template(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((POOLS / f"{name}.json").read_text(encoding="utf-8"))
    return parsed


def kind(name: str) -> str:
    return name.partition("-")[0]


def worker_class(name: str) -> Any:
    from prefect.workers.process import ProcessWorker
    from prefect_docker.worker import DockerWorker
    from prefect_kubernetes.worker import KubernetesWorker

    return {"process": ProcessWorker, "docker": DockerWorker, "kubernetes": KubernetesWorker}[
        name.split("-", maxsplit=1)[0]
    ]


def job(name: str, **values: Any) -> Any:
    """What the worker makes of the template for a flow run: its own code, with the deployment's `values`."""
    from prefect.client.schemas.objects import FlowRun

    configuration = worker_class(name).job_configuration
    made = asyncio.run(configuration.from_template_and_values(template(name), values, client=object()))
    made.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="brave-otter"))
    return made


def container_settings(name: str, **values: Any) -> dict[str, Any]:
    """What the Docker worker gives to the Docker API."""

    class Engine:
        def version(self) -> dict[str, str]:
            return {"Version": "28.0.0"}

    made = job(name, **values)
    settings: dict[str, Any] = worker_class(name)._build_container_settings(None, Engine(), made)
    return settings


def host_config(name: str, **values: Any) -> dict[str, Any]:
    """What the Docker API gets: docker-py checks names and types while it translates."""
    from docker.models.containers import _create_container_args

    settings = container_settings(name, **values)
    made: dict[str, Any] = _create_container_args({**settings, "version": "1.44"})["host_config"]
    return made


def pod(name: str, **values: Any) -> dict[str, Any]:
    spec: dict[str, Any] = job(name, **values).job_manifest["spec"]["template"]["spec"]
    return spec


def named(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in entries}


def test_there_is_a_template_for_each_kind_of_worker() -> None:
    assert NAMES == ["docker-cpu", "docker-gpu", "kubernetes-cpu", "kubernetes-gpu", "process"]


@pytest.mark.parametrize("name", NAMES)
def test_the_server_accepts_the_template(name: str) -> None:
    """The server refuses a placeholder without a variable; a worker's kind ignores what it does not know."""
    from prefect.server.schemas.actions import WorkPoolCreate

    pool = WorkPoolCreate(name="pool", type=kind(name), base_job_template=template(name))
    known = worker_class(name).get_default_base_job_template()["job_configuration"]
    assert set(pool.base_job_template["job_configuration"]) <= set(known)


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_says_what_it_is_for_and_is_used(name: str) -> None:
    used = json.dumps(template(name)["job_configuration"])
    for variable, schema in template(name)["variables"]["properties"].items():
        assert schema["title"], variable
        assert schema["description"], variable
        assert "default" in schema, variable
        assert f"{{{{ {variable} }}}}" in used, f"{variable} reaches no setting"


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_values_of_their_variables(name: str) -> None:
    import jsonschema

    for schema in template(name)["variables"]["properties"].values():
        jsonschema.validate(schema["default"], schema)


@pytest.mark.parametrize("name", NAMES)
def test_a_flow_run_is_quiet_and_knows_its_profile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTTRAIN_PROFILE", "/etc/posttrain/profile.toml")
    env = job(name).env
    assert env.items() >= QUIET.items()
    assert env["POSTTRAIN_PROFILE"] == "/etc/posttrain/profile.toml"
    assert env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


@pytest.mark.parametrize("name", NAMES)
def test_a_deployment_adds_to_the_environment(name: str) -> None:
    env = job(name, env={"EXTRA": "1", "POSTTRAIN_PROFILE": "other.toml"}).env
    assert env.items() >= {**QUIET, "EXTRA": "1", "POSTTRAIN_PROFILE": "other.toml"}.items()


@pytest.mark.parametrize("name", NAMES)
def test_no_template_holds_a_key(name: str) -> None:
    env = template(name)["variables"]["properties"]["env"]["default"]
    keys = {variable: value for variable, value in env.items() if "KEY" in variable or "SECRET" in variable}
    assert keys == {variable: f"{{{{ ${variable} }}}}" for variable in keys}


@pytest.mark.parametrize("name", ["docker-cpu", "docker-gpu"])
def test_a_container_gets_the_workers_keys(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the worker")
    assert container_settings(name)["environment"]["AWS_SECRET_ACCESS_KEY"] == "of the worker"


def test_a_process_starts_where_it_is_told(tmp_path: Path) -> None:
    made = job("process", working_dir=str(tmp_path), stream_output=False)
    assert made.working_dir == tmp_path
    assert made.stream_output is False
    assert made.command.endswith("-m prefect.engine")


def test_a_cpu_container_by_default() -> None:
    settings = container_settings("docker-cpu")
    assert settings["image"] == "posttrain/orchestrator:0.4.0"
    assert settings["command"] == "prefect flow-run execute"
    assert settings["volumes"] == ["posttrain-scratch:/var/lib/posttrain"]
    assert settings["auto_remove"] is True
    assert settings["privileged"] is False
    made = host_config("docker-cpu")
    assert made["ShmSize"] == GIB
    assert made["SecurityOpt"] == ["no-new-privileges"]
    assert "DeviceRequests" not in made


def test_a_container_with_given_values() -> None:
    settings = container_settings(
        "docker-cpu", image="mine:2", networks=["posttrain"], mem_limit="4g", volumes=["/raw:/raw:ro"], shm_size="2g"
    )
    assert settings["image"] == "mine:2"
    assert settings["network"] == "posttrain"
    assert settings["mem_limit"] == "4g"
    assert settings["volumes"] == ["/raw:/raw:ro"]
    assert settings["shm_size"] == "2g"


def test_a_gpu_container_gets_every_gpu_and_room_to_share() -> None:
    made = host_config("docker-gpu")
    assert made["DeviceRequests"] == [
        {"Driver": "nvidia", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}
    ]
    assert made["ShmSize"] >= 8 * GIB
    assert {limit["Name"]: limit["Soft"] for limit in made["Ulimits"]}["memlock"] == -1


def test_a_gpu_group_is_named_by_its_ids() -> None:
    made = host_config("docker-gpu", gpu_count=0, gpu_ids=["2", "3"], shm_size="32g")
    assert made["DeviceRequests"][0]["Count"] == 0
    assert made["DeviceRequests"][0]["DeviceIDs"] == ["2", "3"]
    assert made["ShmSize"] == 32 * GIB


@pytest.mark.parametrize("name", ["kubernetes-cpu", "kubernetes-gpu"])
def test_the_manifest_holds_no_field_that_kubernetes_does_not_know(name: str) -> None:
    """A misspelt field is dropped in silence by the API; here it would be missing after the way through the model."""
    from kubernetes_asyncio.client import ApiClient, V1Job

    async def through_the_model(manifest: dict[str, Any]) -> Any:
        async with ApiClient() as api:
            parsed = api._ApiClient__deserialize(manifest, V1Job)  # type: ignore[attr-defined]
            return api.sanitize_for_serialization(parsed)

    manifest = job(name).job_manifest
    spec = manifest["spec"]["template"]["spec"]
    # Prefect asks for these two in the pod, where Kubernetes ignores them.
    del spec["parallelism"], spec["completions"]
    limits = spec["containers"][0]["resources"]["limits"]
    limits.update({resource: str(quantity) for resource, quantity in limits.items()})  # a quantity may be a number
    seen = asyncio.run(through_the_model(manifest))
    assert seen == manifest


@pytest.mark.parametrize("name", ["kubernetes-cpu", "kubernetes-gpu"])
def test_a_pod_has_shared_memory_scratch_profile_and_secrets(name: str) -> None:
    spec = pod(name)
    volumes, container = named(spec["volumes"]), spec["containers"][0]
    assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
    assert volumes["scratch"]["persistentVolumeClaim"] == {"claimName": "posttrain-scratch"}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"shm": "/dev/shm", "scratch": "/var/lib/posttrain", "profile": "/etc/posttrain"}
    assert container["envFrom"] == [{"secretRef": {"name": "posttrain-env"}}]
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert {"name": "DO_NOT_TRACK", "value": "1"} in container["env"]
    assert spec["serviceAccountName"] == "posttrain"
    assert spec["securityContext"]["runAsNonRoot"] is True


def test_a_cpu_pod_asks_for_no_gpu() -> None:
    spec = pod("kubernetes-cpu")
    assert spec["nodeSelector"] == {}
    assert spec["tolerations"] == []
    assert "nvidia.com/gpu" not in spec["containers"][0]["resources"]["limits"]


def test_a_gpu_pod_by_default_and_with_given_values() -> None:
    spec = pod("kubernetes-gpu")
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 8
    assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert int(named(spec["volumes"])["shm"]["emptyDir"]["sizeLimit"].removesuffix("Gi")) >= 8
    given = pod("kubernetes-gpu", gpus=2, node_selector={"pool": "h100"}, tolerations=[], shm_size="64Gi")
    assert given["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert given["nodeSelector"] == {"pool": "h100"}
    assert given["tolerations"] == []
    assert named(given["volumes"])["shm"]["emptyDir"]["sizeLimit"] == "64Gi"


def test_a_finished_job_is_cleaned_up() -> None:
    assert job("kubernetes-cpu").job_manifest["spec"]["ttlSecondsAfterFinished"] == 86400
    given = job("kubernetes-cpu", finished_job_ttl=60, namespace="team")
    assert given.job_manifest["spec"]["ttlSecondsAfterFinished"] == 60
    assert given.job_manifest["metadata"]["namespace"] == "team"
