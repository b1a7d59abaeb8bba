"""What work cost, a row at a time, and what the store saved: by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.costs import cost_card, costs_of, costs_table, find_run
from flows.report import cost_table, run_cost, step_lines
from infra.artifacts import Dataset
from infra.config import ConfigError
from infra.costs import step_cost, total_cost
from infra.output import Cost
from infra.run import RunRecord, StepRecord


def record(phase: str, step: str, rows: int, cached: bool, seconds: float, cost: Cost) -> StepRecord:
    artifact = Dataset(name=step, digest="d", uri="u", rows=rows)
    return StepRecord(
        label=step, phase=phase, step=step, artifact=artifact, cached=cached, seconds=seconds, rows_out=rows, cost=cost
    )


ASK = Cost(seconds=40.0, prompt_tokens=1000, completion_tokens=3000, usd=2.0, cache_hits=5)
RECORDS = (
    record("verify", "collect-answers", rows=100, cached=True, seconds=0.5, cost=ASK),
    record("synthesize", "select-samples", rows=50, cached=False, seconds=11.0, cost=Cost(seconds=10.0, usd=1.0)),
    record("sft", "train-sft", rows=0, cached=True, seconds=0.25, cost=Cost(seconds=90.25)),
)
RUN = RunRecord(id="20260101-000000-abc", recipe="small", state="finished", started=1.0, steps=RECORDS)


def test_a_cached_step_saves_what_its_making_cost_less_the_look_up() -> None:
    cost = step_cost(RECORDS[0])
    assert (cost.seconds_to_make, cost.usd, cost.prompt_tokens, cost.completion_tokens) == (40.0, 2.0, 1000, 3000)
    assert (cost.seconds_per_row, cost.usd_per_row, cost.row_cache_hits) == (0.4, 0.02, 5)
    assert (cost.saved_s, cost.saved_usd) == (39.5, 2.0)


def test_a_step_that_was_made_saves_nothing_and_one_without_rows_has_no_price_a_row() -> None:
    assert (step_cost(RECORDS[1]).saved_s, step_cost(RECORDS[1]).saved_usd) == (0.0, 0.0)
    assert (step_cost(RECORDS[2]).seconds_per_row, step_cost(RECORDS[2]).usd_per_row) == (None, None)


def test_a_look_up_that_took_longer_than_the_making_saves_no_negative_time() -> None:
    slow = record("sft", "init-model", rows=0, cached=True, seconds=3.0, cost=Cost(seconds=1.0))
    assert step_cost(slow).saved_s == 0.0


def test_a_run_sums_what_it_spent_and_saved_and_prices_a_training_row() -> None:
    """Curation is the first two steps: 50 s and 3 USD for the 50 rows of the last."""
    cost = run_cost(RECORDS)
    assert cost.spent == Cost(seconds=11.75, usd=1.0)
    assert cost.saved == Cost(seconds=129.5, prompt_tokens=1000, completion_tokens=3000, usd=2.0, cache_hits=5)
    assert cost.made == Cost(seconds=140.25, prompt_tokens=1000, completion_tokens=3000, usd=3.0, cache_hits=5)
    assert (cost.training_rows, cost.seconds_per_training_row, cost.usd_per_training_row) == (50, 1.0, 0.06)


def test_a_run_that_curated_nothing_has_no_price_a_row() -> None:
    cost = run_cost(RECORDS[2:])
    assert (cost.training_rows, cost.seconds_per_training_row, cost.usd_per_training_row) == (0, None, None)
    assert run_cost(()).spent == total_cost(()) == Cost()


def test_each_step_line_carries_its_cost() -> None:
    (line, *_) = step_lines(RECORDS)
    assert (line.label, line.state, line.seconds, line.saved_s) == ("collect-answers", "cached", 0.5, 39.5)


def shown(*tables: object) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    for table in tables:
        console.print(table)
    return console.export_text()


def test_tables_and_card_tell_the_same_numbers() -> None:
    costs = costs_of(RUN)
    text, card = shown(costs_table(costs), cost_table(costs.cost)), cost_card(costs)
    for number in ("129.5", "140.2", "1,000", "3,000", "39.5", "2.0000"):
        assert number in text
        assert number in card
    assert "curation of 50 training rows: 1 s and 0.06 USD a row that was kept" in text
    assert card.startswith("# Cost of run 20260101-000000-abc\n\n|  | seconds |")
    assert "| collect-answers | cached | 100 | 40.0 | 0.4 | 2.0000 | 0.02 |" in card


def test_a_run_is_found_by_the_start_of_its_id() -> None:
    older = RUN.model_copy(update={"id": "20250101-000000-abc"})
    assert find_run([older, RUN], None) == RUN
    assert find_run([older, RUN], "2025") == older
    with pytest.raises(ConfigError, match="2 runs begin with 20: 20250101-000000-abc, 20260101-000000-abc; give more"):
        find_run([older, RUN], "20")
    with pytest.raises(ConfigError, match="no run `x` in the store; the newest are: 20250101"):
        find_run([older, RUN], "x")
    with pytest.raises(ConfigError, match="run a recipe first"):
        find_run([], None)
