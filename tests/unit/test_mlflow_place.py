"""Where MLflow is, where browsers open it and where it keeps artifacts; and that no password of it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import infra.lineage_sync
from flows.cli import app
from flows.report import build_report
from infra.artifacts import Checkpoint
from infra.config import ConfigError
from infra.lineage import check_place
from infra.lineage_sync import Synced
from infra.run import Run
from infra.runtime import Runtime, StackRuntime, without_password
from infra.store import Store

SECRET = "postgresql://me:s3/cr#e@t@db/mlflow"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg2://me:pw@db:5432/mlflow", "postgresql+psycopg2://me:***@db:5432/mlflow"),
        (SECRET, "postgresql://me:***@db/mlflow"),
        ("postgresql://db/mlflow?user=me&password=pw&x=1", "postgresql://db/mlflow?user=me&password=***&x=1"),
        ("https://me:pw@host/path", "https://me:***@host/path"),
        ("https://me@host:5000/path", "https://me@host:5000/path"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_links_are_for_browsers() -> None:
    runtime = Runtime(tracking_uri="http://me:pw@mlflow:5000/")
    assert runtime.mlflow_shown_at == "http://me:***@mlflow:5000"
    public = runtime.model_copy(update={"mlflow_public_url": "http://localhost:5000/"})
    assert public.mlflow_shown_at == "http://localhost:5000"
    assert Runtime(tracking_uri=SECRET).mlflow_shown_at == "http://127.0.0.1:5000"


# Artifacts that a database alone does not reach


def test_artifacts_behind_a_server_need_the_server() -> None:
    database = Runtime(tracking_uri=SECRET, stack=StackRuntime(mlflow_port=5001))
    with pytest.raises(ConfigError, match=r'`posttrain up`, then set tracking_uri = "http://127.0.0.1:5001"') as caught:
        check_place(database, "mlflow-artifacts:/1")
    assert "cr#e" not in str(caught.value)
    over_http = Runtime(tracking_uri="http://127.0.0.1:5001", artifact_root="/kept")
    check_place(over_http, "mlflow-artifacts:/1")
    check_place(over_http, "file:///kept")


def test_another_artifact_root_than_that_of_the_first_run_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has kept artifacts in file:///old since its first run") as caught:
        check_place(Runtime(tracking_uri=SECRET, artifact_root="/new"), "file:///old")
    assert "cr#e" not in str(caught.value)
    check_place(Runtime(tracking_uri=SECRET), "file:///old")


# The report and the command line


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint(name="sft", digest="d" * 64, uri="s3://bucket/p/manifests/train-sft/f.json", step="train-sft")


def test_a_report_names_a_checkpoint_in_a_bucket_and_fetches_nothing(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checkout(*_: object) -> Path:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr(Store, "checkout", checkout)
    run = Run("recipe", Runtime(store=str(tmp_path), tracking_uri=SECRET))
    run.store.is_local = False
    report = build_report(run, [], [], checkpoint, 1.0, page="")
    assert report.checkpoint == checkpoint.uri
    assert report.mlflow_command == 'mlflow server --backend-store-uri "$MLFLOW_BACKEND_STORE_URI" --port 5000'
    assert "cr#e" not in report.model_dump_json()


def test_a_report_names_the_folder_in_a_local_store(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "checkout", lambda *_: tmp_path / "model")
    run = Run("recipe", Runtime(store=str(tmp_path)))
    report = build_report(run, [], [], checkpoint, 1.0, page="")
    assert report.checkpoint == str(tmp_path / "model")
    assert report.mlflow_command == f"mlflow server --backend-store-uri sqlite:///{tmp_path}/mlflow.db --port 5000"


def test_sync_shows_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text(f'store = "{tmp_path}/store"\ntracking_uri = "{SECRET}"\n')
    monkeypatch.setattr(infra.lineage_sync, "sync", lambda *_: Synced())
    monkeypatch.setattr("infra.runtime.prepare_environment", lambda _: None)
    told = CliRunner().invoke(app, ["trace", "--sync", "--profile", str(profile)], catch_exceptions=False)
    assert "MLflow lacked nothing (postgresql://me:***@db/mlflow)" in told.stderr
