"""What a person sees in a browser: the form of a run, the run with its phases and cards, and its lineage in MLflow.

Every stage leaves a screenshot in the folder of `--artifacts` (by default `.pytest_artifacts`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from flows.recipe import Recipe
from infra.run import RUNS
from tests.integration.browser import (
    CHROMIUM,
    Window,
    card,
    follow,
    form_field,
    open_artifact,
    open_form,
    open_in_mlflow,
    open_tab,
    open_window,
    panel_kind,
    panel_links,
    panel_title,
    select_node,
    selected_node,
    subflow,
    submit,
)
from tests.integration.stack import RunningStack, running_stack, tiny_recipe

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]

DEPLOYMENT = "post-train/post-train"
# The field that a person changes: how often each benchmark problem is answered. It ends in the names of the scores.
CHANGED, BEFORE, AFTER = "k of avg@k: samples a problem", 1, 2
POOLS = {
    "ingest": "cpu",
    "filter-queries": "cpu",
    "verify": "llm",
    "synthesize": "llm",
    "sft": "gpu-train",
    "pass-rate": "gpu-rollout",
    "grpo": "gpu-train",
    "benchmark": "gpu-rollout",
}
SUBFLOWS_A_PAGE = 10


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("browser")) as running:
        found = running.get(f"/deployments/name/{DEPLOYMENT}")
        # The form opens filled in with what the deployment holds.
        changed = running.api.patch(f"/deployments/{found['id']}", json={"parameters": {"recipe": tiny_recipe()}})
        assert changed.is_success, changed.text
        yield running


@pytest.fixture(scope="module")
def window(artifacts: Path) -> Iterator[Window]:
    with open_window(artifacts / "browser") as opened:
        yield opened


def prefect_page(stack: RunningStack, path: str) -> str:
    return f"{stack.links['prefect']}/{path}"


# The form


@pytest.fixture(scope="module")
def form(stack: RunningStack, window: Window) -> Window:
    """The form of a custom run, as it opens."""
    window.page.goto(prefect_page(stack, "deployments"))
    window.page.get_by_text("post-train", exact=True).first.wait_for()
    window.picture("01-deployments")
    deployment = stack.get(f"/deployments/name/{DEPLOYMENT}")
    open_form(window, prefect_page(stack, f"deployments/deployment/{deployment['id']}"))
    form_field(window, CHANGED).wait_for()
    window.picture("02-form")
    return window


def test_the_form_shows_the_recipe_with_its_descriptions(form: Window) -> None:
    shown = form.page.inner_text("form")
    for name, field in Recipe.model_fields.items():
        assert name.replace("_", " ").title() in shown
        assert field.description in shown, name
    for described in ("most steps of the stage", "in order of trust: of two duplicates the one from the earlier"):
        assert described in shown
    expect(form_field(form, CHANGED).locator("input")).to_have_value(str(BEFORE))


@pytest.fixture(scope="module")
def flow_run(form: Window) -> str:
    """A run that a person started from the form, with one field changed; its id, from the page."""
    field = form_field(form, CHANGED)
    field.scroll_into_view_if_needed()
    field.locator("input").fill(str(AFTER))
    form.picture("03-field-changed")
    started = submit(form, "twice a problem")
    form.picture("04-run-started")
    form.page.goto("about:blank")  # a page that follows a run keeps a core busy with drawing
    return started


@pytest.fixture(scope="module")
def done(stack: RunningStack, flow_run: str) -> dict[str, Any]:
    """The run when it is over."""
    ended = stack.wait(flow_run, timeout_s=1500.0)
    assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
    return ended


def test_the_run_has_the_changed_field_and_no_other_change(stack: RunningStack, done: dict[str, Any]) -> None:
    assert done["parameters"]["recipe"] == tiny_recipe(**{"benchmark.num_samples": AFTER})
    by_name = {manifest.name: manifest for manifest in stack.store.manifests()}
    assert by_name["scores grpo-1"].config["run"]["num_samples"] == AFTER


# The run's page


def open_run(stack: RunningStack, window: Window, flow_run: str) -> None:
    window.page.goto(prefect_page(stack, f"runs/flow-run/{flow_run}"))
    window.page.get_by_text("Completed", exact=True).first.wait_for()


def test_the_page_shows_each_phase_as_a_subflow_on_its_pool(
    stack: RunningStack, window: Window, done: dict[str, Any]
) -> None:
    children = stack.children(done["id"])
    assert {child["name"].rpartition("-")[0]: child["work_pool_name"] for child in children} == {
        f"smoke {phase}": pool for phase, pool in POOLS.items()
    }
    open_run(stack, window, done["id"])
    window.page.get_by_text("Finished in state").first.wait_for()
    window.picture("05-run")
    open_tab(window, "Subflow Runs")
    window.page.get_by_text(f"{len(children)} Flow runs").wait_for()
    for child in children[-SUBFLOWS_A_PAGE:]:
        expect(subflow(window, child["name"])).to_contain_text(child["work_pool_name"])
    window.picture("06-subflows")


def test_the_artifacts_tab_shows_report_funnel_cost_and_the_way_to_mlflow(
    stack: RunningStack, window: Window, done: dict[str, Any]
) -> None:
    open_run(stack, window, done["id"])
    open_tab(window, "Artifacts")
    for key in (*CARDS, "smoke-mlflow"):
        window.page.locator(".artifact-card__title").get_by_text(key, exact=True).wait_for()
    window.picture("07-artifacts")


CARDS = {
    "smoke-funnel": ("Funnel: every raw row, by source and reason", "gsm8k_train", "leak"),
    "smoke-report": ("scores, in points, with 95 % intervals", "grpo-1", f"avg@{AFTER}"),
    "smoke-cost": ("Cost of run",),
}


@pytest.mark.parametrize("key", CARDS)
def test_a_card_of_the_run_reads_as_a_table(
    stack: RunningStack, window: Window, done: dict[str, Any], key: str
) -> None:
    open_run(stack, window, done["id"])
    open_tab(window, "Artifacts")
    open_artifact(window, key)
    for text in CARDS[key]:
        expect(card(window)).to_contain_text(text)
    window.picture(f"08-{key}")


def test_a_step_has_a_card_with_its_funnel(stack: RunningStack, window: Window, done: dict[str, Any]) -> None:
    (verify,) = [child for child in stack.children(done["id"]) if child["name"] == "smoke verify-1"]
    open_run(stack, window, verify["id"])
    open_tab(window, "Artifacts")
    open_artifact(window, "smoke-verify-labels")
    expect(card(window)).to_contain_text("gsm8k_train")
    window.picture("09-step-card")


# MLflow


@pytest.fixture(scope="module")
def mlflow_page(stack: RunningStack, window: Window, done: dict[str, Any]) -> str:
    """Address of the run in MLflow, as the link on the run's Artifacts tab leads there."""
    open_run(stack, window, done["id"])
    open_tab(window, "Artifacts")
    open_artifact(window, "smoke-mlflow")
    link = window.page.locator(f"a[href^='{mlflow_root(stack)}']").first
    link.wait_for()
    window.picture("10-link")
    return link.get_attribute("href") or ""


