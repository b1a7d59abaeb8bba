"""Real small services: started in order, started again when they end, and all gone when the keeper is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import infra.stack.keeper
from infra.process import free_port
from infra.stack.keeper import (
    Keeper,
    StackError,
    StackState,
    answers,
    is_kept,
    plan_path,
    state_path,
    take_lock,
)
from infra.stack.plan import Plan, Service

ROOT = Path(infra.stack.keeper.__file__).parents[2]
# Says in a journal when it begins and when it ends in order.
STAYS = """
import os, signal, sys, time
name, journal = sys.argv[1:]
def note(what):
    with open(journal, "a") as file:
        file.write(f"{name} {what} {os.getpid()}\\n")
def end(*_):
    note("ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("began")
time.sleep(600)
"""
ENDS = "import sys; print('the disk is full', flush=True); sys.exit(3)"
# Ends by itself the first time it is started, and stays the second time.
ENDS_ONCE = f"""
import os, sys
lived = sys.argv[2] + ".lived"
if not os.path.exists(lived):
    open(lived, "w").close()
    print("first life")
    sys.exit(3)
{STAYS}"""


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.stack.keeper, "POLL_S", 0.05)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "stack"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def web(home: Path, name: str = "web", port: int | None = None) -> Service:
    port = port or free_port()
    home.mkdir(exist_ok=True)
    command = (sys.executable, "-S", "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(home))
    return Service(name=name, command=command, env={}, health=f"http://127.0.0.1:{port}/")


def script(name: str, text: str, *arguments: object) -> Service:
    return Service(name=name, command=(sys.executable, "-S", "-c", text, *map(str, arguments)), env={})


def stays(name: str, journal: Path) -> Service:
    return script(name, STAYS, name, journal)


def plan_of(home: Path, servers: list[Service], setup: list[Service] | None = None, workers: Any = ()) -> Plan:
    url = "http://127.0.0.1:1"
    return Plan(
        home=home,
        prefect_url=url,
        mlflow_url=url,
        servers=tuple(servers),
        setup=tuple(setup or ()),
        workers=tuple(workers),
    )


class Kept:
    """A keeper in a thread."""

    def __init__(self, plan: Plan) -> None:
        plan.home.mkdir(parents=True, exist_ok=True)
        self.keeper = Keeper(plan)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    def _keep(self) -> None:
        try:
            self.keeper.keep()
        except (StackError, OSError) as error:
            self.error = error

    def wait(self, timeout_s: float = 30.0) -> None:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        self.keeper.stopping = True
        self.wait()


@contextmanager
def kept(plan: Plan) -> Iterator[Kept]:
    keeping = Kept(plan)
    try:
        yield keeping
    finally:
        keeping.stop()


def state_of(home: Path) -> StackState | None:
    path = state_path(home)
    return StackState.model_validate_json(path.read_text()) if path.exists() else None


def is_up(home: Path) -> bool:
    state = state_of(home)
    return state is not None and state.state == "up"


def eventually(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def lines(journal: Path) -> list[list[str]]:
    return [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []


def events(journal: Path) -> list[str]:
    return [" ".join(line[:2]) for line in lines(journal)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# A stack that comes up


def test_servers_then_setup_then_workers(home: Path, journal: Path) -> None:
    server = web(home)
    asks = f"import sys, urllib.request\nurllib.request.urlopen({server.health!r})\n"
    tells = asks + "open(sys.argv[2], 'a').write(f'{sys.argv[1]} done\\n')"
    setup = [script(name, tells, name, journal) for name in ("setup-1", "setup-2")]
    with kept(plan_of(home, [server], setup, [stays("worker", journal)])):
        assert eventually(lambda: len(events(journal)) == 3)
        assert events(journal) == ["setup-1 done", "setup-2 done", "worker began"]
        assert eventually(lambda: is_up(home))
        state = state_of(home)
        assert state is not None
        assert (state.pid, state.error) == (os.getpid(), "")
        assert [(each.name, each.state, each.starts) for each in state.services] == [
            ("web", "up", 1),
            ("worker", "up", 1),
        ]
        assert server.health is not None
        assert answers(server.health)
    assert not answers(server.health)
    assert (home / "logs" / "web.log").exists()
    assert events(journal)[-1] == "worker ended"


def test_a_services_environment_is_ours_and_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    tell = "import os; print(os.environ['OURS'], os.environ['ITS'], os.environ['DO_NOT_TRACK'])"
    command = script("tell", tell).model_copy(update={"env": {"ITS": "2"}})
    with kept(plan_of(home, [], [command])):
        assert eventually(lambda: is_up(home))
    assert (home / "logs" / "tell.log").read_text() == "1 2 1\n"


def test_a_service_that_ends_is_started_again_and_its_last_words_are_kept(home: Path, journal: Path) -> None:
    worker = script("worker", ENDS_ONCE, "worker", journal)
    with kept(plan_of(home, [], workers=[worker, stays("other", journal)])):
        assert eventually(lambda: "worker began" in events(journal))
        assert eventually(lambda: _service(home, "worker") == ("up", 2))
        assert _service(home, "other") == ("up", 1)
    assert (home / "logs" / "worker.before.log").read_text() == "first life\n"
    assert (home / "logs" / "worker.log").read_text() == ""


def _service(home: Path, name: str) -> tuple[str, int]:
    state = state_of(home)
    assert state is not None
    return next((each.state, each.starts) for each in state.services if each.name == name)


def test_a_server_that_is_killed_answers_again(home: Path) -> None:
    server = web(home)
    assert server.health is not None
    with kept(plan_of(home, [server])):
        assert eventually(lambda: is_up(home))
        state = state_of(home)
        assert state is not None
        assert state.services[0].pid is not None
        os.kill(state.services[0].pid, signal.SIGKILL)
        assert eventually(lambda: _service(home, "web")[0] == "ended")
        assert eventually(lambda: answers(server.health or ""))
        assert eventually(lambda: _service(home, "web") == ("up", 2))


def test_the_waits_before_a_new_start_double_up_to_a_minute(home: Path) -> None:
    service = script("worker", ENDS)
    keeper = Keeper(plan_of(home, [], workers=[service]))
    waits = []
    for starts in (1, 2, 3, 7, 8, 100, 2000):
        keeper._starts["worker"] = starts
        waits.append(keeper._backoff_s(service))
    assert waits == [1.0, 2.0, 4.0, 60.0, 60.0, 60.0, 60.0]


# A stack that does not come up


def test_a_server_that_ends_at_start_is_told_with_the_end_of_its_log_and_takes_all_down(
    home: Path, journal: Path
) -> None:
    keeping = Kept(plan_of(home, [stays("first", journal), _unhealthy(ENDS)], workers=[stays("worker", journal)]))
    keeping.wait()
    assert isinstance(keeping.error, StackError)
    assert str(keeping.error).startswith("second ended at start; mend what its log says:\nthe disk is full\n")
    assert f"{home}/logs/second.log" in str(keeping.error)
    assert events(journal) in (["first began", "first ended"], [])  # it may have been quicker than the first's start
    assert all(not alive(int(line[2])) for line in lines(journal))


def _unhealthy(text: str, *arguments: object) -> Service:
    return script("second", text, *arguments).model_copy(update={"health": f"http://127.0.0.1:{free_port()}/"})


def test_a_server_that_never_answers_is_told(home: Path, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.stack.keeper, "START_TIMEOUT_S", 0.5)
    keeping = Kept(plan_of(home, [_unhealthy(STAYS, "second", journal)]))
    keeping.wait()
    assert "second did not answer in 0 s" in str(keeping.error)
    assert all(not alive(int(line[2])) for line in lines(journal))


def test_a_failed_command_of_the_setup_takes_all_down(home: Path, journal: Path) -> None:
    setup = [script("setup-1", ENDS), script("setup-2", STAYS, "setup-2", journal)]
    keeping = Kept(plan_of(home, [web(home)], setup, [stays("worker", journal)]))
    keeping.wait()
    assert str(keeping.error).startswith("setup-1 failed; mend what its log says:\nthe disk is full\n")
    assert events(journal) == []
    state = state_of(home)
    assert state is not None
    assert [(each.name, each.state) for each in state.services] == [("web", "up"), ("worker", "waiting")]
    assert state.state == "stopping"
    assert not alive(state.services[0].pid or 0)


def test_a_program_that_is_not_there_is_told(home: Path) -> None:
    missing = Service(name="worker", command=("no-such-program",), env={})
    keeping = Kept(plan_of(home, [], workers=[missing]))
    keeping.wait()
    assert "worker: no program `no-such-program`; install it" in str(keeping.error)


def test_a_stop_while_a_server_starts_starts_nothing_more(home: Path, journal: Path) -> None:
    setup = [script("setup", STAYS, "setup", journal)]
    server = _unhealthy(STAYS, "server", journal)
    with kept(plan_of(home, [server], setup, [stays("worker", journal)])) as keeping:
        assert eventually(lambda: events(journal) == ["server began"])
        keeping.stop()
    assert keeping.error is None
    assert events(journal) == ["server began", "server ended"]


def test_a_stop_within_the_setup_ends_it(home: Path, journal: Path) -> None:
    setup = [script("setup", STAYS, "setup", journal)]
    with kept(plan_of(home, [], setup, [stays("worker", journal)])) as keeping:
        assert eventually(lambda: events(journal) == ["setup began"])
        keeping.stop()
    assert keeping.error is None
    assert events(journal) == ["setup began", "setup ended"]


# The keeper's process


@contextmanager
def process(plan: Plan) -> Iterator[subprocess.Popen[bytes]]:
    plan.home.mkdir(parents=True, exist_ok=True)
    plan_path(plan.home).write_text(plan.model_dump_json())
    lock = take_lock(plan.home)
    assert lock is not None
    with lock:  # handed over, as `up` does
        fd = lock.fileno()
        command = [sys.executable, "-m", "infra.stack.keeper", str(plan.home), str(fd)]
        keeper = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(fd,))
    try:
        yield keeper
    finally:
        keeper.kill()
        keeper.wait()


def lock_is_free(home: Path) -> bool:
    return not is_kept(home)


def test_sigterm_ends_workers_then_servers_and_frees_the_lock(home: Path, journal: Path) -> None:
    plan = plan_of(home, [web(home), stays("server", journal)], workers=[stays("worker", journal)])
    with process(plan) as keeper:
        assert eventually(lambda: is_up(home) and len(events(journal)) == 2)
        assert not lock_is_free(home)
        state = state_of(home)
        assert state is not None
        assert state.pid == keeper.pid
        assert take_lock(home) is None  # so no second keeper can begin
        keeper.send_signal(signal.SIGTERM)
        assert keeper.wait(30) == 0
    assert events(journal)[2:] == ["worker ended", "server ended"]
    assert not state_path(home).exists()
    assert lock_is_free(home)


def test_sigkill_of_the_keeper_ends_every_service_and_frees_the_lock(home: Path, journal: Path) -> None:
    server = web(home)
    with process(plan_of(home, [server], workers=[stays("worker", journal)])) as keeper:
        assert eventually(lambda: is_up(home) and bool(events(journal)))
        keeper.kill()
        keeper.wait()
        assert eventually(lambda: lock_is_free(home), 5)
        worker = int(lines(journal)[0][2])
        assert eventually(lambda: not alive(worker))
        assert eventually(lambda: not answers(server.health or ""))
    assert is_up(home)  # nobody was left to say otherwise: the lock is what tells


def test_a_failed_start_leaves_one_clear_error_and_nothing_else(home: Path, journal: Path) -> None:
    with process(plan_of(home, [stays("first", journal), _unhealthy(ENDS)])) as keeper:
        assert keeper.wait(30) == 1
        assert keeper.stderr is not None
        assert keeper.stderr.read() == b""
    state = state_of(home)
    assert state is not None
    assert state.state == "failed"
    assert state.error.startswith("second ended at start; mend what its log says:\nthe disk is full")
    assert [each.state for each in state.services] == ["ended", "ended"]
    assert all(not alive(int(line[2])) for line in lines(journal))
    assert lock_is_free(home)


# A full disk, and who answers


def test_only_a_200_is_an_answer(home: Path) -> None:
    server = web(home)
    assert server.health is not None
    assert not answers(server.health)
    with kept(plan_of(home, [server])):
        assert eventually(lambda: answers(server.health or ""))
        assert not answers(f"{server.health}no-such-page")


def test_a_full_disk_ends_nothing_and_hides_no_end(
    home: Path, journal: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with kept(plan_of(home, [], workers=[stays("worker", journal)])) as keeping:
        assert eventually(lambda: events(journal) == ["worker began"])
        monkeypatch.setattr("infra.stack.keeper.write_json", full)
        keeping.stop()
    assert keeping.error is None
    assert events(journal) == ["worker began", "worker ended"]
    assert "cannot tell that the stack is stopping: [Errno 28]" in capsys.readouterr().err
