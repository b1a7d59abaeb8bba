"""Warm jails: one zygote forks program after program, and a broken one is replaced."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.sandbox.limits import MIB, Ending, Execution, Level, Limits, Program, SandboxError
from infra.sandbox.local import LocalJails
from infra.sandbox.order import Order
from infra.sandbox.sandbox import Sandbox

LIMITS = Limits(wall_s=5.0, cpu_s=2, memory_bytes=256 * MIB, output_bytes=MIB, file_bytes=MIB, num_processes=8)
BUBBLEWRAP = shutil.which("bwrap")


@pytest.fixture
def jails() -> Iterator[LocalJails]:
    if BUBBLEWRAP is None:
        pytest.skip("bubblewrap is not installed")
    jails = LocalJails(Level.BUBBLEWRAP, Path(BUBBLEWRAP))
    try:
        run(jails, "")
    except SandboxError as error:
        pytest.skip(str(error))
    yield jails
    jails.close()


def run(jails: LocalJails, source: str, stdin: str = "") -> Execution:
    with jails.jail(Order(source.encode()), LIMITS) as jail:
        return jail.feed(stdin)


def bubblewraps(parent: int) -> list[int]:
    """Processes of bubblewrap that a process started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, ppid, name, *_ in rows if int(ppid) == parent and name == "bwrap"]


def test_one_slot_serves_one_program_after_another(jails: LocalJails) -> None:
    before = bubblewraps(os.getpid())
    assert [run(jails, f"print({number})").stdout for number in range(5)] == [f"{number}\n" for number in range(5)]
    assert bubblewraps(os.getpid()) == before


def test_threads_have_slots_of_their_own(jails: LocalJails) -> None:
    found: dict[int, str] = {}

    def work(number: int) -> None:
        found[number] = run(jails, "import time; time.sleep(0.3); print(int(input()) * 2)", str(number)).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: "0\n", 1: "2\n", 2: "4\n"}
    # The threads that started slots have ended; the slots have not.
    assert run(jails, "print('still')").stdout == "still\n"


def test_dead_zygote_is_replaced(jails: LocalJails) -> None:
    for process in bubblewraps(os.getpid()):
        os.kill(process, signal.SIGKILL)
    time.sleep(0.2)
    assert run(jails, "print(1)").stdout == "1\n"


def test_zygote_that_dies_during_a_program_says_nothing_about_it(jails: LocalJails) -> None:
    before = bubblewraps(os.getpid())
    killer = threading.Timer(0.5, lambda: [os.kill(process, signal.SIGKILL) for process in before])
    killer.start()
    with pytest.raises(SandboxError):
        run(jails, "import time; time.sleep(4)")
    killer.join()
    assert run(jails, "print(1)").stdout == "1\n"


def test_program_is_run_again_when_its_jail_fails(monkeypatch: pytest.MonkeyPatch, jails: LocalJails) -> None:
    sandbox, calls = Sandbox(), []
    _ = sandbox.level
    real = LocalJails.jail

    def fail_once(self: LocalJails, order: Order, limits: Limits) -> object:
        calls.append(order)
        if len(calls) == 1:
            raise SandboxError("the jail fell")
        return real(self, order, limits)

    monkeypatch.setattr(LocalJails, "jail", fail_once)
    assert sandbox.run(Program("print(1)"), "", LIMITS).stdout == "1\n"
    assert len(calls) == 2


def test_jail_that_fails_again_is_a_failure_of_the_sandbox(monkeypatch: pytest.MonkeyPatch, jails: LocalJails) -> None:
    def fail(self: LocalJails, order: Order, limits: Limits) -> object:
        raise SandboxError("the jail fell")

    sandbox = Sandbox()
    _ = sandbox.level
    monkeypatch.setattr(LocalJails, "jail", fail)
    found = sandbox.run(Program("print(1)"), "", LIMITS)
    assert (found.outcome, found.stderr) == (Ending.SANDBOX_FAILURE, "the jail fell")


def test_nothing_is_left_for_the_next_program(jails: LocalJails) -> None:
    run(jails, "open('/tmp/left', 'w').write('x'); import random; random.seed(0)")
    assert run(jails, "import os; print(os.listdir('/tmp'))").stdout == "[]\n"


