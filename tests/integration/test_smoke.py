"""Recipe `smoke`, whole: real math-verify, DeepSpeed, vLLM, Prefect and MLflow. It learns; a second run is cached."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.recipe import load_recipe
from infra.artifacts import Dataset, Drop, Manifest
from infra.rows import read_shard
from infra.runtime import child_environment
from infra.store import Store
from infra.vllm_server import VllmConfig, VllmServer
from tasks.generation.engine import Dispatcher, Prompt, SamplingParams
from tasks.procedural.corpus import make_corpus
from tasks.procedural.truth import BlemishKind, RowRef
from tasks.records import Query
from tests.integration.cli import Ended, posttrain

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smoke") / "store"


@pytest.fixture(scope="module")
def first(folder: Path) -> Ended:
    return posttrain("run", "smoke", "--store", str(folder), "--json")


@pytest.fixture(scope="module")
def second(first: Ended, folder: Path) -> Ended:
    return posttrain("run", "smoke", "--store", str(folder), "--json")


@pytest.fixture(scope="module")
def store(first: Ended, folder: Path) -> Store:
    assert first.code == 0, first.stderr[-4000:]
    return Store(str(folder), folder)


@pytest.fixture(scope="module")
def manifests(store: Store) -> dict[str, Manifest]:
    return {manifest.name: manifest for manifest in store.manifests()}


def score(report: dict[str, Any], after: str, benchmark: str = "math500") -> dict[str, Any]:
    (line,) = [s for s in report["scores"] if s["after"] == after and s["benchmark"] == benchmark]
    found: dict[str, Any] = line
    return found


def test_it_visibly_learns(first: Ended) -> None:
    """One seed of the bar: at least 30 points after SFT, and GRPO adds at least 10 with the interval above zero."""
    report = first.report
    sft, last = score(report, "sft"), score(report, "grpo-2")
    assert score(report, "base")["score"]["mean"] < 0.05
    assert sft["score"]["mean"] >= 0.30
    assert sft["score"]["k"] == 8
    assert last["score"]["mean"] - sft["score"]["mean"] >= 0.10
    assert score(report, "grpo-1")["gain"]["low"] > 0


def test_every_raw_row_is_accounted_for(first: Ended) -> None:
    corpus = make_corpus(_corpus_config())
    for file, rows in corpus.raw.items():
        source = file.removesuffix(".jsonl")
        assert sum(first.report["funnel"][source].values()) == len(rows), source


def test_a_second_run_is_cached_with_the_same_digests(first: Ended, second: Ended) -> None:
    assert {step["state"] for step in second.report["steps"]} == {"cached"}
    digests = [[step["label"], step["digest"]] for step in first.report["steps"]]
    assert digests == [[step["label"], step["digest"]] for step in second.report["steps"]]


def test_plan_after_a_run_is_all_hits_and_tells_what_a_change_touches(first: Ended, folder: Path) -> None:
    plan = json.loads(posttrain("plan", "smoke", "--store", str(folder), "--json").stdout)
    assert {line["state"] for line in plan} == {"hit"}
    changed = posttrain("plan", "smoke", "--store", str(folder), "--set", "sft.lr=1e-3", "--json")
    lines = {line["label"]: line for line in json.loads(changed.stdout)}
    assert lines["select-samples"]["state"] == "hit"
    assert (lines["train-sft"]["state"], lines["train-sft"]["why"]) == ("miss", "config.lr: 0.003 → 0.001")
    assert (lines["grpo-1"]["state"], lines["scores base"]["state"]) == ("waits", "hit")


def test_mlflow_holds_the_whole_lineage_of_both_runs(first: Ended, second: Ended, folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("posttrain")
    assert experiment is not None
    for ended in (first, second):
        query = f"tags.`posttrain.run` = '{ended.report['run']}'"
        (parent,) = client.search_runs([experiment.experiment_id], query)
        children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        by_label = {child.data.tags["mlflow.runName"]: client.get_run(child.info.run_id) for child in children}
        assert set(by_label) == {step["label"] for step in ended.report["steps"]}
        stage = by_label["grpo-1"]
        assert {d.dataset.name for d in stage.inputs.dataset_inputs} >= {"prompts grpo-1"}
        assert len(stage.inputs.model_inputs) == 1
        assert len(stage.outputs.model_outputs) == 1
        assert any(name.startswith("math500.avg_at_8") for name in by_label["scores grpo-2"].data.metrics)


# Planted truth


def _corpus_config() -> Any:
    config = load_recipe("smoke").ingest.corpus
    assert config is not None
    return config


@pytest.fixture(scope="module")
def ids(store: Store, manifests: dict[str, Manifest]) -> dict[RowRef, str]:
    """Query id of every raw row: ingest keeps the order of the file and, here, every row."""
    found: dict[RowRef, str] = {}
    for source in load_recipe("smoke").ingest.sources:
        dataset = store.reference(manifests[f"ingest {source.name}"])
        assert isinstance(dataset, Dataset)
        for row, query in enumerate(store.rows(dataset, Query)):
            found[RowRef(source.file.removeprefix("raw/"), row)] = query.id
    return found


@pytest.fixture(scope="module")
def drops(store: Store, manifests: dict[str, Manifest]) -> dict[str, str]:
    """Query id → reason, over all curation steps."""
    return {drop.query_id: drop.reason for drop in _drops(store, manifests)}


def _drops(store: Store, manifests: dict[str, Manifest]) -> Iterator[Drop]:
    for step in CURATION:
        for file in manifests[step].files:
            if file.path.startswith("dropped-"):
                yield from read_shard(store.local_file(file), Drop)


CURATION = (
    "apply-rules", "drop-duplicates", "judge-queries", "rewrite-choices", "decontaminate", "verify-labels",
    "select-samples",
)  # fmt: skip
EXPECTED = {
    BlemishKind.EXACT_DUPLICATE: {"duplicate"},
    BlemishKind.URL: {"url"},
    BlemishKind.IMAGE: {"image"},
    BlemishKind.PROOF: {"proof"},
    BlemishKind.MULTI_PART: {"multi_part"},
    BlemishKind.INCOMPLETE: {"incomplete", "judged_invalid"},  # a rule sees most, the judges the rest
    BlemishKind.UNCLEAR: {"judged_invalid"},
    BlemishKind.NO_TESTS: {"tests_missing"},
    BlemishKind.FAILING_REFERENCE: {"reference_fails"},
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_every_planted_fault_goes_with_the_right_reason(
    kind: BlemishKind, ids: dict[RowRef, str], drops: dict[str, str]
) -> None:
    blemishes = make_corpus(_corpus_config()).truth.of_kind(kind)
    assert blemishes
    assert {drops.get(ids[blemish.row]) for blemish in blemishes} == EXPECTED[kind]


def test_every_exact_leak_is_dropped_as_one(ids: dict[RowRef, str], drops: dict[str, str]) -> None:
    leaks = make_corpus(_corpus_config()).truth.of_kind(BlemishKind.BENCHMARK_LEAK)
    exact = [leak for leak in leaks if leak.variant != "reworded"]
    assert exact
    assert {drops.get(ids[leak.row]) for leak in exact} == {"leak_exact"}


def test_no_template_near_pair_loses_a_row_as_a_duplicate(ids: dict[RowRef, str], drops: dict[str, str]) -> None:
    pairs = make_corpus(_corpus_config()).truth.keep_pairs
    assert pairs
    lost = [row for pair in pairs for row in pair if "duplicate" in drops.get(ids[row], "")]
    assert lost == []


def test_the_judges_drop_no_clear_query(ids: dict[RowRef, str], drops: dict[str, str]) -> None:
    truth = make_corpus(_corpus_config()).truth
    lost = [ref for ref, name in ids.items() if drops.get(name, "").startswith("judge")]
    assert {truth.blemishes[ref].kind for ref in lost if ref in truth.blemishes} <= {
        BlemishKind.UNCLEAR, BlemishKind.INCOMPLETE,
    }  # fmt: skip
    assert [ref for ref in lost if ref not in truth.blemishes] == []


def test_multiple_choice_becomes_fill_in_where_it_can_be_asked_without_options(
    store: Store, manifests: dict[str, Manifest], ids: dict[RowRef, str]
) -> None:
    truth = make_corpus(_corpus_config()).truth
    rewritten = store.reference(manifests["rewrite-choices"])
    assert isinstance(rewritten, Dataset)
    after = {query.id: query for query in store.rows(rewritten, Query)}
    bound = {ids[blemish.row] for blemish in truth.of_kind(BlemishKind.BOUND_CHOICE)}
    asked = [after[name] for ref, name in ids.items() if ref.file == "mmlu_science_val.jsonl"]
    assert {query.id for query in asked if query.choices} == bound
    for query in asked:
        if not query.choices:
            old = query.meta["rewritten_from"]
            assert query.answer == old["choices"]["ABCD".index(old["answer"])]
            assert not query.prompt.endswith(tuple(old["choices"]))


def test_wrong_labels_are_mended_and_right_ones_left(
    store: Store, manifests: dict[str, Manifest], ids: dict[RowRef, str]
) -> None:
    wrong = make_corpus(_corpus_config()).truth.of_kind(BlemishKind.WRONG_LABEL)
    right_answer = {ids[blemish.row]: blemish.right_answer for blemish in wrong}
    verified = store.reference(manifests["verify-labels"])
    before = store.reference(manifests["decontaminate"])
    assert isinstance(verified, Dataset)
    assert isinstance(before, Dataset)
    after = {query.id: query.answer for query in store.rows(verified, Query)}
    mended = [query_id for query_id, answer in right_answer.items() if after.get(query_id, answer) == answer]
    assert len(wrong) >= 0.02 * sum(
        "answer" in row for rows in make_corpus(_corpus_config()).raw.values() for row in rows
    )
    assert len(mended) >= 0.95 * len(wrong)
    changed = [q.id for q in store.rows(before, Query) if q.id in after and after[q.id] != q.answer]
    assert set(changed) <= set(right_answer)


# The checkpoint


async def _greedy(url: str, ids: list[int]) -> list[int]:
    async with Dispatcher([url]) as dispatcher:
        async for sample in dispatcher.stream([Prompt("q", ids)], SamplingParams(temperature=0.0, max_tokens=48)):
            return list(sample.completion.completion_ids)
    raise AssertionError("no sample")


@pytest.mark.thorough
def test_transformers_and_vllm_say_the_same(first: Ended, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint = Path(first.report["checkpoint"])
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    question = [{"role": "user", "content": "Start with 7, add 5, subtract 3. What is the result?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        out = model.generate(torch.tensor([ids]), max_new_tokens=48, do_sample=False)[0][len(ids) :]
    config = VllmConfig(dtype="float32", max_model_len=256)
    with VllmServer(config, checkpoint, "last", log=tmp_path / "log", env=child_environment()) as server:
        served = asyncio.run(_greedy(server.base_url, ids))
    assert served == out.tolist()
    assert tokenizer.decode(out, skip_special_tokens=True).count("\\boxed{") == 1
