"""Locks and descriptors that cannot be had: the sandbox fails, leaves nothing open, and works again afterwards."""

import fcntl
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.sandbox import users
from infra.sandbox.limits import Ending, Level, Limits, Program, SandboxError
from infra.sandbox.local import LocalJails
from infra.sandbox.order import Order
from infra.sandbox.sandbox import Sandbox
from infra.sandbox.users import FIRST_USER, leased_user, lock_folder


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(users, "_RUN", folder)
    return folder


def test_locks_lie_in_a_folder_of_ours_alone(run_folder: Path) -> None:
    assert lock_folder() == run_folder / "posttrain-jails"
    assert lock_folder().stat().st_mode & 0o777 == 0o700
    with leased_user(True) as first, leased_user(True) as second:
        assert FIRST_USER <= (first or 0) < (second or 0)


def test_locks_are_the_same_for_every_folder_of_temporary_files(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with leased_user(True) as first:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with leased_user(True) as second:
            assert first != second


def test_folder_of_locks_that_others_may_enter_is_refused(run_folder: Path) -> None:
    (run_folder / "posttrain-jails").mkdir()
    (run_folder / "posttrain-jails").chmod(0o755)
    with pytest.raises(SandboxError, match="not a folder of ours alone"), leased_user(True):
        pass


def test_link_in_place_of_the_folder_of_locks_is_refused(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    (run_folder / "posttrain-jails").symlink_to(tmp_path / "mine")
    with pytest.raises(SandboxError, match="not a folder of ours alone"), leased_user(True):
        pass


def test_lock_that_is_a_link_is_refused(run_folder: Path, tmp_path: Path) -> None:
    (lock_folder() / f"{FIRST_USER}.lock").symlink_to(tmp_path / "planted")
    with pytest.raises(SandboxError, match="no lock for a jail's user"), leased_user(True):
        pass
    assert not (tmp_path / "planted").exists()


def test_without_run_the_locks_lie_with_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_RUN", tmp_path / "missing")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert lock_folder() == tmp_path / "posttrain-jails"


def test_locks_that_a_file_system_refuses_are_the_sandbox_s_failure(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = num_open()
    with pytest.raises(SandboxError, match="no locks available"), leased_user(True):
        pass
    assert num_open() == before


# Descriptors


def num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Those that are free below the limit are taken, so that exactly `number` are left.
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    for descriptor in taken[50 - number :]:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken[: 50 - number]:
            os.close(descriptor)


@pytest.fixture(params=[True, False], ids=["warm", "cold"])
def jails(request: pytest.FixtureRequest) -> Iterator[LocalJails]:
    found = shutil.which("bwrap")
    if found is None:
        pytest.skip("bubblewrap is not installed")
    jails = LocalJails(Level.BUBBLEWRAP, Path(found), request.param)
    try:
        with jails.jail(Order(b""), Limits()) as jail:
            jail.feed("")
    except SandboxError as error:
        pytest.skip(str(error))
    yield jails
    jails.close()


def test_without_descriptors_a_jail_fails_and_leaves_none_open(jails: LocalJails) -> None:
    before = num_open()
    for number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12):
        with descriptors_left(number):
            try:
                with jails.jail(Order(b"print(1)"), Limits()) as jail:
                    assert jail.feed("").stdout == "1\n"
            except SandboxError:
                pass
        assert num_open() <= before
    with jails.jail(Order(b"print(2)"), Limits()) as jail:
        assert jail.feed("").stdout == "2\n"


def test_without_descriptors_a_sandbox_says_that_it_failed(jails: LocalJails, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox()
    monkeypatch.setattr(sandbox, "_found", jails)
    with descriptors_left(0):
        found = sandbox.run(Program("print(1)"), "", Limits())
    assert found.outcome is Ending.SANDBOX_FAILURE
    assert sandbox.run(Program("print(1)"), "", Limits()).stdout == "1\n"
