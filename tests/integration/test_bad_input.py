"""Bad input at the command line: one clear error with the remedy, exit code not 0, nothing half-published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.cli import posttrain

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

RECIPE = """
name = "broken"
description = "One source, to be read wrong"
ingest.sources = [{ name = "gsm8k_train", file = "raw/gsm8k_train.jsonl", adapter = "gsm8k", license = "MIT" }]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The real-sample recipe with one source and its other phases as they are."""
    whole = (Path(__file__).resolve().parents[2] / "flows/recipes/real-sample.toml").read_text()
    path = tmp_path / "broken.toml"
    path.write_text(RECIPE + whole[whole.index("[verify.answers]") :])
    return path


def raw_folder(tmp_path: Path, *lines: str) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "gsm8k_train.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_an_unknown_recipe_key_names_file_key_and_remedy() -> None:
    ended = posttrain("run", "smoke", "--set", "sft.lrr=1e-3")
    assert ended.code == 1
    assert "smoke.toml" in ended.stderr
    assert "sft.lrr: unknown key; did you mean `lr`?" in ended.stderr


def test_an_unknown_recipe_and_an_impossible_value_are_refused() -> None:
    assert "no recipe `smok`; known: " in posttrain("plan", "smok").stderr
    ended = posttrain("plan", "smoke", "--set", "grpo.0.train.group_size=1")
    assert ended.code == 1
    assert "grpo.0.train.group_size: Input should be greater than or equal to 2 (given: 1)" in ended.stderr


def test_a_missing_raw_file_is_told_before_anything_starts(recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ended = posttrain("run", str(recipe), "--raw", str(tmp_path), "--store", str(store))
    assert ended.code == 1
    assert f"{tmp_path}/raw/gsm8k_train.jsonl: no such raw file" in ended.stderr
    assert not (store / "manifests").exists()


def test_a_recipe_that_reads_raw_files_asks_for_their_folder(recipe: Path) -> None:
    ended = posttrain("plan", str(recipe))
    assert ended.code == 1
    assert "give --raw FOLDER" in ended.stderr


def test_a_row_without_a_field_names_source_row_and_field(recipe: Path, tmp_path: Path) -> None:
    good = json.dumps({"question": "What is 1 + 1?", "answer": "1 + 1 = 2\n#### 2"})
    folder = raw_folder(tmp_path, good, json.dumps({"question": "What is 2 + 2?"}))
    store = tmp_path / "store"
    ended = posttrain("run", str(recipe), "--raw", str(folder), "--store", str(store))
    assert ended.code == 1
    assert "gsm8k_train" in ended.stderr
    assert "2" in ended.stderr
    assert "`answer` is missing" in ended.stderr
    assert list(store.glob("manifests/*/*.json")) == []


def test_a_dead_endpoint_is_one_error_and_keeps_what_was_done(tmp_path: Path) -> None:
    profile = tmp_path / "dead.toml"
    roles = "\n".join(
        f'[endpoints.{role}]\nbase_url = "http://127.0.0.1:9/v1"\nmax_attempts = 2\n'
        for role in ("teacher", "reward-model")
    )
    roles += "".join(f'[endpoints.{role}]\nbase_url = "stand-in"\n' for role in ("judge", "arbiter"))
    profile.write_text(roles)
    store = tmp_path / "store"
    ended = posttrain("run", "smoke", "--profile", str(profile), "--store", str(store))
    assert ended.code == 1
    assert "http://127.0.0.1:9/v1" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(store.glob("manifests/decontaminate/*.json"))
    assert list(store.glob("manifests/collect-answers/*.json")) == []
