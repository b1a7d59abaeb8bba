"""The stack at work: races, cancellation, death of worker and flow run, re-curation with approval, and its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.data_versions import last_version
from infra.process import port_is_free
from infra.row_cache import RowCache
from infra.run import read_runs
from tasks.procedural.config import CorpusConfig
from tasks.procedural.corpus import make_corpus, write_raw
from tests.integration.cli import Ended, descendants_named, posttrain
from tests.integration.stack import OVER, TINY, RunningStack, running_stack, settings, tiny_recipe, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

# Learning rates of their own keep the tests' trainings apart in the one store.
CANCELLED_LR, KILLED_LR = 1.1e-3, 1.2e-3
EVERY_MINUTE = "* * * * *"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[RunningStack]:
    raw = folder / "sources"
    write_raw(make_corpus(CorpusConfig.model_validate(tiny_recipe()["ingest"]["corpus"])), raw)
    with running_stack(folder, raw_folder=str(raw)) as running:
        yield running


def test_up_again_shows_the_same_links(stack: RunningStack) -> None:
    again = posttrain("up", "--profile", str(stack.profile), "--json")
    assert again.code == 0, again.stderr
    assert {key: again_links(again)[key] for key in ("prefect", "mlflow")} == {
        key: stack.links[key] for key in ("prefect", "mlflow")
    }


def again_links(ended: Ended) -> dict[str, Any]:
    import json

    links: dict[str, Any] = json.loads(ended.stdout)
    return links


def test_status_shows_a_worker_on_every_pool(stack: RunningStack) -> None:
    import json

    def online() -> dict[str, int]:
        seen = json.loads(posttrain("status", "--profile", str(stack.profile), "--json").stdout)
        return {pool["name"]: pool["workers_online"] for pool in seen["pools"]}

    wait_until(lambda: all(online().values()), "a worker on every pool", 60.0)
    assert set(online()) == {"cpu", "llm", "gpu-rollout", "gpu-train"}


# Curation, by hand and by two at once


@pytest.fixture(scope="module")
def raced(stack: RunningStack) -> tuple[dict[str, str], dict[str, str]]:
    """Steps and states of two flow runs of one deployment that began together."""
    both = [stack.trigger("ingest/ingest", recipe=tiny_recipe()) for _ in range(2)]
    for flow_run in both:
        stack.complete(flow_run)
    first, second = (stack.tasks(flow_run) for flow_run in both)
    return first, second


def test_of_two_workers_at_the_same_step_one_publishes_and_one_finds_it_cached(
    raced: tuple[dict[str, str], dict[str, str]],
) -> None:
    first, second = raced
    assert first.keys() == second.keys()
    for step in first:
        assert sorted([first[step], second[step]]) in (["Cached", "Completed"], ["Cached", "Cached"]), step
    assert sorted([first["generate-corpus"], second["generate-corpus"]]) == ["Cached", "Completed"]


@pytest.fixture(scope="module")
def curated(stack: RunningStack, raced: object) -> str:
    """A flow run of each phase of curation, each triggered alone; the last one's id."""
    for name, artifacts in (
        ("filter-queries", {}),
        ("verify", {}),
        ("synthesize", {}),
    ):
        flow_run = stack.trigger(f"{name}/{name}", recipe=tiny_recipe(), **artifacts)
        stack.complete(flow_run)
    return flow_run


def test_phases_that_are_triggered_alone_find_their_inputs_by_label(stack: RunningStack, curated: str) -> None:
    assert set(stack.tasks(curated)) == {"synthesize-responses", "select-samples"}


# Cancel and kill


def training(stack: RunningStack) -> bool:
    """True while a trainer works in the store's scratch."""
    return any(stack.store_folder.glob("scratch/train-sft-*/progress.jsonl"))


def test_cancel_ends_every_process_of_the_run_and_of_its_phases(stack: RunningStack, curated: str) -> None:
    flow_run = stack.trigger("post-train/post-train", recipe=tiny_recipe(**{"sft.lr": CANCELLED_LR}))
    wait_until(lambda: training(stack), "the trainer to work", 300.0)
    scratch = str(stack.store_folder / "scratch")
    assert descendants_named(scratch)
    stack.cancel(flow_run)
    wait_until(lambda: not descendants_named(scratch), "every process of the run to end", 15.0)
    wait_until(lambda: stack.flow_run(flow_run)["state_type"] == "CANCELLED", "the parent to be cancelled", 30.0)
    wait_until(
        lambda: all(child["state_type"] in OVER for child in stack.children(flow_run)), "its phases to be over", 30.0
    )
    assert stack.children(flow_run)[-1]["state_type"] == "CANCELLED"


def test_a_killed_worker_and_flow_run_are_crashed_by_themselves_and_a_new_run_goes_on(
    stack: RunningStack, curated: str
) -> None:
    recipe = tiny_recipe(**{"sft.lr": KILLED_LR})
    before = resume_points(stack)
    killed = stack.trigger("sft/sft", recipe=recipe)
    wait_until(lambda: bool(resume_points(stack) - before), "a resume point", 300.0)
    saved = resume_points(stack) - before
    for process in worker_processes(stack, "gpu-train"):
        os.kill(process, signal.SIGKILL)
    # Three heartbeats of 30 s, and the server's look at them.
    wait_until(lambda: stack.flow_run(killed)["state_type"] == "CRASHED", "the flow run to be crashed", 120.0)
    assert resume_points(stack) >= saved
    again = stack.trigger("sft/sft", recipe=recipe)
    stack.complete(again)
    assert stack.tasks(again)["train-sft"] == "Completed"


