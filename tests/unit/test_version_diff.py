"""What changed between two data versions: hand-made counts, reasons from the ledgers, a card that text cannot break."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.artifacts import Artifact, Dataset
from infra.config import Config, ConfigError
from infra.output import Output
from infra.run import Run
from infra.step import step
from infra.version_diff import DroppedRow, RelabelledRow, diff_card, diff_versions
from tests.unit.traced_store import call, new_run, run_pipeline


class Told(Config):
    id: str
    source: str
    answer: str | None
    note: str = ""


class ToldConfig(Config):
    rows: tuple[Told, ...]


@step(version=1, produces=Dataset)
def told_rows(config: ToldConfig, out: Output) -> None:
    for row in config.rows:
        out.keep(row)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("traced")
    run = new_run(folder)
    run_pipeline(run, folder)
    return run


@pytest.fixture
def made(run: Run) -> Mapping[str, Artifact]:
    return {record.label: record.artifact for record in run.records}


def told(run: Run, *rows: Told) -> Artifact:
    artifact: Artifact = call(run, told_rows, config=ToldConfig(rows=rows), label="told")
    return artifact


def test_drops_have_the_reason_of_the_ledger_and_labels_are_told(run: Run, made: Mapping[str, Artifact]) -> None:
    diff = diff_versions(run.store, made["merge"], made["prompts grpo-1"])
    assert (diff.a.rows, diff.b.rows, diff.num_added, diff.num_dropped, diff.num_relabelled) == (5, 2, 0, 3, 2)
    assert {(row.row_id, row.reason, row.step) for row in diff.dropped} == {
        ("a00000001", "too_small", "traced-filter"),
        ("made00000001", "too_small", "traced-filter"),
        ("a00000003", "always_solved", "traced-prompts"),
    }
    assert RelabelledRow(row_id="a00000002", source="a", old="2", new="22") in diff.relabelled
    a = diff.sources["a"]
    assert (a.before, a.added, a.dropped, a.relabelled, a.after) == (3, 0, {"always_solved": 1, "too_small": 1}, 1, 1)


def test_a_grown_source_adds_rows(run: Run, made: Mapping[str, Artifact], tmp_path: Path) -> None:
    grown = run_pipeline(Run("traced", run.runtime), tmp_path, text="a 1\na 2\na 3\na 4\na 5\n")
    diff = diff_versions(run.store, made["verify"], grown["verify"])
    assert {row.row_id for row in diff.added} == {"a00000004", "a00000005"}
    assert (diff.num_dropped, diff.num_relabelled, diff.edited) == (0, 0, {})


def test_a_row_that_no_input_holds_any_more_has_no_step(run: Run) -> None:
    before, after = told(run, Told(id="x", source="s", answer="1")), told(run, Told(id="y", source="s", answer="1"))
    diff = diff_versions(run.store, before, after)
    reason = DroppedRow(row_id="x", source="s", step="", reason="not among the inputs", evidence="")
    assert diff.dropped == (reason,)


def test_a_label_that_appears_or_goes_is_a_change_and_null_equals_null(run: Run) -> None:
    rows = [Told(id=i, source="s", answer=a) for i, a in (("new", None), ("gone", "1"), ("none", None), ("same", "1"))]
    after = [Told(id=i, source="s", answer=a) for i, a in (("same", "1"), ("none", None), ("gone", None), ("new", "2"))]
    diff = diff_versions(run.store, told(run, *rows), told(run, *after))
    assert {(row.row_id, row.old, row.new) for row in diff.relabelled} == {("new", None, "2"), ("gone", "1", None)}
    assert diff.edited == {}


def test_other_columns_that_differ_are_counted(run: Run) -> None:
    one = told(run, Told(id="x", source="s", answer="1"), Told(id="y", source="s", answer="1"))
    other = told(run, Told(id="x", source="s", answer="1", note="n"), Told(id="y", source="s", answer="1"))
    diff = diff_versions(run.store, one, other)
    assert diff.edited == {"note": 1}
    assert not diff.is_empty
    assert "note in 1 rows" in diff_card(diff)


def test_samples_leave_for_the_reason_of_their_row(run: Run, made: Mapping[str, Artifact], tmp_path: Path) -> None:
    strict = run_pipeline(Run("traced", run.runtime), tmp_path, text="a 2\na 3\na 4\n", lowest=2)
    diff = diff_versions(run.store, made["samples"], strict["samples"])
    assert {(row.row_id, row.reason) for row in diff.dropped} >= {
        ("a00000002/0", "too_small"),
        ("a00000002/1", "too_small"),
    }


def test_equal_versions_and_empty_ones(run: Run, made: Mapping[str, Artifact]) -> None:
    same = diff_versions(run.store, made["merge"], made["merge"])
    assert same.is_empty
    assert "Nothing changed" in diff_card(same)
    empty = told(run)
    assert diff_versions(run.store, empty, made["merge"]).num_added == 5
    assert diff_versions(run.store, made["merge"], empty).num_dropped == 5
    assert diff_versions(run.store, empty, empty).is_empty


def test_lists_are_short_and_counts_are_whole(run: Run, made: Mapping[str, Artifact]) -> None:
    diff = diff_versions(run.store, told(run), made["merge"], max_rows=2)
    assert (len(diff.added), diff.num_added) == (2, 5)


def test_only_data_versions_are_compared(run: Run, made: Mapping[str, Artifact]) -> None:
    with pytest.raises(ConfigError, match="sft is a checkpoint; diff compares two data versions"):
        diff_versions(run.store, made["sft"], made["merge"])


def test_text_cannot_break_out_of_the_card(run: Run) -> None:
    one, other = (told(run, Told(id="x", source="s|s", answer=answer)) for answer in ("1", "| 2\n# title"))
    card = diff_card(diff_versions(run.store, one, other))
    assert "| x | s\\|s | 1 | \\| 2 # title |" in card
