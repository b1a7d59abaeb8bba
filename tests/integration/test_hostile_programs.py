"""Programs that attack: none escapes, none leaves anything, and the next program runs as if nothing had been."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from infra.sandbox.cpp import CppConfig
from infra.sandbox.limits import MIB, Ending, Language, Limits, Program, SandboxError
from infra.sandbox.sandbox import Sandbox
from infra.sandbox.users import FIRST_USER, NUM_USERS
from tests.integration.attacked_host import SECRET, Host, attacked_host
from tests.integration.hostile_cpp import CPP
from tests.integration.hostile_python import PYTHON, Hostile

pytestmark = pytest.mark.integration
LIMITS = Limits(wall_s=2.0, cpu_s=1, memory_bytes=256 * MIB, output_bytes=MIB, file_bytes=4 * MIB, num_processes=16)
COMPILER = CppConfig(wall_s=20.0, cpu_s=5, memory_bytes=1024 * MIB)
CLEAN = """
import ctypes, os, socket
libc = ctypes.CDLL(None)
abstract = socket.socket(socket.AF_UNIX).connect_ex("\\0left") == 0
socket.socket().bind(("127.0.0.1", 8000))
print(os.listdir("/tmp"), os.listdir("/dev/shm"), libc.shmget(4711, 4096, 0), libc.semget(4712, 1, 0), abstract)
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_WORD", SECRET)
        sandbox = Sandbox(cpp=COMPILER, cache=tmp_path_factory.mktemp("compiled"))
        try:
            _ = sandbox.level
        except SandboxError as error:
            pytest.skip(str(error))
        yield sandbox
        sandbox.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with attacked_host(tmp_path_factory.mktemp("host")) as host:
        yield host


def programs_running() -> list[int]:
    """Processes below this one that a jail's user owns; a zygote is root or this user, so only programs count."""
    parents, owners = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents[int(folder.name)], owners[int(folder.name)] = int(fields[1]), folder.stat().st_uid
    ours = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return [process for process in ours if FIRST_USER <= owners.get(process, 0) < FIRST_USER + NUM_USERS]


def attack(sandbox: Sandbox, host: Host, row: Hostile, language: Language) -> None:
    found = sandbox.run(Program(host.aim(row.source), language), "", LIMITS)
    assert found.outcome in row.endings, found
    assert "ESCAPED" not in found.stdout, found.stdout
    assert SECRET not in found.stdout + found.stderr
    assert programs_running() == []
    assert host.marker.read_text(encoding="utf-8") == SECRET
    assert [path.name for path in host.folder.iterdir()] == ["marker"]
    after = sandbox.run(Program(CLEAN), "", LIMITS)
    assert (after.outcome, after.stdout) == (Ending.FINISHED, "[] [] -1 -1 False\n"), after


@pytest.mark.parametrize("row", PYTHON, ids=[row.name for row in PYTHON])
def test_hostile_python(sandbox: Sandbox, host: Host, row: Hostile) -> None:
    attack(sandbox, host, row, Language.PYTHON)


@pytest.mark.parametrize("row", CPP, ids=[row.name for row in CPP])
def test_hostile_cpp(sandbox: Sandbox, host: Host, row: Hostile) -> None:
    attack(sandbox, host, row, Language.CPP)


def test_slots_do_not_see_each_other(sandbox: Sandbox) -> None:
    keeper = f"open('/tmp/secret', 'w').write({SECRET!r})\nprint('kept', flush=True)\ninput()"
    thief = (
        "import os, socket\nfound = []\n"
        "for top in ('/tmp', '/dev/shm', '/proc'):\n"
        "  for folder, _, names in os.walk(top):\n"
        "    if 'secret' in names: found.append(folder)\n"
        "print(found, sorted(p for p in os.listdir('/proc') if p.isdigit()))"
    )
    with sandbox.open(Program(f"input()\n{keeper}"), LIMITS) as jail:
        assert jail.ask("", 2.0) == "kept"
        found = sandbox.run(Program(thief), "", LIMITS)
    assert found.stdout in {"[] ['1', '2']\n", "[] ['1', '2', '3', '4']\n"}, found


def test_machine_is_usable_afterwards(sandbox: Sandbox) -> None:
    found = [sandbox.run(Program("print(6 * 7)"), "", LIMITS) for _ in range(20)]
    assert {(done.outcome, done.stdout) for done in found} == {(Ending.FINISHED, "42\n")}