def resume_points(stack: RunningStack) -> set[str]:
    """Saved steps of trainings that are under way, or were cut off."""
    return {str(path) for path in stack.store_folder.glob("scratch/train-sft-*/resume-*/*") if path.is_dir()}


def worker_processes(stack: RunningStack, pool: str) -> list[int]:
    """The worker of a pool, and the flow runs that it started: processes of its supervisor's tree."""
    home = str(stack.store_folder)
    found = []
    for process in descendants_named("prefect"):
        try:
            environment = Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace")
            command = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        of_pool = f"\0{pool}\0" in command or "prefect.engine" in command or "_workspace" in command
        if home in environment and of_pool and "infra/process.py" not in command:
            found.append(process)
    return found


# Re-curation and approval


@pytest.fixture(scope="module")
def growing() -> dict[str, Any]:
    """A recipe that reads raw files, which can grow."""
    recipe = tiny_recipe()
    recipe["name"] = "growing"
    recipe["ingest"]["corpus"] = None
    return recipe


@pytest.fixture(scope="module")
def refused(stack: RunningStack, growing: dict[str, Any], folder: Path) -> str:
    """The first data version, whose training a person refused; the training's flow run."""
    hold_back(folder / "sources/raw/gsm8k_train.jsonl", folder / "held-back.jsonl", num_rows=4)
    first = stack.trigger("recurate/recurate", recipe=growing)
    stack.complete(first)
    (waiting,) = wait_for_approval(stack, set())
    stack.answer(waiting, approve=False, reason="too few science questions")
    stack.wait(waiting)
    return waiting


def hold_back(source: Path, kept: Path, num_rows: int) -> None:
    """Take the last rows out of a file, for later."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    source.write_text("".join(lines[:-num_rows]), encoding="utf-8")
    kept.write_text("".join(lines[-num_rows:]), encoding="utf-8")


def wait_for_approval(stack: RunningStack, known: set[str]) -> list[str]:
    """Flow runs that wait for a person, other than the known ones."""

    def paused() -> list[str]:
        found = stack.post("/flow_runs/filter", flow_runs={"state": {"type": {"any_": ["PAUSED"]}}})
        return [run["id"] for run in found if run["id"] not in known]

    wait_until(lambda: bool(paused()), "a run that waits for approval", 900.0)
    return paused()


@pytest.mark.thorough
def test_refusing_ends_the_run_with_the_reason_kept(stack: RunningStack, refused: str) -> None:
    state = stack.flow_run(refused)["state"]
    assert (state["type"], state["name"]) == ("CANCELLED", "Refused")
    assert "too few science questions" in state["message"]
    assert "sft" not in {child["name"].split()[-1].rsplit("-", 1)[0] for child in stack.children(refused)}
    reasons = [run.reason for run in read_runs(stack.store) if "too few science questions" in run.reason]
    assert len(reasons) == 1


@pytest.mark.thorough
def test_a_grown_source_gives_a_data_version_by_schedule_and_approval_starts_training(
    stack: RunningStack, growing: dict[str, Any], refused: str, folder: Path
) -> None:
    num_paid = len(paid_answers(stack))
    before = last_version(stack.store, "growing")
    assert before is not None
    assert before.number == 1
    with (folder / "sources/raw/gsm8k_train.jsonl").open("a", encoding="utf-8") as file:
        file.write((folder / "held-back.jsonl").read_text(encoding="utf-8"))
    deployment = stack.get("/deployments/name/recurate/recurate")["id"]
    schedule = {"schedule": {"cron": EVERY_MINUTE}, "active": True, "parameters": {"recipe": growing}}
    answer = stack.api.post(f"/deployments/{deployment}/schedules", json=[schedule])
    assert answer.is_success, answer.text
    (made,) = answer.json()
    (waiting,) = wait_for_approval(stack, {refused})
    stack.api.delete(f"/deployments/{deployment}/schedules/{made['id']}")

    after = last_version(stack.store, "growing")
    assert after is not None
    assert (after.number, after.num_queries > before.num_queries) == (2, True)
    assert after.run in {run.id for run in read_runs(stack.store)}
    # Four of 300 rows are new, and each is answered a few times: all else was in the cache.
    assert len(paid_answers(stack)) - num_paid <= 0.02 * num_paid

    stack.answer(waiting, approve=True, reason="more of the same kind")
    wait_until(
        lambda: any(" sft-" in child["name"] for child in stack.children(waiting)), "training to be dispatched", 120.0
    )
    stack.cancel(waiting)
    assert stack.wait(waiting)["state_type"] == "CANCELLED"


def paid_answers(stack: RunningStack) -> set[str]:
    """Keys of all answers of language models that were ever made for this store."""
    cache = RowCache(stack.store, "llm", stack.store_folder / "scratch")
    return set(cache._values)


# The same recipe by `run` and by the stack; the end


@pytest.mark.thorough
def test_run_and_stack_publish_byte_identical_manifests_of_deterministic_steps(
    stack: RunningStack, curated: str, tmp_path: Path
) -> None:
    other = tmp_path / "store"
    inline = posttrain("recurate", "smoke", "--store", str(other), *settings(TINY))
    assert inline.code == 0, inline.stderr
    names = sorted(path.relative_to(other) for path in other.glob("manifests/*/*.json"))
    assert len(names) > 10
    for name in names:
        assert (other / name).read_bytes() == (stack.store_folder / name).read_bytes(), name


def test_down_leaves_no_process_and_no_port(folder: Path, stack: RunningStack) -> None:
    down = posttrain("down", "--profile", str(stack.profile))
    assert down.code == 0, down.stderr
    assert descendants_named(str(folder)) == []
    for url in (stack.links["prefect"], stack.links["mlflow"]):
        port = int(url.split("//")[1].split("/")[0].split(":")[1])
        assert port_is_free(port)
