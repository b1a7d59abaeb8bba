"""SIGKILL of the whole process group in one phase after another, then the same command: it goes on, nothing twice."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.recipe import load_recipe
from infra.artifacts import Manifest
from infra.rows import read_shard
from infra.runtime import TrainingRuntime
from infra.store import Store
from infra.vllm_extension import weights_digest
from tasks.grpo.transport import FINAL_FOLDER, TRAINER, GrpoSpec, request_stop, rollouts_path
from tasks.records import Rollout
from tasks.training.launch import start_trainer
from tests.integration.cli import Ended, descendants_named, kill_when, posttrain

pytestmark = [pytest.mark.integration, pytest.mark.thorough, pytest.mark.timeout(1800)]

# The smoke recipe, made small: the phases are the same, the model learns nothing to speak of.
SMALL = {
    "ingest.corpus.counts.num_arithmetic": 400,
    "ingest.corpus.counts.num_equations": 60,
    "ingest.corpus.counts.num_comparisons": 60,
    "ingest.corpus.counts.num_units": 40,
    "ingest.corpus.counts.num_code": 20,
    "ingest.corpus.counts.num_multiple_choice": 20,
    "ingest.corpus.counts.num_instructions": 30,
    "ingest.corpus.counts.num_chats": 30,
    "ingest.corpus.benchmarks.num_math500_arithmetic": 40,
    "ingest.corpus.benchmarks.num_math500_equations": 10,
    "ingest.corpus.benchmarks.num_gsm8k_test_comparisons": 10,
    "ingest.corpus.benchmarks.num_gsm8k_test_units": 10,
    "model.small.tokenizer.vocab_size": 512,
    "sft.save_every_steps": 10,
    "pass_rate.max_prompts": 40,
    "pass_rate.keep": '"all"',
    "grpo.0.train.steps": 6,
    "grpo.0.train.save_every_steps": 2,
    "grpo.0.train.prompts_per_batch": 8,
    "grpo.0.train.group_size": 4,
    "grpo.1.train.steps": 2,
    "grpo.1.train.prompts_per_batch": 8,
    "grpo.1.train.group_size": 4,
    "grpo.1.prompts.retire_solved": "false",
    "benchmark.num_samples": 2,
}
DETERMINISTIC = (
    "merge", "apply-rules", "drop-duplicates", "decontaminate", "verify-labels", "select-samples", "init-model",
    "train-sft",
)  # fmt: skip


def command(folder: Path) -> list[str]:
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    return ["run", "smoke", "--store", str(folder), "--json", *settings]


def lines_in(folder: Path, pattern: str, num_lines: int) -> Callable[[], bool]:
    """True once a file below the store has so many lines."""
    return lambda: any(path.read_bytes().count(b"\n") >= num_lines for path in folder.glob(pattern) if path.is_file())


def moments(folder: Path) -> dict[str, Callable[[], bool]]:
    """Phase → a look at the store that tells that the phase is in the midst of its work."""
    return {
        "ingest": lambda: any(folder.glob("manifests/generate-corpus/*.json")),
        "filter": lambda: any(folder.glob("manifests/merge/*.json")),
        "verify": lines_in(folder, "row_cache/llm/*.jsonl", 200),
        "synthesize": lambda: any(folder.glob("manifests/verify-labels/*.json")),
        "sft": lines_in(folder, "scratch/train-sft-*/progress.jsonl", 15),
        "pass-rate": lines_in(folder, "scratch/measure-pass-rate-*/samples.jsonl", 50),
        "benchmark": lines_in(folder, "scratch/evaluate-*/math500.jsonl", 20),
        "grpo": lambda: any(folder.glob("scratch/train-grpo-*/step_00004/rollouts.parquet")),
    }


@pytest.fixture(scope="module")
def killed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed") / "store"


# What each kill costs is a start of Prefect and MLflow; `--thorough` kills in every phase.
ALWAYS = ("grpo",)


@pytest.fixture(scope="module")
def killed(killed_folder: Path, pytestconfig: pytest.Config) -> Ended:
    """The report of a run that was killed in one phase after another."""
    log = killed_folder.parent / "log"
    for phase, is_time in moments(killed_folder).items():
        if phase not in ALWAYS and not pytestconfig.getoption("--thorough"):
            continue
        assert kill_when(is_time, command(killed_folder), log), f"it ended before {phase}: {log.read_text()[-3000:]}"
        deadline = time.monotonic() + 10.0
        while descendants_named(str(killed_folder)):
            assert time.monotonic() < deadline, f"processes outlive a kill in {phase}"
            time.sleep(0.1)
    return posttrain(*command(killed_folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The report of a run that nobody disturbed."""
    # The steps that are compared come before these.
    short = {"pass_rate.max_prompts": 8, "grpo.0.train.steps": 1, "grpo.1.train.steps": 1, "benchmark.num_samples": 1}
    settings = [part for key, value in short.items() for part in ("--set", f"{key}={value}")]
    return posttrain(*command(tmp_path_factory.mktemp("whole") / "store"), *settings)


