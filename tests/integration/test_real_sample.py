"""Recipe `real-sample` on real rows of public sources: every row accounted for, and honest scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.recipe import load_recipe
from flows.report import total_funnel
from infra.run import read_runs
from infra.store import Store
from tests.integration.cli import Ended, posttrain

SHARED = Path(__file__).resolve().parents[2].parent / "shared/data"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.thorough,  # what filters find in real rows is in `test_filter_real_data`
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not SHARED.exists(), reason="the folder of real raw rows is not on this machine"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real") / "store"


@pytest.fixture(scope="module")
def funnel(folder: Path) -> dict[str, dict[str, int]]:
    """Source → reason, or kept → queries, after curation."""
    ended = posttrain("recurate", "real-sample", "--raw", str(SHARED), "--store", str(folder), "--json")
    assert ended.code == 0, ended.stderr[-4000:]
    (run,) = read_runs(Store(str(folder), folder))
    return total_funnel(run.steps)


def test_every_row_of_every_source_is_kept_or_dropped_with_a_reason(funnel: dict[str, dict[str, int]]) -> None:
    for source in load_recipe("real-sample").ingest.sources:
        with (SHARED / source.file).open("rb") as file:
            num_rows = sum(1 for _ in file)
        assert sum(funnel[source.name].values()) == min(num_rows, source.limit or num_rows), source.name


def test_real_blemishes_are_found(funnel: dict[str, dict[str, int]]) -> None:
    assert funnel["gsm8k_train"].get("leak_exact", 0) == 0
    assert funnel["aime_1983_2023"]["image"] > 0
    assert funnel["tulu_eval_instances"]["duplicate"] > 100
    assert funnel["fastchat_dummy"]["duplicate"] > 100


@pytest.fixture(scope="module")
def ended(funnel: dict[str, dict[str, int]], folder: Path) -> Ended:
    """A whole run on what is curated; one step of each stage shows that the phases take real rows."""
    short = ("--set", "grpo.0.train.steps=1", "--set", "pass_rate.max_prompts=8")
    return posttrain("run", "real-sample", "--raw", str(SHARED), "--store", str(folder), "--json", *short)


def test_scores_are_reported_for_gsm8k_and_math500_after_every_phase(ended: Ended) -> None:
    lines = {(line["after"], line["benchmark"]): line["score"] for line in ended.report["scores"]}
    phases = ("base", "sft", "grpo-1", "grpo-2")
    assert set(lines) == {(phase, name) for phase in phases for name in ("gsm8k_test", "math500")}
    assert all(score["n"] == 50 for score in lines.values())


def test_the_checkpoint_is_a_folder_that_transformers_loads(ended: Ended) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(ended.report["checkpoint"])