def mlflow_root(stack: RunningStack) -> str:
    root: str = stack.links["mlflow"].partition("/#")[0]
    return root


def test_mlflow_shows_inputs_model_and_scores_of_the_run(window: Window, mlflow_page: str) -> None:
    open_in_mlflow(window, mlflow_page)
    for text in ("raw/gsm8k_train.jsonl", "grpo-1", f"scores grpo-1.math500.avg_at_{AFTER}"):
        window.page.get_by_text(text).first.wait_for()
    window.picture("11-mlflow-run")


def test_mlflow_lists_the_run(window: Window, mlflow_page: str, run: str) -> None:
    open_in_mlflow(window, mlflow_page)
    window.page.get_by_role("link", name="Runs", exact=True).first.click()
    window.page.get_by_text(f"smoke {run}").first.wait_for()
    window.picture("12-mlflow-runs")


def test_lineage_is_clickable_within_mlflow(window: Window, mlflow_page: str) -> None:
    open_in_mlflow(window, mlflow_page.replace("?", "/artifacts/lineage.html?"))
    page = window.page.frame_locator("iframe").first
    select_node(page, "checkpoint", "grpo-1")
    follow(page, "Made from", panel_links(page, "Made from")[0])
    assert panel_title(page) == "train-sft"
    window.picture("13-mlflow-lineage")


# lineage.html


@pytest.fixture(scope="module")
def run(done: dict[str, Any], stack: RunningStack) -> str:
    """Id of the pipeline run, by which the store knows it."""
    (found,) = [tag.removeprefix("run:") for tag in stack.children(done["id"])[0]["tags"] if tag.startswith("run:")]
    return found


def test_clicks_lead_from_the_checkpoint_to_a_raw_source_and_back(
    stack: RunningStack, window: Window, run: str
) -> None:
    page = window.page
    page.goto((stack.store_folder / RUNS / run / "lineage.html").as_uri())
    select_node(page, "checkpoint", "grpo-1")
    window.picture("14-lineage-checkpoint")
    way = []
    while panel_kind(page) != "raw file":
        way.append(selected_node(page))
        follow(page, "Made from", panel_links(page, "Made from")[-1])
    assert panel_title(page).startswith("raw/")
    window.picture("15-lineage-source")
    for node in reversed(way):
        follow(page, "Went into", node)
    assert (panel_kind(page), panel_title(page)) == ("checkpoint", "grpo-1")


# What else a person finds


def test_the_automation_the_schedule_and_the_pools_are_shown(stack: RunningStack, window: Window) -> None:
    shown = {
        "automations": ("train when a data version is published", "no heartbeat, so crashed"),
        "deployments": ("recurate", "At 03:00 AM every day"),
        "work-pools": ("cpu", "llm", "gpu-rollout", "gpu-train"),
        "work-pools/work-pool/gpu-train": ("Ready",),
    }
    for number, (path, texts) in enumerate(shown.items(), 16):
        window.page.goto(prefect_page(stack, path))
        for text in texts:
            window.page.get_by_text(text).first.wait_for()
        window.picture(f"{number}-{path.rpartition('/')[2]}")


def test_no_page_that_was_shown_had_a_fault(window: Window, run: str) -> None:
    assert window.faults == []
