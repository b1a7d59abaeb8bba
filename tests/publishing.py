"""What holds of a store however its writers end, for a folder and for every S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from infra.artifacts import Manifest
from infra.fingerprint import file_digest
from infra.store import Store
from tests.publisher import STEP, Job, Publisher, fingerprint_of


def fresh_job(base: str, folder: Path, options: Mapping[str, Any], **fields: Any) -> Job:
    """A job for an empty store below `base`, a folder or an S3 prefix."""
    name = uuid.uuid4().hex[:12]
    return Job(uri=f"{base}/{name}", local=str(folder / name), options=dict(options), **fields)


def every_kill(publisher: Publisher, job: Job, stride: int = 1) -> Iterator[Job]:
    """The job in a store of its own for each call that its writer can be killed in, after that kill."""
    for kill_at in count(1, stride):
        killed = replace(job, uri=f"{job.uri}-{kill_at}", local=f"{job.local}-{kill_at}", kill_at=kill_at)
        (result,) = publisher.run(killed)
        if not result.was_killed:
            assert result.exit_code == 0
            return
        yield killed


def check_every_kill(publisher: Publisher, job: Job, stride: int = 1) -> int:
    """No kill leaves anything that reads as an artifact and is none, nor anything that a new writer stumbles over."""
    job = replace(job, rounds=1)
    (undisturbed,) = publisher.run(job)
    num_kills = 0
    for killed in every_kill(publisher, job, stride):
        num_kills += 1
        assert_all_readable_is_whole(killed)
        (again,) = publisher.run(replace(killed, kill_at=None))
        assert again.digests == undisturbed.digests, f"killed in call {killed.kill_at}"
        assert find(killed) is not None
        assert_all_readable_is_whole(killed)
    return num_kills


def reader(job: Job) -> Store:
    """The job's store as a process sees it that has read nothing yet."""
    return Store(job.uri, Path(job.local) / f"reader-{uuid.uuid4().hex[:8]}", job.options)


def find(job: Job) -> Manifest | None:
    """The artifact of the first round."""
    return reader(job).find(STEP, fingerprint_of(0))


def assert_all_readable_is_whole(job: Job) -> None:
    """Every manifest has all its files with the right bytes, and whatever has a blob's name holds that blob."""
    store = reader(job)
    for manifest in store.manifests():
        assert store.is_whole(manifest), f"half an artifact after a kill in call {job.kill_at}"
        for file in manifest.files:
            assert file_digest(store.local_file(file)) == file.sha256
    for name in store.notes("blobs/*"):
        sha256 = name.rsplit("/", 1)[-1]
        if not sha256.endswith(".tmp"):
            content = Path(job.local) / "blob"
            content.write_bytes(store.read_note(name) or b"")
            assert file_digest(content) == sha256, f"torn bytes after a kill in call {job.kill_at}"


def check_race(publisher: Publisher, job: Job) -> None:
    """Two writers of the same bytes both end well, and one manifest stands in each round."""
    first, second = publisher.run(job, job)
    assert first.digests == second.digests
    assert len(set(first.digests)) == job.rounds
    assert {manifest.digest for manifest in reader(job).manifests()} == set(first.digests)


def check_race_of_others(publisher: Publisher, job: Job) -> None:
    """Of two writers of other bytes one publishes and the other is refused, in each round."""
    first, second = publisher.run(job, replace(job, contents=("other",)))
    assert (len(first.digests), len(second.digests)) == (second.refusals, first.refusals)
    assert first.refusals + second.refusals == job.rounds
    assert {manifest.digest for manifest in reader(job).manifests()} == {*first.digests, *second.digests}


def check_race_of_samples(publisher: Publisher, job: Job) -> None:
    """Of two writers whose sampling differs one publishes and the other adopts that, in each round."""
    sampled = replace(job, sampled=True)
    first, second = publisher.run(sampled, replace(sampled, contents=("other",)))
    assert first.digests == second.digests
    assert len(set(first.digests)) == job.rounds
