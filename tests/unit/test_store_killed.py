"""Writers that are killed in any system call, and writers that race.

On S3, where each writer opens a client of its own, the kills are in tests/integration/test_s3.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import publisher as publishers
from tests import publishing
from tests.publisher import Job, Publisher


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    with publishers.publisher() as opened:
        yield opened


@pytest.fixture
def folder_job(tmp_path: Path) -> Job:
    """A writer to an empty folder."""
    return publishing.fresh_job(str(tmp_path / "store"), tmp_path / "local", {}, rounds=50)


@pytest.fixture(params=["folder", "s3"])
def job(request: pytest.FixtureRequest, folder_job: Job, tmp_path: Path) -> Job:
    """A writer to an empty store, once in a folder and once on S3."""
    if request.param == "folder":
        return folder_job
    options = request.getfixturevalue("s3_options")
    return publishing.fresh_job("s3://posttrain", tmp_path / "local", options, rounds=4)


def test_no_kill_leaves_half_an_artifact(publisher: Publisher, folder_job: Job) -> None:
    num_kills = publishing.check_every_kill(publisher, folder_job)
    assert num_kills >= 20, f"only {num_kills} calls were seen: are they counted?"


def test_two_writers_of_the_same_publish_once(publisher: Publisher, job: Job) -> None:
    publishing.check_race(publisher, job)


def test_of_two_writers_of_other_bytes_one_is_refused(publisher: Publisher, job: Job) -> None:
    publishing.check_race_of_others(publisher, job)


def test_of_two_samplers_one_adopts_what_the_other_published(publisher: Publisher, job: Job) -> None:
    publishing.check_race_of_samples(publisher, job)
