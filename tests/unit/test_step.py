"""The step's contract, without Prefect: identity, hits, publication, conservation, planning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Checkpoint, Dataset, Report, Score
from infra.config import Config
from infra.output import ConservationError, Output
from infra.phase import phase
from infra.run import PlannedStep, Run, StepRecord, active
from infra.runtime import Runtime, TrainingRuntime
from infra.step import Step, StepError, explain_change, step
from infra.store import NondeterminismError

CALLS: list[str] = []


class Item(Config):
    id: str
    source: str = "s"


class CountConfig(Config):
    num_rows: int = 4
    word: str = "x"


class Nested(Config):
    count: CountConfig = CountConfig()


@step(version=1, produces=Dataset)
def count_up(config: CountConfig, out: Output) -> None:
    CALLS.append("count-up")
    for number in range(config.num_rows):
        out.keep(Item(id=str(number)))


@step(version=1, produces=Dataset, conserves="queries")
def keep_even(queries: Dataset, config: CountConfig, out: Output, runtime: Runtime) -> None:
    CALLS.append(f"keep-even on {runtime.training.num_processes}")
    for row in out.rows(queries, Item):
        out.keep(row) if int(row.id) % 2 == 0 else out.drop(row, "odd", row.id)


@step(version=1, produces=Dataset, conserves="queries")
def lose_one(queries: Dataset, out: Output) -> None:
    for row in list(out.rows(queries, Item))[1:]:
        out.keep(row)


@step(version=1, produces=Dataset)
def ingest_badly(config: CountConfig, out: Output) -> None:
    out.rows_in = config.num_rows + 1
    for number in range(config.num_rows):
        out.keep(Item(id=str(number)))


@step(version=1, produces=Dataset)
def merge_all(parts: tuple[Dataset, ...], out: Output) -> None:
    for part in parts:
        for row in out.rows(part, Item):
            out.keep(row)


@step(version=1, produces=Report)
def score(checkpoint: Checkpoint | None, queries: Dataset, out: Output) -> None:
    out.summarize(scores={"math": Score(mean=0.5, low=0.4, high=0.6, k=2, n=3)})


@step(version=1, produces=Dataset)
def break_once(config: CountConfig, out: Output) -> None:
    half = out.scratch / "half-done"
    if not half.exists():
        half.write_text("1")
        raise RuntimeError("broken in the middle")
    out.keep(Item(id=half.read_text()))


@step(version=1, produces=Dataset)
def draw(config: CountConfig, out: Output) -> None:
    CALLS.append("draw")
    out.keep(Item(id=str(len(CALLS))))


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path)


def new_run(tmp_path: Path, **fields: Any) -> Run:
    return Run("recipe", Runtime(store=str(tmp_path / "store"), **fields))


def execute(run: Run, step: Step[Any], *args: Any, label: str = "", **kwargs: Any) -> StepRecord:
    return step.execute(run, step._bind(args, kwargs, label or step.name))


# Hits and identity


def test_the_second_call_is_a_hit_with_the_same_digest(run: Run, tmp_path: Path) -> None:
    first = execute(run, count_up, config=CountConfig())
    second = execute(new_run(tmp_path), count_up, config=CountConfig())
    assert (first.cached, second.cached) == (False, True)
    assert second.artifact == first.artifact
    assert CALLS == ["count-up"]
    assert isinstance(first.artifact, Dataset)
    assert first.artifact.rows == 4


def test_a_changed_config_is_a_miss(run: Run) -> None:
    execute(run, count_up, config=CountConfig())
    assert not execute(run, count_up, config=CountConfig(num_rows=5)).cached


def test_the_label_is_no_part_of_the_identity_and_names_the_reference(run: Run) -> None:
    first = execute(run, count_up, config=CountConfig(), label="first use")
    second = execute(run, count_up, config=CountConfig(), label="second use")
    assert second.cached
    assert second.artifact.digest == first.artifact.digest
    assert (first.artifact.name, second.artifact.name) == ("first use", "second use")


def test_where_a_step_runs_is_no_part_of_its_identity(run: Run, tmp_path: Path) -> None:
    queries = execute(run, count_up, config=CountConfig()).artifact
    execute(run, keep_even, queries, config=CountConfig())
    elsewhere = new_run(tmp_path, training=TrainingRuntime(num_processes=7), scratch=str(tmp_path / "elsewhere"))
    assert execute(elsewhere, keep_even, queries, config=CountConfig()).cached
    assert CALLS == ["count-up", "keep-even on 1"]


def test_inputs_count_by_content_not_by_who_made_them(run: Run) -> None:
    """A config field that changes no byte does not make the steps after it run again."""
    first = execute(run, count_up, config=CountConfig(word="x")).artifact
    second = execute(run, count_up, config=CountConfig(word="y")).artifact
    assert first.fingerprint != second.fingerprint
    execute(run, merge_all, (first,))
    assert execute(run, merge_all, (second,)).cached


def test_an_input_that_is_not_given_is_another_identity(run: Run) -> None:
    queries = execute(run, count_up, config=CountConfig()).artifact
    policy = Checkpoint(name="m", digest="d", uri="u", step="s", fingerprint="f")
    assert not execute(run, score, None, queries).cached
    assert not execute(run, score, policy, queries).cached
    assert execute(run, score, None, queries).cached


def test_an_argument_that_would_be_no_part_of_the_identity_is_refused() -> None:
    with pytest.raises(StepError, match="merge-all: `parts` would be no part of its identity; make it a field of conf"):
        merge_all._bind(("not an artifact",), {}, "merge")


def test_a_version_bump_is_a_miss(run: Run) -> None:
    execute(run, draw, config=CountConfig())
    bumped = Step(draw.inner, Dataset, version=2, conserves=None, sampled=False, retries=0)
    assert not execute(run, bumped, config=CountConfig()).cached
    assert execute(run, draw, config=CountConfig()).cached


def test_two_steps_of_one_name_in_two_modules_are_refused() -> None:
    def count_up() -> None: ...

    count_up.__module__ = "tasks.elsewhere"
    with pytest.raises(StepError, match=r"step count-up of tasks\.elsewhere has the name of one of .*rename it"):
        step(version=1, produces=Dataset)(count_up)


def test_conserving_what_is_no_parameter_is_refused() -> None:
    with pytest.raises(StepError, match="conserves `rows`, which is not one of its parameters"):
        step(version=1, produces=Dataset, conserves="rows")(lambda queries: None)


# Publication


def test_the_record_tells_rows_funnel_and_parents(run: Run) -> None:
    queries = execute(run, count_up, config=CountConfig()).artifact
    record = execute(run, keep_even, queries, config=CountConfig())
    assert (record.rows_in, record.rows_out) == (4, 2)
    assert record.funnel == {"s": {"kept": 2, "odd": 2}}
    assert record.artifact.parents == (queries.digest,)
    manifest = run.store.manifest(record.artifact)
    assert manifest.parents["queries"][0].fingerprint == queries.fingerprint
    assert manifest.config == {"num_rows": 4, "word": "x"}
    assert run.records == [run.records[0], record]


def test_manifests_do_not_depend_on_the_place(tmp_path: Path) -> None:
    contents = []
    for place in ("a", "b"):
        run = new_run(tmp_path / place)
        artifact = execute(run, count_up, config=CountConfig()).artifact
        contents.append(Path(artifact.uri).read_bytes())
    assert contents[0] == contents[1]
    assert str(tmp_path).encode() not in contents[0]


def test_a_store_on_s3_holds_the_same_manifest(tmp_path: Path, s3_options: dict[str, str]) -> None:
    place = f"s3://posttrain/{tmp_path.name}"
    remote = Run("recipe", Runtime(store=place, storage_options=s3_options, scratch=str(tmp_path / "s3/scratch")))
    local = new_run(tmp_path)
    made = [execute(run, count_up, config=CountConfig()).artifact for run in (local, remote)]
    contents = [run.store._fs.cat_file(artifact.uri) for run, artifact in zip((local, remote), made, strict=True)]
    assert contents[0] == contents[1]
    assert execute(remote, count_up, config=CountConfig()).cached
    assert len(list(remote.store.rows(made[1], Item))) == 4


def test_a_hit_keeps_the_card_and_the_cost_of_the_making(run: Run) -> None:
    made = execute(run, count_up, config=CountConfig())
    hit = execute(run, count_up, config=CountConfig())
    assert made.cost.seconds > 0
    assert hit.cost == made.cost


def test_a_lost_row_publishes_nothing(run: Run) -> None:
    queries = execute(run, count_up, config=CountConfig()).artifact
    with pytest.raises(ConservationError, match="lose-one: 4 in, but 3 kept"):
        execute(run, lose_one, queries)
    assert [manifest.step for manifest in run.store.manifests()] == ["count-up"]


def test_a_step_that_counts_raw_rows_is_checked_too(run: Run) -> None:
    with pytest.raises(ConservationError, match="ingest-badly: 5 in, but 4 kept"):
        execute(run, ingest_badly, config=CountConfig())


def test_scratch_outlives_a_failure_and_goes_with_success(run: Run) -> None:
    with pytest.raises(RuntimeError, match="broken in the middle"):
        execute(run, break_once, config=CountConfig())
    assert list(run.store.manifests()) == []
    record = execute(run, break_once, config=CountConfig())
    assert [row.id for row in run.store.rows(record.artifact, Item)] == ["1"]
    assert [path.suffix for path in run.runtime.scratch_folder.iterdir()] == [".lock"]


def test_a_step_that_gives_other_bytes_is_told_so(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.store.find_whole = lambda *_: None  # type: ignore[method-assign]
    execute(run, draw, config=CountConfig())
    with pytest.raises(NondeterminismError, match=r"step draw .* declare it sampled"):
        execute(run, draw, config=CountConfig())


def test_a_sampled_step_adopts_what_was_published_first(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.store.find_whole = lambda *_: None  # type: ignore[method-assign]
    sampled = Step(draw.inner, Dataset, version=3, conserves=None, sampled=True, retries=0)
    first = execute(run, sampled, config=CountConfig())
    assert execute(run, sampled, config=CountConfig()).artifact == first.artifact
    assert CALLS == ["draw", "draw"]


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"torn")])
def test_lost_or_torn_bytes_are_made_again(run: Run, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    first = execute(run, count_up, config=CountConfig())
    (file,) = run.store.manifest(first.artifact).files
    harm(run.store.local_file(file))
    again = new_run(tmp_path)
    second = execute(again, count_up, config=CountConfig())
    assert not second.cached
    assert second.artifact == first.artifact
    assert len(list(again.store.rows(second.artifact, Item))) == 4


def test_a_step_outside_of_a_flow_is_refused() -> None:
    with pytest.raises(StepError, match=r"count-up was called outside of a flow; .*`\.inner`"):
        count_up(config=CountConfig())


# Planning


@phase
def chain(config: CountConfig) -> Dataset:
    return keep_even(count_up(config=config, label="numbers"), config=config)


def plan(tmp_path: Path, config: CountConfig) -> list[PlannedStep]:
    run = Run("recipe", Runtime(store=str(tmp_path / "store")), planning=True)
    with active(run):
        chain(config)
    return run.planned


def make(tmp_path: Path, config: CountConfig) -> None:
    run = new_run(tmp_path)
    queries = execute(run, count_up, config=config, label="numbers").artifact
    execute(run, keep_even, queries, config=config)


def test_a_plan_of_what_was_never_run(tmp_path: Path) -> None:
    first, second = plan(tmp_path, CountConfig())
    assert (first.label, first.phase, first.step) == ("numbers", "chain", "count-up")
    assert (first.state, first.why) == ("miss", "never run under this recipe's name")
    assert (second.state, second.why) == ("waits", "waits for numbers")
    assert CALLS == []
    assert not (tmp_path / "store" / "manifests").exists()


def test_a_plan_of_what_is_there(tmp_path: Path) -> None:
    make(tmp_path, CountConfig())
    assert [line.state for line in plan(tmp_path, CountConfig())] == ["hit", "hit"]


def test_a_plan_names_the_changed_field(tmp_path: Path) -> None:
    make(tmp_path, CountConfig())
    first, second = plan(tmp_path, CountConfig(num_rows=5))
    assert (first.state, first.why) == ("miss", "config.num_rows: 4 → 5")
    assert second.state == "waits"


def test_a_plan_names_the_changed_input(tmp_path: Path) -> None:
    make(tmp_path, CountConfig())
    run = new_run(tmp_path)
    execute(run, count_up, config=CountConfig(num_rows=5), label="numbers")
    planned = Run("recipe", run.runtime, planning=True)
    with active(planned):
        keep_even(count_up(config=CountConfig(num_rows=5), label="numbers"), config=CountConfig())
    assert [(line.state, line.why) for line in planned.planned] == [("hit", ""), ("miss", "input queries changed")]


def test_a_plan_says_when_only_the_artifact_is_gone(tmp_path: Path) -> None:
    make(tmp_path, CountConfig())
    for path in (tmp_path / "store/blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    assert plan(tmp_path, CountConfig())[0].why == "unchanged, but the artifact is not in the store"


def test_changes_are_told_by_dotted_field_three_at_most() -> None:
    before = {"version": 1, "config": {"a": {"b": 1, "c": [1]}, "d": "x", "e": None}, "inputs": {"q": ["1"]}}
    after = {"version": 2, "config": {"a": {"b": 2, "c": [1, 2]}, "d": "x", "f": True}, "inputs": {"q": ["2"]}}
    assert explain_change(before, after) == (
        "config.a.b: 1 → 2; config.a.c: [1] → [1,2]; config.f: null → true; and 2 more"
    )
