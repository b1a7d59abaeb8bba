"""What a person reads: the funnel over all curation steps, the card of a step, the plan."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.report import plan_table, total_funnel
from infra.artifacts import Dataset, Manifest
from infra.card import funnel_table, render_card
from infra.output import Cost
from infra.run import PlannedStep, Run, StepRecord, active, current_run, require_run
from infra.runtime import Runtime


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("recipe", Runtime(store=str(tmp_path)))


def record(phase: str, step: str, funnel: dict[str, dict[str, int]]) -> StepRecord:
    artifact = Dataset(name=step, digest="d", uri="u")
    return StepRecord(
        label=step, phase=phase, step=step, artifact=artifact, cached=False, seconds=0.0, cost=Cost(), funnel=funnel
    )


def test_the_funnel_counts_every_raw_row_once() -> None:
    """x: 10 raw = 2 unreadable + 3 url + 1 repeated + 4 left; y: 5 raw, of which the filter leaves nothing."""
    records = [
        record("ingest", "ingest-source", {"x": {"kept": 8, "unreadable": 2}}),
        record("ingest", "ingest-source", {"y": {"kept": 5}}),
        record("filter-queries", "apply-rules", {"x": {"kept": 5, "url": 3}, "y": {"image": 5}}),
        record("filter-queries", "drop-duplicates", {"x": {"kept": 4, "repeated": 1}}),
    ]
    assert total_funnel(records) == {
        "x": {"kept": 4, "repeated": 1, "unreadable": 2, "url": 3},
        "y": {"image": 5, "kept": 0},
    }


def test_what_keeps_no_raw_rows_is_not_in_the_funnel() -> None:
    records = [
        record("ingest", "ingest-source", {"x": {"kept": 3}}),
        record("ingest", "ingest-benchmark", {"bench": {"kept": 9}}),
        record("verify", "collect-answers", {"x": {"kept": 3}}),
        record("pass-rate", "measure-pass-rate", {"x": {"kept": 1, "solved": 2}}),
    ]
    assert total_funnel(records) == {"x": {"kept": 3}}


def test_a_card_tells_identity_funnel_curves_and_notes() -> None:
    base: dict[str, Any] = {"kind": "dataset", "name": "queries", "step": "merge", "version": 2, "sampled": False}
    rest = {"fingerprint": "f", "config": {}, "parents": {}, "files": [], "summary": {"funnel": {"x": {"kept": 1}}}}
    manifest = Manifest.model_validate(base | rest)
    card = render_card(manifest, ["a note"], {"loss": [(0, 2.0), (9, 0.5)]})
    title, identity, funnel, curves, note = card.split("\n\n")
    assert title == "# queries"
    assert identity == f"dataset `{manifest.digest[:16]}` by step `merge` v2"
    assert funnel.splitlines()[-1] == "| x | 1 | 1 | 0 |  |"
    assert curves.splitlines()[-1] == "| loss | 2 | 2 | 0.5 |"
    assert note == "a note"


def test_a_funnel_table_has_a_line_for_every_source_with_its_reasons() -> None:
    table = funnel_table({"b": {"kept": 1000, "url": 2, "leak_exact": 5}, "a": {"image": 3}})
    assert table.splitlines() == [
        "| source | in | kept | dropped | reasons |",
        "| --- | ---: | ---: | ---: | --- |",
        "| a | 3 | 0 | 3 | image 3 |",
        "| b | 1,007 | 1,000 | 7 | leak exact 5, url 2 |",
    ]
    assert funnel_table({}) == ""


def test_a_plan_shows_state_and_reason() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(plan_table([PlannedStep(label="sft", phase="sft", step="train-sft", state="miss", why="lr: 1 → 2")]))
    text = console.export_text()
    assert "miss" in text
    assert "lr: 1 → 2" in text


# The run


def test_a_run_is_current_only_while_it_is_active(run: Run) -> None:
    assert current_run() is None
    with active(run):
        assert require_run() is run
    with pytest.raises(RuntimeError, match="no run is active; open one"):
        require_run()


class FakeLineage:
    """Remembers how the run ended."""

    def __init__(self) -> None:
        self.ended: list[bool] = []

    def record(self, *_: Any) -> None: ...

    def end(self, failed: bool) -> None:
        self.ended.append(failed)


def test_the_end_of_a_run_is_recorded_whatever_happens(run: Run) -> None:
    for error in (None, ValueError("x")):
        lineage = FakeLineage()
        run.lineage = lineage
        try:
            with active(run):
                if error:
                    raise error
        except ValueError:
            pass
        assert lineage.ended == [error is not None]


def test_a_resource_that_will_not_close_does_not_hide_the_end_of_the_run(run: Run) -> None:
    class Stuck:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: Any) -> None:
            raise RuntimeError("stuck")

    lineage = FakeLineage()
    run.lineage = lineage
    with pytest.raises(RuntimeError, match="stuck"), active(run):
        run.resources.get("x", Stuck)
    assert lineage.ended == [True]  # the command fails too, so the record does not say otherwise


def test_what_was_called_last_is_remembered_by_recipe_and_label(run: Run) -> None:
    assert run.last_seen("scores base") is None
    run.remember("scores base", {"config": {"a": 1}})
    assert run.last_seen("scores base") == {"config": {"a": 1}}
    assert Run("other", run.runtime).last_seen("scores base") is None
