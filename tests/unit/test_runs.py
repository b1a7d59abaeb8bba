"""Run records of several processes are read as one run; locks of scratch folders tell who works there."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.artifacts import Dataset, Raw
from infra.output import Cost
from infra.run import RUNS, Run, RunRecord, StepRecord, active, in_phase, read_run, read_runs, require_run
from infra.runtime import Runtime
from infra.step import scratch_locks
from infra.store import Store, StoreError


def step(label: str, at: float) -> StepRecord:
    artifact = Dataset(name=label, digest="d" * 64, uri="u", step=label, fingerprint="f" * 64)
    return StepRecord(
        label=label, phase="p", step=label, artifact=artifact, cached=False, seconds=1.0, cost=Cost(), at=at
    )


def write(store: Store, id_: str, part: str, state: str = "finished", started: float = 1.0, **fields: Any) -> None:
    record = RunRecord.model_validate({"id": id_, "recipe": "smoke", "state": state, "started": started} | fields)
    store.note(f"{RUNS}/{id_}/{part}.json", record.model_dump_json().encode())


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(store=str(tmp_path / "store"))


# Records


def test_a_store_without_runs_has_none(any_store: Store) -> None:
    assert read_runs(any_store) == []


def test_runs_come_oldest_first(any_store: Store) -> None:
    for id_, started in (("c", 1.0), ("a", 3.0), ("d", 2.0), ("b", 2.0)):
        write(any_store, id_, "all", started=started)
    assert [run.id for run in read_runs(any_store)] == ["c", "b", "d", "a"]


def test_parts_of_a_run_are_joined_with_steps_in_the_order_of_their_end(local_store: Store) -> None:
    write(local_store, "r", "post-train", started=1.0, steps=(step("ingest", 2.0), step("propose", 9.0)))
    write(local_store, "r", "grpo-1", started=5.0, steps=(step("grpo-1", 8.0),))
    write(local_store, "r", "sft-1", started=3.0, steps=(step("train-sft", 4.0),))
    (run,) = read_runs(local_store)
    assert [each.label for each in run.steps] == ["ingest", "train-sft", "grpo-1", "propose"]
    assert (run.id, run.started, run.state) == ("r", 1.0, "finished")


@pytest.mark.parametrize(
    ("states", "joined"),
    [
        (["finished", "finished"], "finished"),
        (["running", "finished"], "running"),
        (["finished", "failed"], "failed"),
        (["running", "failed"], "failed"),
    ],
)
def test_a_run_goes_on_while_one_part_does_and_fails_with_one(
    local_store: Store, states: list[str], joined: str
) -> None:
    for number, state in enumerate(states):
        write(local_store, "r", f"part-{number}", state)
    assert [run.state for run in read_runs(local_store)] == [joined]


def test_the_reason_is_that_of_the_part_that_gives_one(local_store: Store) -> None:
    write(local_store, "r", "a", "running")
    write(local_store, "r", "b", "failed", reason="no disk")
    assert [run.reason for run in read_runs(local_store)] == ["no disk"]


def test_other_files_of_a_run_are_no_records(any_store: Store) -> None:
    write(any_store, "r", "all")
    any_store.note(f"{RUNS}/r/report.json", b'{"scores": []}')
    any_store.note(f"{RUNS}/r/lineage.html", b"<html>")
    assert [run.id for run in read_runs(any_store)] == ["r"]


@pytest.mark.parametrize("content", [b"{bad", b"", b"[]"])
def test_a_record_that_cannot_be_read_is_named_with_the_remedy(any_store: Store, content: bytes) -> None:
    write(any_store, "a", "all")
    any_store.note(f"{RUNS}/X/all.json", content)
    for read in (lambda: read_runs(any_store), lambda: read_run(any_store, "X")):
        with pytest.raises(StoreError, match=r"runs/by-id/X/all\.json: not a run's record; delete it"):
            read()
    assert read_run(any_store, "a") is not None


# The active run


def test_a_run_says_what_it_was_given_until_its_end(runtime: Runtime) -> None:
    run = Run("smoke", runtime, part="sft-1")
    given = step("samples", 1.0).artifact
    with active(run):
        run.note_inputs([given, given, Raw(name="raw", digest="d", uri="")])
        assert read_one(run).inputs == (f"samples/{'f' * 64}",)
    write(run.store, run.id, "other", inputs=("a/b", "c/d"))
    assert set(read_one(run).inputs) == {f"samples/{'f' * 64}", "a/b", "c/d"}


@pytest.mark.parametrize("content", [b"{bad", b"[]"])
def test_a_remembered_call_that_cannot_be_read_is_named(runtime: Runtime, content: bytes) -> None:
    run = Run("smoke", runtime)
    run.store.note("runs/last/smoke/queries.json", content)
    with pytest.raises(StoreError, match=r"runs/last/smoke/queries\.json: not a call's identity; delete it"):
        run.last_seen("queries")


def read_one(run: Run) -> RunRecord:
    (record,) = read_runs(run.store)
    return record


def test_a_run_says_running_until_it_has_finished(runtime: Runtime) -> None:
    run = Run("smoke", runtime)
    with active(run):
        assert require_run() is run
        run.add(step("ingest", 2.0))
        assert read_one(run).state == "running"
    record = read_one(run)
    assert (record.state, record.reason, record.recipe) == ("finished", "", "smoke")
    with pytest.raises(RuntimeError, match="no run is active"):
        require_run()


def test_a_run_that_fails_says_why(runtime: Runtime) -> None:
    run = Run("smoke", runtime, part="sft-1")

    def work() -> None:
        run.add(step("ingest", 2.0))
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"), active(run):
        work()
    record = read_one(run)
    assert (record.state, record.reason) == ("failed", "OSError: no disk")


def test_a_run_with_a_reason_has_failed_without_an_error(runtime: Runtime) -> None:
    run = Run("smoke", runtime)
    with active(run):
        run.add(step("ingest", 2.0))
        run.reason = "a person refused"
    assert read_one(run).state == "failed"


def test_a_run_is_known_from_its_begin_and_without_steps(runtime: Runtime) -> None:
    run = Run("smoke", runtime)
    with active(run):
        assert read_one(run).state == "running"
    assert read_one(run) == RunRecord(id=run.id, recipe="smoke", state="finished", started=run.started)


def test_a_plan_leaves_no_record(runtime: Runtime) -> None:
    run = Run("smoke", runtime, planning=True)
    with active(run):
        pass
    assert read_runs(run.store) == []


def test_lineage_is_ended_also_when_the_run_fails(runtime: Runtime) -> None:
    class FakeLineage:
        ended: list[bool] = []

        def record(self, *_: object) -> None: ...
        def show(self, *_: object) -> None: ...
        def end(self, failed: bool) -> None:
            self.ended.append(failed)

    for error in (None, KeyError("x")):
        run = Run("smoke", runtime)
        run.lineage = FakeLineage()
        try:
            with active(run):
                if error:
                    raise error
        except KeyError:
            pass
    assert FakeLineage.ended == [False, True]


def end_by(run: Run, error: BaseException | None) -> None:
    with active(run):
        if error:
            raise error


@pytest.mark.parametrize("ended_by", [ValueError("the step"), KeyboardInterrupt(), None])
def test_what_fails_at_the_end_hides_nothing_and_stops_nothing(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, ended_by: BaseException | None
) -> None:
    """A pool that does not close: the run's own failure is told, and record and lineage are ended all the same."""
    ended: list[bool] = []
    run = Run("smoke", runtime)
    run.lineage = SimpleNamespace(end=ended.append)  # type: ignore[assignment]
    monkeypatch.setattr(run.resources, "close", lambda: (_ for _ in ()).throw(OSError("a pool that does not close")))
    with pytest.raises(type(ended_by) if ended_by else OSError):
        end_by(run, ended_by)
    record = read_one(run)
    assert record.state == "failed"
    assert record.reason.startswith(type(ended_by).__name__ if ended_by else "OSError: a pool that does not close")
    assert ended == [True]