def test_large_program_and_large_output(jails: LocalJails) -> None:
    source = f"text = {'a' * 600_000!r}\nprint(text)"
    assert run(jails, source).stdout == "a" * 600_000 + "\n"


def test_costs_are_told(jails: LocalJails) -> None:
    found = run(jails, "x = bytearray(50_000_000)\nsum(range(3_000_000))")
    assert found.cpu_s is not None
    assert 0.01 < found.cpu_s < 3.0
    assert found.max_rss_bytes is not None
    assert 50_000_000 < found.max_rss_bytes < 256 * MIB


@pytest.mark.parametrize(
    ("source", "ending", "stderr"),
    [
        ("import sys; sys.exit('bad luck')", Ending.FAILED, "bad luck\n"),
        ("import sys; sys.exit(None)", Ending.FINISHED, ""),
        ("import sys; sys.exit(256)", Ending.FINISHED, ""),
        ("import sys; sys.exit(257)", Ending.FAILED, ""),
        ("import atexit, sys; atexit.register(lambda: print('bye', file=sys.stderr))", Ending.FINISHED, "bye\n"),
        ("open('x', 'wb').write(b'a' * 10**7)", Ending.FAILED, None),
        ("import threading, time, sys\n"
         "threading.Thread(target=lambda: (time.sleep(0.1), print('done', file=sys.stderr))).start()",
         Ending.FINISHED, "done\n"),
        ("raise ValueError('no')", Ending.FAILED,
         'Traceback (most recent call last):\n  File "main.py", line 1, in <module>\nValueError: no\n'),
    ],
)  # fmt: skip
def test_programs_end_as_scripts_do(jails: LocalJails, source: str, ending: Ending, stderr: str | None) -> None:
    found = run(jails, source)
    assert found.outcome is ending, found
    assert stderr is None or found.stderr == stderr


def test_slots_end_with_their_process(jails: LocalJails) -> None:
    source = (
        "import os, signal, sys\nfrom infra.sandbox.sandbox import Sandbox\n"
        "from infra.sandbox.limits import Limits, Program\n"
        "s = Sandbox()\ns.run(Program('print(1)'), '', Limits())\nprint('up', flush=True)\nsys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdin
    assert child.stdout.readline() == "up\n"
    started = bubblewraps(child.pid)
    assert started
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    until = time.monotonic() + 10.0
    while any(Path(f"/proc/{process}").exists() for process in started) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [process for process in started if Path(f"/proc/{process}").exists()]


def test_close_ends_all_and_a_later_call_starts_again(jails: LocalJails) -> None:
    before = set(bubblewraps(os.getpid()))
    other = LocalJails(jails.level, jails.bubblewrap)
    run(other, "")
    assert set(bubblewraps(os.getpid())) - before
    other.close()
    assert set(bubblewraps(os.getpid())) == before
    assert run(other, "print(1)").stdout == "1\n"
    other.close()


def test_program_cannot_interrupt_the_first_process(jails: LocalJails) -> None:
    source = (
        "import os, signal, time\ntry: os.kill(1, signal.SIGINT)\nexcept OSError: pass\ntime.sleep(0.2)\nprint('on')"
    )
    assert run(jails, source).stdout == "on\n"
    assert run(jails, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)").stderr.endswith("KeyboardInterrupt\n")


def test_program_has_no_rights_and_goes_first(jails: LocalJails) -> None:
    source = (
        "print([line.split()[1] for line in open('/proc/self/status') if line[:6] in ('CapPrm', 'CapEff', 'CapAmb')])"
    )
    assert run(jails, source).stdout == f"{['0' * 16] * 3}\n"
    assert run(jails, "print(open('/proc/self/oom_score_adj').read().strip())").stdout == "1000\n"


def test_connection_of_a_program_is_not_left_for_the_next(jails: LocalJails) -> None:
    listens = "import socket\na = socket.create_server(('127.0.0.1', 8000))\n"
    before = bubblewraps(os.getpid())
    assert run(jails, listens).outcome is Ending.FINISHED
    assert bubblewraps(os.getpid()) == before
    connects = "c = socket.create_connection(('127.0.0.1', 8000))\na.accept()[0].close()\nc.close()"
    assert run(jails, listens + connects).outcome is Ending.FINISHED
    assert run(jails, "import socket\nsocket.socket().bind(('127.0.0.1', 8000))").outcome is Ending.FINISHED
    assert bubblewraps(os.getpid()) != before
