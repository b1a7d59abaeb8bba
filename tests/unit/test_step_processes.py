"""Real processes that race for one step, and real kills in the middle of one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.store import Store

# Each process runs this program: `store scratch role`, with the role deciding what happens inside of the step.
PROGRAM = '''
import json, os, signal, sys, time
from pathlib import Path
from infra.artifacts import Dataset
from infra.config import Config
from infra.output import Output
from infra.run import Run
from infra.runtime import Runtime
from infra.step import step
from infra.store import Store

store, scratch, role = sys.argv[1:]
meeting = Path(scratch).parent / "meeting"


class Item(Config):
    id: str
    source: str = "s"


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def meet():
    """Wait until two processes are inside of the step, so that both really publish."""
    meeting.mkdir(exist_ok=True)
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < 2:
        time.sleep(0.01)


def work(out):
    cache = out.cache("llm")
    for number in range(4):
        if cache.get(str(number)) is None:
            if role == "killed in the step" and number == 2:
                kill()
            cache.put(str(number), number)
        out.keep(Item(id=str(number)))
    out.spend(cache_hits=cache.hits)


@step(version=1, produces=Dataset)
def repeat(out: Output) -> None:
    if role == "meets":
        meet()
    work(out)


@step(version=1, produces=Dataset, sampled=True)
def sample(out: Output) -> None:
    meet()
    out.keep(Item(id=str(os.getpid())))


if role == "killed before the manifest":
    Store.publish = kill
run = Run("race", Runtime(store=store, scratch=scratch))
chosen = sample if role == "samples" else repeat
record = chosen.execute(run, chosen._bind((), {}, "label"))
print(json.dumps({"cached": record.cached, "digest": record.artifact.digest, "hits": record.cost.cache_hits}))
'''


def start(tmp_path: Path, scratch: str, role: str) -> subprocess.Popen[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    (tmp_path / scratch).mkdir(exist_ok=True)
    command = [sys.executable, str(program), str(tmp_path / "store"), str(tmp_path / scratch), role]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    record: dict[str, Any] = json.loads(output)
    return record


def killed(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL


def published(tmp_path: Path) -> list[str]:
    store = Store(str(tmp_path / "store"), local=tmp_path / "local")
    return [manifest.digest for manifest in store.manifests()]


def test_of_two_processes_on_one_machine_one_makes_and_one_waits(tmp_path: Path) -> None:
    records = [told(process) for process in [start(tmp_path, "scratch", "repeats") for _ in range(2)]]
    assert sorted(record["cached"] for record in records) == [False, True]
    assert {record["digest"] for record in records} == set(published(tmp_path))
    assert len(published(tmp_path)) == 1


@pytest.mark.parametrize("role", ["meets", "samples"])
def test_of_two_machines_that_both_made_it_one_publishes_and_one_adopts(tmp_path: Path, role: str) -> None:
    """Two scratch folders stand for two machines: no lock is shared, only the store."""
    processes = [start(tmp_path, scratch, role) for scratch in ("machine-a", "machine-b")]
    records = [told(process) for process in processes]
    assert [record["cached"] for record in records] == [False, False]
    assert len(published(tmp_path)) == 1
    assert {record["digest"] for record in records} == set(published(tmp_path))


def test_killed_in_the_step_it_goes_on_from_its_finished_rows(tmp_path: Path) -> None:
    killed(start(tmp_path, "scratch", "killed in the step"))
    assert published(tmp_path) == []
    record = told(start(tmp_path, "scratch", "repeats"))
    assert (record["cached"], record["hits"]) == (False, 2)


def test_killed_between_bytes_and_manifest_nothing_half_made_can_be_read(tmp_path: Path) -> None:
    killed(start(tmp_path, "scratch", "killed before the manifest"))
    assert any(path.is_file() for path in (tmp_path / "store/blobs").rglob("*"))
    assert published(tmp_path) == []
    record = told(start(tmp_path, "scratch", "repeats"))
    assert not record["cached"]
    assert published(tmp_path) == [record["digest"]]