def test_phases_inside_phases(runtime: Runtime) -> None:
    run = Run("smoke", runtime)
    with in_phase(run, "recurate"):
        with in_phase(run, "verify"):
            assert run.phase == "verify"
        assert run.phase == "recurate"
    assert run.phase == ""


# Locks


HOLDER = """
import sys, time
from pathlib import Path
from infra.step import _locked
with _locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_held_lock_names_its_process_and_is_free_once_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "scratch" / "train-sft-0123"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        (lock,) = scratch_locks(folder.parent)
        assert (lock.folder, lock.holder) == (folder, holder.pid)
        assert 0 <= lock.age_s < 60
    finally:
        holder.kill()
        holder.wait()
    assert list(scratch_locks(folder.parent)) == []  # the lock file stays, but there is nothing in its folder


def test_a_folder_that_nobody_works_in_was_left_behind(tmp_path: Path) -> None:
    (tmp_path / "train-sft-0123").mkdir()
    lock_file = tmp_path / "train-sft-0123.lock"
    lock_file.write_text("4711")
    os.utime(lock_file, (time.time() - 7200,) * 2)
    (tmp_path / "done-4567.lock").write_text("4711")
    (lock,) = scratch_locks(tmp_path)
    assert (lock.folder.name, lock.holder) == ("train-sft-0123", None)
    assert 7200 <= lock.age_s < 7300


def test_looking_at_a_lock_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a.lock").touch()
    list(scratch_locks(tmp_path))
    with (tmp_path / "a.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (lock,) = scratch_locks(tmp_path)
    assert lock.holder == 0  # taken, and its holder has not yet written who it is


def test_no_scratch_no_locks(tmp_path: Path) -> None:
    assert list(scratch_locks(tmp_path / "nowhere")) == []
