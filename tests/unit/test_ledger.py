"""A raw row's history: every decision of a run about it, with its evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.ledger import Decision, RolloutUse, UnknownRowError, row_history
from infra.run import Run
from infra.store import Store
from tests.unit.traced_store import new_run, run_pipeline

# Of source `a`: 0 is empty, 1 is too small, 2 has a wrong label, 3 is always solved.
EMPTY, SMALL, WRONG, SOLVED = (f"a0000000{number}" for number in range(4))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("traced")
    run = new_run(folder)
    run_pipeline(run, folder)
    return run


def decisions(run: Run, row_id: str) -> dict[str, Decision]:
    return {decision.label: decision for decision in row_history(run.store, row_id).decisions}


def whats(run: Run, row_id: str) -> list[tuple[str, str]]:
    return [(label, decision.what) for label, decision in decisions(run, row_id).items()]


def test_a_row_is_followed_to_the_models_that_trained_on_it(run: Run) -> None:
    assert whats(run, WRONG) == [
        ("ingest a", "kept"), ("merge", "kept"), ("filter", "kept"), ("verify", "corrected"), ("samples", "kept"),
        ("sft", "used"), ("prompts grpo-1", "kept"), ("grpo-1", "used"),
    ]  # fmt: skip
    found = decisions(run, WRONG)
    assert (found["verify"].old, found["verify"].new, found["verify"].evidence) == ("2", "22", "3 of 4 say 22")
    assert found["samples"].num_rows == 2
    assert found["prompts grpo-1"].pass_rate == 0.25
    assert found["grpo-1"].rollouts == (RolloutUse(train_step=1, rewards=(1.0, None)),)


def test_a_dropped_row_ends_with_its_reason_and_evidence(run: Run) -> None:
    assert whats(run, SMALL) == [("ingest a", "kept"), ("merge", "kept"), ("filter", "dropped")]
    last = decisions(run, SMALL)["filter"]
    assert (last.reason, last.evidence, last.step) == ("too_small", "1 <= 1", "traced-filter")


def test_a_row_that_made_no_query_is_found_too(run: Run) -> None:
    assert whats(run, EMPTY) == [("ingest a", "dropped")]
    assert decisions(run, EMPTY)["ingest a"].evidence == "row 1"


def test_a_row_that_is_no_prompt_was_still_fine_tuned_on(run: Run) -> None:
    found = decisions(run, SOLVED)
    assert found["sft"].what == "used"
    assert (found["prompts grpo-1"].what, found["prompts grpo-1"].pass_rate) == ("dropped", 1.0)
    assert "grpo-1" not in found


def test_a_prompt_that_no_batch_held_is_told_so(run: Run) -> None:
    assert decisions(run, "made00000002")["grpo-1"].evidence == "among its prompts, but in no batch"


def test_it_says_where_the_row_came_from(run: Run) -> None:
    history = row_history(run.store, WRONG)
    assert (history.row_id, history.source, history.raw_file, history.run) == (WRONG, "a", "raw/a.txt", run.id)
    assert row_history(run.store, "made00000001").raw_file == "raw/made.txt"


def test_a_beginning_is_enough_where_it_is_of_one_row(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UnknownRowError, match="4 rows begin so: a00000000, a00000001"):
        row_history(run.store, "a0000")
    with pytest.raises(UnknownRowError, match="at least 4 characters"):
        row_history(run.store, "a")
    other = new_run(tmp_path)
    run_pipeline(other, tmp_path, text="a 2\na 23\n")
    assert row_history(other.store, "a0000002").row_id == "a00000023"
    assert row_history(other.store, "a00000002").row_id == WRONG


def test_another_run_is_asked_by_recipe_or_id(tmp_path: Path) -> None:
    first, second = new_run(tmp_path, "one"), new_run(tmp_path, "two")
    second.started = first.started + 1
    run_pipeline(first, tmp_path, lowest=1)
    run_pipeline(second, tmp_path, lowest=0)
    assert row_history(first.store, SMALL).run == second.id
    for asked in (row_history(first.store, SMALL, recipe="one"), row_history(first.store, SMALL, run_id=first.id)):
        assert asked.decisions[-1].what == "dropped"


def test_what_no_run_read_is_an_error(run: Run, local_store: Store) -> None:
    with pytest.raises(UnknownRowError, match="read no row with this id"):
        row_history(run.store, "ffff")
    with pytest.raises(UnknownRowError, match=r"the last ones: .* \(traced\)"):
        row_history(run.store, WRONG, recipe="other")
    with pytest.raises(UnknownRowError, match="none; run a recipe first"):
        row_history(local_store, WRONG)
