"""The store and MLflow's artifacts on S3, a real server and moto: the pipeline, kills, races and refusals."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.runtime import PROFILES
from infra.store import Store
from tests import publisher as publishers
from tests import publishing
from tests.integration.cli import Ended, posttrain
from tests.integration.s3_servers import BUCKET, READER, S3Server, moto_server, seaweed_server
from tests.integration.test_resume import SMALL
from tests.publisher import Job, Publisher

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

# Smaller still: every phase runs, and what is tested is where its bytes go.
SMALLER = SMALL | {
    "ingest.corpus.counts.num_arithmetic": 200,
    "ingest.corpus.benchmarks.num_math500_arithmetic": 10,
    "sft.num_epochs": 1,
    "pass_rate.max_prompts": 8,
    "pass_rate.num_samples": 2,
    "grpo.0.train.steps": 1,
    "grpo.0.train.prompts_per_batch": 4,
    "grpo.0.train.group_size": 2,
    "grpo.1.train.steps": 1,
    "grpo.1.train.prompts_per_batch": 4,
    "grpo.1.train.group_size": 2,
    "benchmark.num_samples": 1,
}
SETTINGS = [part for key, value in SMALLER.items() for part in ("--set", f"{key}={value}")]
AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "MLFLOW_S3_ENDPOINT_URL")


@pytest.fixture(scope="module", autouse=True)
def _keys_come_from_the_profile() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in AWS:
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweed_server(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@dataclass(frozen=True)
class Place:
    """A profile file whose store is an empty prefix of a server's bucket, with the folder of its local work."""

    server: S3Server
    folder: Path
    prefix: str

    @property
    def profile(self) -> str:
        return str(self.folder / "s3.toml")

    @property
    def store(self) -> Store:
        return Store(f"s3://{BUCKET}/{self.prefix}/store", self.folder / "reader", self.server.options())

    def objects(self, folder: str) -> list[str]:
        """Names of the objects below a folder of the prefix."""
        return [str(path) for path in self.server.file_system().find(f"{BUCKET}/{self.prefix}/{folder}")]


def place_on(server: S3Server, folder: Path, bucket: str = BUCKET, **options: str) -> Place:
    """Profile `local` with its store on the server; `options` replace those of the administrator."""
    place = Place(server, folder, uuid.uuid4().hex[:12])
    given = ", ".join(f'{name} = "{value}"' for name, value in (server.options() | options).items())
    lines = [
        f'store = "s3://{bucket}/{place.prefix}/store"',
        f'artifact_root = "s3://{bucket}/{place.prefix}/mlflow"',
        f'scratch = "{folder / "scratch"}"',
        f"storage_options = {{ {given} }}",
    ]
    local = (PROFILES / "local.toml").read_text().replace('store = ".posttrain"', "\n".join(lines))
    (folder / "s3.toml").write_text(local)
    return place


# The pipeline


