"""Real children: nothing of a tree survives a stop, the command's end, or our own SIGKILL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import infra.process
from infra.process import ChildProcess, end_process, free_port, port_is_free

ENV = {"PATH": os.defpath}
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
# Starts a grandchild that leaves the process group and ignores SIGTERM, as an engine core or a rank may.
STUBBORN_TREE = f"""
import signal, subprocess, sys, time
grandchild = {DEAF!r}
child = subprocess.Popen([sys.executable, "-c", grandchild], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print("grandchild", child.pid, flush=True)
{{then}}
"""


def _stubborn(then: str = "time.sleep(600)") -> list[str]:
    return [sys.executable, "-c", STUBBORN_TREE.format(then=then)]


def _eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _grandchild(log: Path) -> int:
    assert _eventually(lambda: log.exists() and "grandchild" in log.read_text())
    return int(log.read_text().split("grandchild")[1].split()[0])


def test_the_exit_code_and_the_log_of_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"]
    with ChildProcess(command, name="short", log=tmp_path / "logs" / "short.log", env=ENV) as child:
        assert child.wait(20) == 7
        assert not child.running
        assert sorted(child.tail().splitlines()) == ["err", "out"]


def test_tail_gives_the_last_lines_of_a_long_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('\\n'.join(f'line {i}' for i in range(100_000)))"]
    with ChildProcess(command, name="chatty", log=tmp_path / "log", env=ENV) as child:
        child.wait(20)
        assert child.tail(2) == "line 99998\nline 99999"


def test_the_child_sees_only_the_given_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOT_GIVEN", "1")
    command = [sys.executable, "-c", "import os; print('NOT_GIVEN' in os.environ, os.environ['GIVEN'])"]
    with ChildProcess(command, name="env", log=tmp_path / "log", env={**ENV, "GIVEN": "yes"}) as child:
        child.wait(20)
        assert child.tail() == "False yes"


def test_stop_kills_a_grandchild_that_left_the_group_and_ignores_sigterm(tmp_path: Path) -> None:
    child = ChildProcess(_stubborn(), name="tree", log=tmp_path / "log", env=ENV)
    grandchild = _grandchild(child.log)
    assert child.stop(grace_s=5) == 128 + signal.SIGTERM
    assert not _alive(grandchild)
    assert child.stop() == 128 + signal.SIGTERM  # a second stop is harmless


def test_stop_lets_a_command_clean_up_within_its_grace(tmp_path: Path) -> None:
    script = """
import signal, sys, time
def end(*_):
    print("cleaned", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
    child = ChildProcess([sys.executable, "-c", script], name="polite", log=tmp_path / "log", env=ENV)
    assert _eventually(lambda: "ready" in child.tail())
    assert child.stop(grace_s=20) == 0
    assert child.tail() == "ready\ncleaned"


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    child = ChildProcess([sys.executable, "-c", DEAF], name="deaf", log=tmp_path / "log", env=ENV)
    assert _eventually(lambda: "up" in child.tail())
    assert child.stop(grace_s=0.2) == 128 + signal.SIGKILL


def test_a_commands_own_end_takes_its_grandchildren_along(tmp_path: Path) -> None:
    child = ChildProcess(_stubborn(then="sys.exit(3)"), name="tree", log=tmp_path / "log", env=ENV)
    assert child.wait(20) == 3
    assert not _alive(_grandchild(child.log))


def test_wait_names_the_process_and_leaves_it_running(tmp_path: Path) -> None:
    with ChildProcess(
        [sys.executable, "-c", "import time; time.sleep(600)"], name="slow", log=tmp_path / "log", env=ENV
    ) as child:
        with pytest.raises(TimeoutError, match=r"slow still runs after 0\.1 s"):
            child.wait(0.1)
        assert child.running


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="server: no program `no-such-program`"):
        ChildProcess(["no-such-program"], name="server", log=tmp_path / "log", env=ENV)


@pytest.mark.parametrize("fork_holds_the_pipe", [False, True])
def test_our_own_sigkill_kills_the_whole_tree(tmp_path: Path, fork_holds_the_pipe: bool) -> None:
    """The parent is a process of its own; a fork of it that lives on and holds the pipe open must not matter."""
    log = tmp_path / "log"
    holder = tmp_path / "holder"
    script = f"""
import os, sys, time
from pathlib import Path
from infra.process import ChildProcess
child = ChildProcess({_stubborn()!r}, name="tree", log=Path({str(log)!r}), env={ENV!r})
if {fork_holds_the_pipe}:
    pid = os.fork()
    if pid:
        Path({str(holder)!r}).write_text(str(pid))
time.sleep(600)
"""
    root = Path(infra.process.__file__).parents[1]
    parent = subprocess.Popen([sys.executable, "-c", script], env={**ENV, "PYTHONPATH": str(root)})
    try:
        grandchild = _grandchild(log)
        assert not fork_holds_the_pipe or _eventually(holder.exists)
        assert _alive(grandchild)
    finally:
        parent.kill()
        parent.wait()
    assert _eventually(lambda: not _alive(grandchild))
    if fork_holds_the_pipe:
        os.kill(int(holder.read_text()), signal.SIGKILL)


def test_a_free_port_is_free_until_taken() -> None:
    port = free_port()
    assert port_is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free(port)


def test_a_strangers_process_is_gone_when_it_is_said_to_be() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert end_process(stranger.pid, 30.0)
    assert stranger.wait() == -signal.SIGTERM
    assert end_process(stranger.pid, 0.0)


def test_a_process_that_does_not_go_is_told() -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        assert not end_process(stubborn.pid, 0.2)
        stubborn.kill()
