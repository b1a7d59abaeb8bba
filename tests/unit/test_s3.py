"""A profile's S3: its options, what MLflow gets of it, and the question that is asked before anything starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from infra.config import ConfigError
from infra.runtime import MLFLOW_S3, Runtime, give_s3_to_mlflow, load_profile, storage_options
from infra.s3 import WRITE_PROBE, check_s3
from infra.store import Store, StoreError


def runtime_of(options: dict[str, Any], store: str = "s3://posttrain/prefix", **fields: Any) -> Runtime:
    return Runtime.model_validate({"store": store, "storage_options": options, "scratch": "/nowhere"} | fields)


def store_of(runtime: Runtime, folder: Path) -> Store:
    return Store(runtime.store, folder, storage_options(runtime))


@pytest.fixture
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in MLFLOW_S3.values():
        monkeypatch.setenv(variable, "")  # so that monkeypatch takes back what the test sets
        monkeypatch.delenv(variable)


# Options


def test_options_reach_the_file_system_and_listings_are_never_old() -> None:
    options = storage_options(runtime_of({"endpoint_url": "http://there", "key": "k", "secret": "s", "region": "r"}))
    assert options == {
        "endpoint_url": "http://there",
        "key": "k",
        "secret": "s",
        "client_kwargs": {"region_name": "r"},
        "use_listings_cache": False,
    }


def test_a_misspelt_option_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('store = "s3://b/p"\nstorage_options = { endpoint = "http://there" }\n')
    with pytest.raises(ConfigError, match=r"storage_options.endpoint.*endpoint_url"):
        load_profile(str(path))


# MLflow


def test_artifacts_lie_beside_the_database_or_where_the_profile_says() -> None:
    def place(**fields: Any) -> str | None:
        return Runtime.model_validate({"scratch": "/work-of/scratch"} | fields).mlflow_artifacts

    assert place() == "file:///work-of/mlartifacts"
    assert place(tracking_uri="http://mlflow") is None
    assert place(artifact_root="s3://b/mlflow/") == "s3://b/mlflow"
    assert place(tracking_uri="http://mlflow", artifact_root="/kept") == "file:///kept"


@pytest.mark.usefixtures("_no_keys")
def test_mlflow_gets_the_profiles_endpoint_and_keys() -> None:
    give_s3_to_mlflow(runtime_of({"endpoint_url": "http://there", "key": "k", "secret": "s"}))
    assert os.environ["MLFLOW_S3_ENDPOINT_URL"] == "http://there"
    assert (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]) == ("k", "s")


@pytest.mark.usefixtures("_no_keys")
def test_what_the_person_has_set_stays_and_keys_are_never_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "own")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://own")
    give_s3_to_mlflow(runtime_of({"endpoint_url": "http://there", "key": "k", "secret": "s"}))
    assert (os.environ["AWS_ACCESS_KEY_ID"], os.environ["MLFLOW_S3_ENDPOINT_URL"]) == ("own", "http://own")
    assert "AWS_SECRET_ACCESS_KEY" not in os.environ


# The question before anything starts


def test_a_folder_is_not_asked(local_store: Store) -> None:
    check_s3(local_store, Runtime(), writes=True)
    assert local_store.notes("runs") == []


def test_a_store_in_order_passes_again_and_again(s3_options: dict[str, Any], tmp_path: Path) -> None:
    runtime = runtime_of(s3_options, store="s3://posttrain/in-order")
    store = store_of(runtime, tmp_path)
    check_s3(store, runtime, writes=False)
    assert store.notes("runs") == []
    for _ in range(2):
        check_s3(store, runtime, writes=True)
        assert store.notes("runs") == [WRITE_PROBE]


def test_a_missing_bucket_is_told_with_its_place_and_remedy(s3_options: dict[str, Any], tmp_path: Path) -> None:
    runtime = runtime_of(s3_options, store="s3://not-there/prefix")
    with pytest.raises(ConfigError, match=r"store s3://not-there/prefix at http.*NoSuchBucket.*make the bucket"):
        check_s3(store_of(runtime, tmp_path), runtime, writes=False)


def test_an_endpoint_where_nobody_listens(tmp_path: Path) -> None:
    runtime = runtime_of({"endpoint_url": "http://127.0.0.1:1", "key": "k", "secret": "s"})
    with pytest.raises(ConfigError, match=r"Could not connect.*check `endpoint_url`"):
        check_s3(store_of(runtime, tmp_path), runtime, writes=False)


def test_an_endpoint_without_a_scheme(tmp_path: Path) -> None:
    runtime = runtime_of({"endpoint_url": "127.0.0.1:9000", "key": "k", "secret": "s"})
    with pytest.raises(ConfigError, match=r"Invalid endpoint: 127.0.0.1:9000; check `endpoint_url`"):
        check_s3(store_of(runtime, tmp_path), runtime, writes=False)


def test_a_server_that_lets_two_writers_create_the_same_is_refused(
    s3_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = runtime_of(s3_options)
    store = store_of(runtime, tmp_path)
    monkeypatch.setattr(store, "create", lambda path, content: True)
    with pytest.raises(ConfigError, match="ignores `If-None-Match"):
        check_s3(store, runtime, writes=True)


def test_keys_without_the_right_to_write(
    s3_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = runtime_of(s3_options)
    store = store_of(runtime, tmp_path)

    def refuse(path: str, content: bytes) -> bool:
        raise StoreError("cannot write") from PermissionError(13, "Access Denied")

    monkeypatch.setattr(store, "create", refuse)
    with pytest.raises(ConfigError, match=r"PermissionError: .*Access Denied; give these keys the rights"):
        check_s3(store, runtime, writes=True)