@pytest.fixture(scope="module")
def place(seaweed: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place_on(seaweed, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def first(place: Place) -> Ended:
    return posttrain("run", "smoke", "--profile", place.profile, "--json", *SETTINGS)


@pytest.mark.thorough
def test_the_whole_pipeline_runs_and_every_artifact_is_whole(place: Place, first: Ended) -> None:
    assert {step["state"] for step in first.report["steps"]} == {"run"}
    manifests = list(place.store.manifests())
    assert {step["digest"] for step in first.report["steps"]} == {manifest.digest for manifest in manifests}
    assert all(place.store.is_whole(manifest) for manifest in manifests)


@pytest.mark.thorough
def test_mlflow_keeps_its_artifacts_in_the_bucket(place: Place, first: Ended) -> None:
    cards = [name for name in place.objects("mlflow") if name.endswith("/card.md")]
    assert len(cards) == len(first.report["steps"])
    assert not (place.folder / "mlartifacts").exists()


@pytest.mark.thorough
def test_no_answer_stays_behind_on_this_machine(place: Place, first: Ended) -> None:
    assert first.code == 0
    # Verdicts are kept where math_verify was asked: of these answers text and number decide.
    assert "llm" in {name.split("/")[-2] for name in place.objects("store/row_cache")}
    assert list((place.folder / "scratch").rglob("*.jsonl")) == []


@pytest.mark.thorough
def test_a_second_run_takes_everything_from_the_bucket(place: Place, first: Ended) -> None:
    again = posttrain("run", "smoke", "--profile", place.profile, "--json", *SETTINGS)
    assert {step["state"] for step in again.report["steps"]} == {"cached"}
    assert [step["digest"] for step in again.report["steps"]] == [step["digest"] for step in first.report["steps"]]


def test_curation_runs_on_a_real_server(seaweed: S3Server, tmp_path: Path) -> None:
    place = place_on(seaweed, tmp_path)
    ended = posttrain("recurate", "smoke", "--profile", place.profile, "--json", *SETTINGS)
    assert ended.code == 0, ended.stderr
    manifests = list(place.store.manifests())
    assert {"merge", "verify-labels", "select-samples"} <= {manifest.step for manifest in manifests}
    assert all(place.store.is_whole(manifest) for manifest in manifests)
    # Verdicts are kept where math_verify was asked: of these answers text and number decide.
    assert "llm" in {name.split("/")[-2] for name in place.objects("store/row_cache")}


@pytest.mark.thorough
def test_the_pipeline_runs_on_moto(moto: S3Server, tmp_path: Path) -> None:
    place = place_on(moto, tmp_path)
    ended = posttrain("run", "smoke", "--profile", place.profile, "--json", *SETTINGS)
    assert len(place.objects("mlflow")) >= len(ended.report["steps"])


@pytest.mark.thorough
def test_the_full_recipe_runs_on_a_real_server(seaweed: S3Server, tmp_path: Path) -> None:
    place = place_on(seaweed, tmp_path)
    ended = posttrain("run", "smoke", "--profile", place.profile, "--json")
    assert all(place.store.is_whole(manifest) for manifest in place.store.manifests())
    assert len(place.objects("mlflow")) >= len(ended.report["steps"])


# Writers that are killed, and writers that race


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    with publishers.publisher() as opened:
        yield opened


@pytest.fixture(params=["seaweed", "moto"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    server: S3Server = request.getfixturevalue(request.param)
    return publishing.fresh_job(f"s3://{BUCKET}", tmp_path, server.options(), contents=("one",), rounds=20)


def test_no_kill_leaves_half_an_artifact(publisher: Publisher, job: Job, pytestconfig: pytest.Config) -> None:
    # Each writer opens a client of its own: `--thorough` kills in every call, else in each sixth.
    stride = 1 if pytestconfig.getoption("--thorough") else 6
    num_kills = publishing.check_every_kill(publisher, job, stride)
    assert num_kills * stride >= 20, f"only {num_kills} calls were seen: are they counted?"


def test_two_writers_of_the_same_publish_once(publisher: Publisher, job: Job) -> None:
    publishing.check_race(publisher, job)


def test_of_two_writers_of_other_bytes_one_is_refused(publisher: Publisher, job: Job) -> None:
    publishing.check_race_of_others(publisher, job)


def test_of_two_samplers_one_adopts_what_the_other_published(publisher: Publisher, job: Job) -> None:
    publishing.check_race_of_samples(publisher, job)


# Refusals: one error with its remedy, before anything is started


def assert_refused(ended: Ended, text: str, remedy: str) -> None:
    assert ended.code == 1
    assert ended.stdout == ""
    (line,) = [line for line in ended.stderr.splitlines() if "error" in line]
    assert text in line
    assert remedy in line


def test_wrong_keys_are_refused(seaweed: S3Server, tmp_path: Path) -> None:
    for options, text in (({"key": "nobody"}, "InvalidAccessKeyId"), ({"secret": "wrong"}, "SignatureDoesNotMatch")):
        place = place_on(seaweed, tmp_path, **options)
        ended = posttrain("plan", "smoke", "--profile", place.profile, timeout_s=60)
        assert_refused(ended, text, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


def test_a_missing_bucket_is_refused(seaweed: S3Server, tmp_path: Path) -> None:
    place = place_on(seaweed, tmp_path, bucket="not-there")
    ended = posttrain("run", "smoke", "--profile", place.profile, timeout_s=60)
    assert_refused(ended, "NoSuchBucket", "make the bucket, or name another in `store`")


def test_an_endpoint_that_does_not_answer_is_refused_soon(tmp_path: Path) -> None:
    place = place_on(S3Server("http://127.0.0.1:1"), tmp_path)
    ended = posttrain("plan", "smoke", "--profile", place.profile, timeout_s=60)
    assert_refused(ended, "Could not connect to the endpoint URL", "check `endpoint_url` of storage_options")


def test_keys_that_may_only_read_may_plan_and_not_run(seaweed: S3Server, tmp_path: Path) -> None:
    place = place_on(seaweed, tmp_path, **seaweed.options(READER))
    assert posttrain("plan", "smoke", "--profile", place.profile, timeout_s=60).code == 0
    ended = posttrain("run", "smoke", "--profile", place.profile, timeout_s=60)
    assert_refused(ended, "AccessDenied", "give these keys the rights to list, read and write")
    assert not (tmp_path / "mlflow.db").exists(), "nothing was started"
