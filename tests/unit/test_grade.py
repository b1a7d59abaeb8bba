"""Grading a file: rows by line and field, verdicts in the order of the input, and what an earlier run has graded."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.records import Outcome
from tasks.rewards.grade import GradeJob, Summary, check, finished, grade, identity_of
from tasks.rewards.grade_journal import FIELDS, Journal
from tasks.rewards.grade_rows import InputError, read_rows
from tasks.rewards.rewarder import Pair, RewardConfig, Rewarder, Scored

RIGHT = {"id": "a", "response": r"so \boxed{42}", "gold": "42"}
ROWS = [RIGHT, {"id": 2, "response": r"\boxed{43}", "gold": 42}, {"id": "c", "response": "none", "gold": ["41", "42"]}]


def lines(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def job_of(folder: Path, rows: Iterable[Any] = ROWS, domain: str = "math", output: str = "out.jsonl") -> GradeJob:
    return GradeJob(domain=domain, source=lines(folder / "in.jsonl", rows), output=folder / output)


def run(job: GradeJob, rewarder: Rewarder) -> Summary:
    return grade(job, rewarder, check(job))


@pytest.fixture
def rewarder() -> Iterator[Rewarder]:
    with Rewarder(RewardConfig()) as rewarder:
        yield rewarder


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_verdicts_come_in_the_order_of_the_rows(tmp_path: Path, rewarder: Rewarder) -> None:
    job = job_of(tmp_path)
    summary = run(job, rewarder)
    rows = read(job.output)
    assert [(row["id"], row["score"]) for row in rows] == [("a", 1.0), (2, 0.0), ("c", 0.0)]
    assert all(tuple(row) == FIELDS for row in rows)
    assert (summary.rows, summary.kept, summary.scored, summary.mean_score) == (3, 0, 3, pytest.approx(1 / 3))
    assert sum(summary.outcomes.values()) == 3
    assert not job.output.with_name("out.jsonl.journal").exists()


def test_several_golds_are_all_right(tmp_path: Path, rewarder: Rewarder) -> None:
    rows = [{"id": n, "response": rf"\boxed{{{n}}}", "gold": ["1", "2"]} for n in (1, 2, 3)]
    job = job_of(tmp_path, rows)
    run(job, rewarder)
    assert [row["score"] for row in read(job.output)] == [1.0, 1.0, 0.0]


def test_gold_that_cannot_be_used_is_the_rows_own_fault(tmp_path: Path, rewarder: Rewarder) -> None:
    job = job_of(tmp_path, [RIGHT | {"gold": []}, RIGHT | {"gold": ""}, RIGHT])
    summary = run(job, rewarder)
    assert [row["outcome"] for row in read(job.output)] == ["gold_unparseable", "gold_unparseable", "equal"]
    assert (summary.mean_score, summary.scored, summary.grader_faults) == (1.0, 1, 0)


@pytest.mark.parametrize(
    ("domain", "row", "told"),
    [("math", {"id": 1, "response": "x"}, "line 2: field gold: is missing"),
     ("math", {"response": "x", "gold": "1"}, "line 2: field id: is missing"),
     ("math", {"id": 1, "response": None, "gold": "1"}, "line 2: field response"),
     ("math", {"id": 1, "response": "x", "gold": True}, "line 2: field gold"),
     ("math", [1], "line 2: list, and a row is an object"),
     ("code", {"id": 1, "response": "x", "tests": "{"}, "line 2: field tests"),
     ("code", {"id": 1, "response": "x"}, "line 2: field tests: is missing"),
     ("instructions", {"id": 1, "response": "x", "prompt": "p", "instruction_id_list": ["a"], "kwargs": []},
      "line 2: .*0 for 1 instructions"),
     ("chat", {"id": 1, "response": "x", "messages": []}, "line 2: field messages"),
     ("chat", {"id": 1, "response": "x", "messages": [{"role": "robot", "content": ""}]}, "messages.0.role")],
)  # fmt: skip
def test_a_malformed_row_is_told_by_line_and_field(tmp_path: Path, domain: str, row: Any, told: str) -> None:
    good = {
        **RIGHT, "tests": {"kind": "assert"}, "prompt": "p", "instruction_id_list": [], "kwargs": [],
        "messages": [{"role": "user", "content": "Why?"}],
    }  # fmt: skip
    job = job_of(tmp_path, [good, row], domain)
    with pytest.raises(InputError, match=told):
        check(job)
    assert list(tmp_path.iterdir()) == [job.source]


def test_all_malformed_rows_are_told_at_once_but_not_thousands(tmp_path: Path) -> None:
    job = job_of(tmp_path, [{"id": n} for n in range(1_000)])
    with pytest.raises(InputError) as told:
        check(job)
    assert str(told.value).count("line ") == 5


@pytest.mark.parametrize("content", ["not json\n", '{"id": 1', "[" * 100_000])
def test_a_line_that_is_no_json_is_told(tmp_path: Path, content: str) -> None:
    job = job_of(tmp_path)
    job.source.write_text(json.dumps(RIGHT) + "\n\n" + content, encoding="utf-8")
    with pytest.raises(InputError, match="line 3: not JSON"):
        check(job)


def test_json_that_is_nested_too_deep_is_told(tmp_path: Path) -> None:
    row = RIGHT | {"tests": "[" * 100_000}
    with pytest.raises(InputError, match="line 1: field tests"):
        check(job_of(tmp_path, [row], "code"))


def test_files_that_cannot_be_are_told(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        check(job.model_copy(update={"source": tmp_path / "absent.jsonl"}))
    with pytest.raises(InputError, match="ends in"):
        check(job.model_copy(update={"output": tmp_path / "out.csv"}))
    with pytest.raises(InputError, match="is the input"):
        check(job.model_copy(update={"output": job.source}))
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check(job.model_copy(update={"output": tmp_path / "folder.jsonl"}))
    with pytest.raises(InputError, match="cannot be made"):
        check(job.model_copy(update={"output": job.source / "sub" / "out.jsonl"}))
    job.output.write_text("precious")
    with pytest.raises(InputError, match="name another output or delete it"):
        check(job)
    job.output.unlink()
    with pytest.raises(InputError, match="no rows"):
        check(job_of(tmp_path, [], output="new.jsonl"))
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="not a readable Parquet"):
        check(job.model_copy(update={"source": tmp_path / "x.parquet"}))


def test_parquet_in_and_out(tmp_path: Path, rewarder: Rewarder) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    columns = {"id": [1, 2], "response": [r"\boxed{1}", r"\boxed{3}"], "gold": [["1"], ["2", "3"]]}
    pq.write_table(pa.table(columns), source)
    run(GradeJob(domain="math", source=source, output=output), rewarder)
    table = pq.read_table(output)
    assert tuple(table.column_names) == FIELDS
    assert table.column("id").to_pylist() == ["1", "2"]
    assert table.column("score").to_pylist() == [1.0, 1.0]


def test_nested_columns_may_be_structs_or_json(tmp_path: Path) -> None:
    tests = {"kind": "assert", "asserts": ["assert f(1) == 2"]}
    structs = [tests | {"function": None}, {"kind": "call", "asserts": None, "function": "f"}]
    for name, column in (("structs", structs), ("text", [json.dumps(tests), json.dumps({"kind": "call"})])):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"id": ["a", "b"], "response": ["x", "y"], "tests": column}), path)
        first, second = read_rows(path, "code")
        assert first.query.tests == tests
        assert second.query.tests is not None
        assert "asserts" not in second.query.tests


def test_the_language_of_a_row_goes_with_its_tests(tmp_path: Path) -> None:
    path = lines(tmp_path / "c.jsonl", [{"id": 1, "response": "x", "language": "cpp", "tests": {"kind": "stdio"}}])
    (row,) = read_rows(path, "code")
    assert row.query.tests == {"kind": "stdio", "language": "cpp"}


def test_half_a_surrogate_pair_is_written(tmp_path: Path, rewarder: Rewarder) -> None:
    rows = [{"id": "\ud800", "response": "\\boxed{\udfff}", "gold": "1"}]
    for output in ("out.jsonl", "out.parquet"):
        run(job_of(tmp_path, rows, output=output), rewarder)
    assert read(tmp_path / "out.jsonl")[0]["id"] == "\ud800"
    assert pq.read_table(tmp_path / "out.parquet").column("id").to_pylist() == ["?"]


class Counting(Rewarder):
    """Counts what it is given, and ends as if killed after some rows."""

    def __init__(self, config: RewardConfig, stop_after: int = 1_000) -> None:
        super().__init__(config)
        self.given, self._stop_after = 0, stop_after

    def stream(self, pairs: Iterable[Pair]) -> Iterator[Scored]:
        for scored in super().stream(pairs):
            if self.given == self._stop_after:
                raise KeyboardInterrupt
            self.given += 1
            yield scored


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    job = job_of(tmp_path, [RIGHT | {"id": n} for n in range(40)])
    with Counting(RewardConfig(), stop_after=15) as first, pytest.raises(KeyboardInterrupt):
        run(job, first)
    assert not job.output.exists()
    with job.output.with_name("out.jsonl.journal").open("ab") as journal:
        journal.write(b'[39, {"id": 39, "outc')  # what a kill leaves
    with Counting(RewardConfig()) as second:
        summary = run(job, second)
    assert (second.given, summary.kept, summary.rows) == (25, 15, 40)
    assert [row["id"] for row in read(job.output)] == list(range(40))


@pytest.mark.parametrize("change", ["input", "rules"])
def test_another_input_or_rule_begins_anew(tmp_path: Path, change: str) -> None:
    job = job_of(tmp_path, [RIGHT | {"id": n} for n in range(40)])
    with Counting(RewardConfig(), stop_after=15) as first, pytest.raises(KeyboardInterrupt):
        run(job, first)
    config = RewardConfig()
    if change == "input":
        job = job_of(tmp_path, [RIGHT | {"id": n} for n in range(41)])
    else:
        config = config.model_copy(update={"math": config.math.model_copy(update={"max_answer_chars": 10})})
    with Counting(config) as second:
        assert run(job, second).kept == 0


def test_a_finished_output_is_known(tmp_path: Path, rewarder: Rewarder) -> None:
    job = job_of(tmp_path)
    identity = identity_of(job, rewarder.config)
    assert finished(job, identity) is None
    summary = run(job, rewarder)
    assert finished(job, identity) == summary.model_copy(update={"kept": 3})
    assert finished(job, "another") is None
    job.output.write_text("changed")
    assert finished(job, identity) is None


def test_only_faults_of_the_grader_are_graded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path, [RIGHT | {"id": n, "response": rf"{n} \boxed{{42}}"} for n in range(4)])
    with Counting(RewardConfig()) as broken:
        judge = broken._math.judge
        monkeypatch.setattr(broken._math, "judge", lambda gold, text: 1 / 0 if text[0] == "2" else judge(gold, text))
        summary = run(job, broken)
    assert summary.outcomes == {"equal": 3, "crash": 1}
    assert (summary.grader_faults, read(job.output)[2]["score"]) == (1, None)
    with Counting(RewardConfig()) as mended:
        summary = run(job, mended)
    assert (mended.given, summary.kept, summary.outcomes) == (1, 3, {"equal": 4})


def test_a_journal_holds_the_last_verdict_of_a_row(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.jsonl", "x", 1) as journal:
        for outcome in (Outcome.CRASH, Outcome.EQUAL):
            journal.put(0, dict.fromkeys(FIELDS) | {"outcome": str(outcome)})
        assert [row["outcome"] for row in journal.rows()] == ["equal"]
    with Journal(tmp_path / "out.jsonl", "x", 1) as again:
        assert 0 in again


def test_two_commands_do_not_grade_into_one_output(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.jsonl", "x", 1), pytest.raises(InputError, match="another command"):
        Journal(tmp_path / "out.jsonl", "x", 1)
    with Journal(tmp_path / "out.jsonl", "x", 1):
        pass


@pytest.mark.parametrize("line", [[7, {}], [-1, {}], ["0", {}], [0, {"outcome": "equal"}], [0], {"a": 1}, 3])
def test_a_line_of_another_version_is_not_kept(tmp_path: Path, line: Any) -> None:
    with Journal(tmp_path / "out.jsonl", "x", 1) as journal:
        journal._file.write(json.dumps(line).encode() + b"\n")
    with Journal(tmp_path / "out.jsonl", "x", 1) as again:
        assert (again.num_kept, 0 in again) == (0, False)


def test_rows_that_something_else_wrote_are_no_output(tmp_path: Path) -> None:
    row = dict.fromkeys(FIELDS) | {"outcome": "equal"}
    with Journal(tmp_path / "out.jsonl", "x", 2) as journal:
        journal.put(0, row)
        journal._places[1] = journal._places[0]
        with pytest.raises(InputError, match="something else wrote"):
            list(journal.rows())


@pytest.mark.parametrize("note", ["[]", "{}", '{"identity": "x", "digest": "y"}', None])
def test_a_note_of_another_version_is_ignored(tmp_path: Path, rewarder: Rewarder, note: str | None) -> None:
    job = job_of(tmp_path)
    run(job, rewarder)
    path = job.output.with_name("out.jsonl.graded.json")
    content = json.loads(path.read_text()) | {"summary": {"rows": 3, "former": 1}}
    path.write_text(json.dumps(content) if note is None else note)
    assert finished(job, identity_of(job, rewarder.config)) is None
    assert check(job) == 3
