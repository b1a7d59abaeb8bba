"""What a profile makes of the stack, and that the workers' profile is the same profile, read from TOML."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import infra.stack.plan
from infra.config import Config, ConfigError, as_toml, load_toml
from infra.runtime import (
    POOLS,
    PROFILES,
    Endpoint,
    PoolRuntime,
    RolloutRuntime,
    Runtime,
    StackRuntime,
    TrainingRuntime,
    WorkerGroup,
    load_profile,
)
from infra.stack.plan import DEPLOYMENTS, Plan, Service, make_plan, profile_path, stack_home, worker_profile
from infra.vllm_server import VllmConfig

NAMES = sorted(path.stem for path in PROFILES.glob("*.toml"))


def read(text: str) -> Runtime:
    return Runtime.model_validate(tomllib.loads(text))


def plan_for(tmp_path: Path, **fields: Any) -> Plan:
    return make_plan(Runtime(store=str(tmp_path / "store"), stack=StackRuntime.model_validate(fields)))


def option(service: Service, name: str) -> str:
    return service.command[service.command.index(name) + 1]


# TOML and back


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_comes_back_equal(name: str) -> None:
    profile = load_profile(name)
    assert read(as_toml(profile)) == profile


# Every character that TOML files can carry; a lone surrogate has no UTF-8.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
COUNT = st.integers(1, 2**40)
MONEY = st.floats(0, 1e12, allow_nan=False)
SECONDS = st.floats(0, 1e300, exclude_min=True, allow_nan=False)
ENDPOINTS = st.builds(
    Endpoint,
    base_url=TEXT,
    api_key_env=st.none() | TEXT,
    max_concurrency=COUNT,
    timeout_s=SECONDS,
    usd_per_million_prompt_tokens=MONEY,
)
TRAININGS = st.builds(TrainingRuntime, num_processes=COUNT, zero_stage=st.sampled_from([0, 1, 2, 3]))
SERVERS = st.builds(VllmConfig, extra_args=st.lists(TEXT, max_size=3).map(tuple), startup_timeout_s=SECONDS)


@st.composite
def stacks(draw: st.DrawFn) -> StackRuntime:
    pools = st.builds(PoolRuntime, template=TEXT, limit=st.integers(2, 100))
    named = draw(st.dictionaries(TEXT, pools, max_size=3)) | {name: draw(pools) for name in POOLS}
    named |= {"cpu": draw(st.builds(PoolRuntime, template=TEXT, limit=st.integers(7, 100)))}
    workers = st.builds(WorkerGroup, pool=st.sampled_from(sorted(named)), devices=TEXT, limit=st.none() | COUNT)
    return StackRuntime(
        public_host=draw(st.none() | TEXT), pools=named, workers=tuple(draw(st.lists(workers, max_size=3)))
    )


RUNTIMES = st.builds(
    Runtime,
    store=TEXT,
    scratch=st.none() | TEXT,
    raw_folder=st.none() | TEXT,
    storage_options=st.dictionaries(st.sampled_from(["endpoint_url", "key", "secret", "token", "region"]), TEXT),
    endpoints=st.dictionaries(TEXT, ENDPOINTS, max_size=3),
    training=TRAININGS,
    rollout=st.builds(RolloutRuntime, server=SERVERS),
    stack=stacks(),
)


@settings(max_examples=60, deadline=None)
@given(RUNTIMES)
def test_any_profile_comes_back_equal(runtime: Runtime) -> None:
    assert read(as_toml(runtime)) == runtime


class Anything(Config):
    text: str = ""
    table: dict[str, list[str]] = {}
    number: float = 0.0
    count: int = 0
    flag: bool = True


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Anything,
        text=TEXT,
        table=st.dictionaries(TEXT, st.lists(TEXT, max_size=3), max_size=3),
        number=st.floats(allow_nan=False, allow_infinity=False),
        count=st.integers(-(2**70), 2**70),
        flag=st.booleans(),
    )
)
def test_any_text_and_number_comes_back_equal(config: Anything) -> None:
    assert Anything.model_validate(tomllib.loads(as_toml(config))) == config


@pytest.mark.parametrize("text", ["\x7f", "😀", 'a "quoted" \\ text', "two\nlines\r\n", "\x00\x1f", "\u2028", ""])
def test_text_that_json_and_toml_write_differently(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(as_toml(Anything(text=text, table={text: [text]})), encoding="utf-8")
    assert load_toml(path, Anything) == Anything(text=text, table={text: [text]})


# The workers' profile


def test_the_workers_profile_has_absolute_places_and_mlflows_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runtime = Runtime(store="store", raw_folder="raw", artifact_root="artifacts", verifier_processes=3)
    read_again = read(worker_profile(runtime))
    places = {"store": str(tmp_path / "store"), "raw_folder": str(tmp_path / "raw")}
    places |= {"artifact_root": (tmp_path / "artifacts").as_uri(), "scratch": str(tmp_path / "store/scratch")}
    assert read_again == runtime.model_copy(update=places | {"tracking_uri": "http://127.0.0.1:5000"})
    monkeypatch.chdir("/")
    assert read_again.scratch_folder == tmp_path / "store/scratch"


def test_the_workers_profile_leaves_a_bucket_as_it_is(tmp_path: Path) -> None:
    runtime = Runtime(store="s3://bucket/p", artifact_root="s3://bucket/a", scratch=str(tmp_path / "scratch"))
    read_again = read(worker_profile(runtime))
    assert (read_again.store, read_again.artifact_root, read_again.raw_folder) == (
        "s3://bucket/p",
        "s3://bucket/a",
        None,
    )


def test_workers_and_a_run_without_a_server_make_the_same_place_for_artifacts(tmp_path: Path) -> None:
    for fields in ({}, {"artifact_root": str(tmp_path / "kept")}, {"artifact_root": "s3://bucket/a/"}):
        runtime = Runtime.model_validate({"store": str(tmp_path / "store")} | fields)
        place = read(worker_profile(runtime)).mlflow_artifacts
        assert place is not None
        assert place == runtime.mlflow_artifacts
        assert option(make_plan(runtime).servers[1], "--artifacts-destination") == place


def test_an_mlflow_that_stands_already_is_kept_and_none_is_started(tmp_path: Path) -> None:
    runtime = Runtime(store=str(tmp_path / "store"), tracking_uri="https://me:pw@mlflow.example/")
    plan = make_plan(runtime)
    assert [server.name for server in plan.servers] == ["prefect"]
    assert plan.mlflow_url == "https://me:***@mlflow.example"
    workers = read(worker_profile(runtime))
    assert (workers.tracking_uri, workers.artifact_root) == ("https://me:pw@mlflow.example/", None)
    shown = runtime.model_copy(update={"mlflow_public_url": "https://lineage.example"})
    assert make_plan(shown).mlflow_url == "https://lineage.example"


def test_the_stacks_own_address_is_no_other_mlflow(tmp_path: Path) -> None:
    runtime = Runtime(store=str(tmp_path / "store"), tracking_uri="http://127.0.0.1:5000")
    mlflow = make_plan(runtime).servers[1]
    assert mlflow.env["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/store/mlflow.db"
    assert option(mlflow, "--artifacts-destination") == f"file://{tmp_path}/store/mlartifacts"


def test_the_database_of_the_tracking_uri_is_what_the_stacks_mlflow_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("infra.stack.plan.find_spec", lambda name: object())
    for named, opened in (
        ("sqlite:///mine.db", f"sqlite:///{tmp_path}/mine.db"),  # the server starts in another folder
        ("sqlite:////there/mine.db", "sqlite:////there/mine.db"),
        ("postgresql://me:pw@db/mlflow", "postgresql+psycopg2://me:pw@db/mlflow"),
    ):
        runtime = Runtime(store=str(tmp_path / "store"), tracking_uri=named)
        assert make_plan(runtime).servers[1].env["MLFLOW_BACKEND_STORE_URI"] == opened
        assert read(worker_profile(runtime)).tracking_uri == "http://127.0.0.1:5000"
    monkeypatch.setenv("MLFLOW_DB", "postgresql://me:pw@db/other")
    stack = StackRuntime(mlflow_database_env="MLFLOW_DB")
    with pytest.raises(ConfigError, match=r"both name MLflow's database; take one out"):
        make_plan(runtime.model_copy(update={"stack": stack}))


# The plan


def test_the_plan_of_the_local_profile(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    assert plan.home == tmp_path / "store" / "stack"
    assert [service.name for service in plan.servers] == ["prefect", "mlflow"]
    assert [service.name for service in plan.setup] == ["setup-pools", "setup-deployments"]
    assert [service.name for service in plan.workers] == [
        "worker-1-cpu",
        "worker-2-llm",
        "worker-3-gpu-rollout",
        "worker-4-gpu-train",
    ]
    assert plan.log_of("prefect") == plan.home / "logs" / "prefect.log"
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_everything_runs_by_this_python(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    assert {service.command[0] for service in (*plan.services, *plan.setup)} == {sys.executable}


def test_servers_listen_where_the_profile_says_and_are_asked_there(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, prefect_port=14200, mlflow_port=15000)
    prefect, mlflow = plan.servers
    assert (option(prefect, "--host"), option(prefect, "--port")) == ("127.0.0.1", "14200")
    assert prefect.health == "http://127.0.0.1:14200/api/health"
    assert (option(mlflow, "--host"), option(mlflow, "--port")) == ("127.0.0.1", "15000")
    assert mlflow.health == "http://127.0.0.1:15000/health"
    assert "--allowed-hosts" not in mlflow.command


def test_servers_for_everybody_are_reached_by_their_public_name(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, host="0.0.0.0", public_host="gpu-1.example")
    prefect, mlflow = plan.servers
    assert option(prefect, "--host") == "0.0.0.0"
    assert prefect.health == "http://127.0.0.1:4200/api/health"
    assert (plan.prefect_url, plan.mlflow_url) == ("http://gpu-1.example:4200", "http://gpu-1.example:5000")
    # The page asks the API at the address that a browser reaches.
    assert prefect.env["PREFECT_UI_API_URL"] == "http://gpu-1.example:4200/api"
    hosts = "gpu-1.example:5000,localhost:5000,127.0.0.1:5000,0.0.0.0:5000"
    assert option(mlflow, "--allowed-hosts") == hosts
    assert option(mlflow, "--cors-allowed-origins") == "http://gpu-1.example:5000"
    assert option(plan_for(tmp_path, host="0.0.0.0").servers[1], "--allowed-hosts") == "*"
    assert {worker.env["PREFECT_API_URL"] for worker in plan.workers} == {"http://gpu-1.example:4200/api"}


def test_each_process_has_a_prefect_home_of_its_kind_and_all_ask_one_server(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    asked = {service.env["PREFECT_API_URL"] for service in (plan.servers[0], *plan.setup, *plan.workers)}
    assert asked == {"http://127.0.0.1:4200/api"}
    homes = {service.env["PREFECT_HOME"] for service in (plan.servers[0], *plan.setup, *plan.workers)}
    assert homes == {str(plan.home / f"prefect-{kind}") for kind in ("server", "client", "worker")}


def test_databases_are_files_of_the_stack_by_default(tmp_path: Path) -> None:
    prefect, mlflow = plan_for(tmp_path).servers
    database = prefect.env["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert database == f"sqlite+aiosqlite:///{tmp_path}/store/stack/prefect.db"
    # The same file that `posttrain run` without a stack writes.
    assert mlflow.env["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/store/mlflow.db"
    assert option(mlflow, "--artifacts-destination") == f"file://{tmp_path}/store/mlartifacts"


def test_databases_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_DB", "postgresql://me:pw@db/prefect")
    monkeypatch.setenv("MLFLOW_DB", "postgresql://me:pw@db/mlflow")
    monkeypatch.setattr("infra.stack.plan.find_spec", lambda name: object())
    plan = plan_for(tmp_path, prefect_database_env="PREFECT_DB", mlflow_database_env="MLFLOW_DB")
    prefect, mlflow = plan.servers
    assert prefect.env["PREFECT_API_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://me:pw@db/prefect"
    assert mlflow.env["MLFLOW_BACKEND_STORE_URI"] == "postgresql+psycopg2://me:pw@db/mlflow"
    monkeypatch.setattr("infra.stack.plan.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="install the extra `postgres`"):
        plan_for(tmp_path, mlflow_database_env="MLFLOW_DB")
    monkeypatch.delenv("PREFECT_DB")
    with pytest.raises(ConfigError, match="PREFECT_DB is not set"):
        plan_for(tmp_path, prefect_database_env="PREFECT_DB")


def test_a_worker_for_each_group_of_gpus(tmp_path: Path) -> None:
    groups = [{"pool": "gpu-train", "devices": "0,1", "limit": 1}, {"pool": "gpu-train", "devices": "2,3"}]
    first, second = plan_for(tmp_path, workers=groups).workers
    assert (first.name, second.name) == ("worker-1-gpu-train-gpu0-1", "worker-2-gpu-train-gpu2-3")
    assert first.env["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert second.env["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert option(first, "--limit") == "1"
    assert "--limit" not in second.command
    assert (option(first, "--pool"), option(first, "--type")) == ("gpu-train", "process")
    assert option(first, "--name") != option(second, "--name")


def test_a_worker_without_gpus_sees_none_and_reads_the_stacks_profile(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    assert plan.workers[0].env["CUDA_VISIBLE_DEVICES"] == ""
    assert plan.workers[0].env["POSTTRAIN_PROFILE"] == str(profile_path(plan.home))
    assert plan.setup[0].command[-1] == str(profile_path(plan.home))


def test_a_bucket_keeps_the_stack_beside_scratch(tmp_path: Path) -> None:
    assert stack_home(Runtime(store="s3://b/p", scratch=str(tmp_path / "scratch"))) == tmp_path / "stack"


def test_a_pool_of_an_unknown_template_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    pools = StackRuntime().pools | {"cpu": PoolRuntime(template="proces", limit=7)}
    with pytest.raises(ConfigError, match=r"pool cpu: no template `proces` in .*; known: .*process"):
        plan_for(tmp_path, pools=pools, workers=[])


def test_pools_that_would_wait_for_ever_are_refused() -> None:
    pools = StackRuntime().pools
    assert StackRuntime(pools=pools | {"cpu": PoolRuntime(limit=7)}).pools["cpu"].limit == 7
    with pytest.raises(ValidationError, match=r"limit 6 is too small; set at least 7: 6 parents may wait there for"):
        StackRuntime(pools=pools | {"cpu": PoolRuntime(limit=6)})
    with pytest.raises(ValidationError, match=r"no pool llm, gpu-train; .*: name all four"):
        StackRuntime(pools={name: pools[name] for name in ("cpu", "gpu-rollout")}, workers=())


def test_a_worker_of_an_unknown_pool_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"worker\(s\) for gpu, but the pools are cpu, gpu-rollout"):
        StackRuntime(workers=(WorkerGroup(pool="gpu"),))


def test_without_the_deployments_there_is_no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.stack.plan, "DEPLOYMENTS", tmp_path)
    with pytest.raises(ConfigError, match=r"prefect\.yaml: no such file; `posttrain up` needs a checkout"):
        plan_for(tmp_path)
    assert (DEPLOYMENTS / "prefect.yaml").exists()
