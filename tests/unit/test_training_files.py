"""Files that trainer and parent share: whole or absent, and readable after a kill."""

import pytest

from infra.runtime import TrainingRuntime
from tasks.training.hf_folder import replace_folder
from tasks.training.launch import trainer_command, trainer_environment
from tasks.training.progress_file import PROGRESS_FILE, append_progress, read_progress
from tasks.training.resume_points import ResumePoints


def test_a_step_done_twice_counts_once_and_a_cut_line_not_at_all(tmp_path):
    for step, loss in [(1, 3.0), (2, 2.0), (2, 2.5)]:
        append_progress(tmp_path, step, loss=loss)
    with (tmp_path / PROGRESS_FILE).open("a") as file:
        file.write('{"step": 3, "lo')
    assert read_progress(tmp_path) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}]


def test_progress_after_a_cut_line_is_not_lost(tmp_path):
    (tmp_path / PROGRESS_FILE).write_text('{"step": 1, "lo')
    append_progress(tmp_path, 1, loss=1.0)
    assert read_progress(tmp_path) == [{"step": 1, "loss": 1.0}]


def test_only_whole_resume_points_count_and_old_ones_go(tmp_path):
    points = ResumePoints(tmp_path, keep=2)
    assert points.newest() is None
    for step in (5, 10, 15):
        points.clear(step)
        (points.aside(step) / "weights").write_text(str(step))
        points.commit(step)
    points.clear(20)  # killed here
    newest = points.newest()
    assert newest is not None
    assert (newest.step, (newest.path / "weights").read_text()) == (15, "15")
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-000010", "step-000015"]


def test_a_resume_point_made_again_replaces_the_first(tmp_path):
    points = ResumePoints(tmp_path, keep=1)
    for content in ("first", "second"):
        points.clear(1)
        (points.aside(1) / "state").write_text(content)
        points.commit(1)
    newest = points.newest()
    assert newest is not None
    assert (newest.path / "state").read_text() == "second"


def test_a_folder_appears_whole_or_stays_as_it_was(tmp_path):
    folder = tmp_path / "weights"
    with replace_folder(folder) as aside:
        (aside / "a").write_text("1")

    def fail_midway():
        with replace_folder(folder) as aside:
            (aside / "b").write_text("2")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk"):
        fail_midway()
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_one_rank_is_a_plain_process_and_more_are_torchruns(tmp_path):
    one = trainer_command("tasks.sft.trainer", tmp_path / "s.json", TrainingRuntime())
    assert one[1:] == ["-m", "tasks.sft.trainer", str(tmp_path / "s.json")]
    two = trainer_command("tasks.sft.trainer", tmp_path / "s.json", TrainingRuntime(num_processes=2))
    assert two[2] == "torch.distributed.run"
    assert two[two.index("--nproc-per-node") + 1] == "2"


def test_ranks_have_fixed_threads_that_sleep_when_idle():
    environment = trainer_environment(TrainingRuntime(num_threads=1), port=1234)
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("1", "PASSIVE")
    assert (environment["WORLD_SIZE"], environment["MASTER_PORT"]) == ("1", "1234")
    assert "LOCAL_SIZE" not in environment