@pytest.mark.thorough
def test_deterministic_steps_have_the_digests_of_an_undisturbed_run(killed: Ended, whole: Ended) -> None:
    def digests(ended: Ended) -> dict[str, str]:
        return {step["label"]: step["digest"] for step in ended.report["steps"] if step["label"] in DETERMINISTIC}

    assert set(digests(whole)) == set(DETERMINISTIC)
    assert digests(killed) == digests(whole)


@pytest.fixture(scope="module")
def stage(killed: Ended, killed_folder: Path) -> tuple[Store, Manifest, Manifest]:
    """The store, the killed GRPO stage's manifest, and its base's."""
    assert killed.code == 0, killed.stderr[-4000:]
    store = Store(str(killed_folder), killed_folder)
    by_name = {manifest.name: manifest for manifest in store.manifests()}
    return store, by_name["grpo-1"], by_name["train-sft"]


def test_no_update_is_lost_or_done_twice_and_each_rollout_is_used_once(
    stage: tuple[Store, Manifest, Manifest],
) -> None:
    store, manifest, _ = stage
    batches = [
        list(read_shard(store.local_file(file), Rollout))
        for file in manifest.files
        if file.path.startswith("rollouts/")
    ]
    assert manifest.summary["train_step"] == len(batches) == 6
    versions = [{rollout.weights_version for rollout in batch} for batch in batches]
    assert all(len(version) == 1 for version in versions)
    assert len(set.union(*versions)) == 6, "every batch was sampled by the weights of its own step"
    for batch in batches:
        assert len({(rollout.group, rollout.sample_index) for rollout in batch}) == len(batch) == 32


def test_replaying_the_stored_rollouts_gives_the_same_weights(
    stage: tuple[Store, Manifest, Manifest], tmp_path: Path
) -> None:
    store, manifest, base = stage
    overrides = {key: value for key, value in SMALL.items() if key.startswith("grpo.0.train")}
    config = load_recipe("smoke", overrides).grpo[0].train
    for number, file in enumerate(f for f in manifest.files if f.path.startswith("rollouts/")):
        path = rollouts_path(tmp_path, number)
        path.parent.mkdir()
        shutil.copyfile(store.local_file(file), path)
    request_stop(tmp_path, 6)
    runtime = TrainingRuntime(num_threads=2)
    spec = GrpoSpec(
        base=str(store.checkout(store.reference(base))), folder=str(tmp_path), config=config, runtime=runtime
    )
    with start_trainer(TRAINER, spec, tmp_path, runtime) as trainer:
        while not trainer.finished:
            time.sleep(0.1)
    published = store.checkout(store.reference(manifest))
    assert weights_digest(tmp_path / FINAL_FOLDER) == weights_digest(published)
