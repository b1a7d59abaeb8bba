"""Jails under attack, at every level that works on this machine."""

import os
from pathlib import Path

import pytest

from infra.sandbox.limits import MIB, Ending, Level, Limits, Program, SandboxError
from infra.sandbox.sandbox import LOCAL_LEVELS, Sandbox

LIMITS = Limits(wall_s=2.0, cpu_s=1, memory_bytes=256 * MIB, output_bytes=MIB, file_bytes=MIB, num_processes=8)


@pytest.fixture(scope="module", params=LOCAL_LEVELS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    sandbox = Sandbox(level=request.param, unsafe=True)
    try:
        assert sandbox.level is request.param
    except SandboxError as error:
        pytest.skip(str(error))
    return sandbox


def enforces_processes(sandbox: Sandbox) -> bool:
    return sandbox.level is not Level.LIMITS


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("print(input())", Ending.FINISHED),
        ("exit(0)", Ending.FINISHED),
        ("import os; os._exit(0)", Ending.FINISHED),
        ("exit(3)", Ending.FAILED),
        ("1/0", Ending.FAILED),
        ("def f(: pass", Ending.FAILED),
        ("import os; os.kill(os.getpid(), 9)", Ending.FAILED),
        ("import os; os.kill(0, 9)", Ending.FAILED),
        ("while True: pass", Ending.TIME_LIMIT),
        ("import time; time.sleep(60)", Ending.TIME_LIMIT),
        ("x = []\nwhile True: x.append('a' * 10**7)", Ending.MEMORY_LIMIT),
        ("x = 10**10**10", Ending.MEMORY_LIMIT),
        ("import sys\nwhile True: sys.stdout.write('a' * 65536)", Ending.OUTPUT_LIMIT),
        ("open('large', 'wb').write(b'a' * 10**8)", Ending.FAILED),
    ],
)
def test_endings(sandbox: Sandbox, program: str, outcome: Ending) -> None:
    found = sandbox.run(Program(program), "hello\n", LIMITS)
    # A power may be cut short by either limit.
    allowed = {outcome, Ending.TIME_LIMIT} if "10**10" in program else {outcome}
    assert found.outcome in allowed, found
    assert found.ms < 10_000


def test_input_and_output(sandbox: Sandbox) -> None:
    text = "é" * 300_000
    program = "import sys; t = sys.stdin.read(); print(len(t)); print('no', file=sys.stderr)"
    found = sandbox.run(Program(program), text, LIMITS)
    assert (found.outcome, found.stdout, found.stderr) == (Ending.FINISHED, "300000\n", "no\n")


def test_flood_of_errors_is_cut_and_does_no_harm(sandbox: Sandbox) -> None:
    found = sandbox.run(Program("import sys\nfor _ in range(200): sys.stderr.write('a' * 65536)\nprint(1)"), "", LIMITS)
    assert (found.outcome, found.stdout) == (Ending.FINISHED, "1\n")
    assert len(found.stderr) <= 16_384


def test_environment_is_clean(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "secret")
    found = sandbox.run(Program("import os; print(sorted(os.environ), os.listdir('.'))"), "", LIMITS)
    assert "SECRET" not in found.stdout
    assert found.stdout.rstrip().endswith("[]")


def test_order_of_sets_repeats(sandbox: Sandbox) -> None:
    program = "print(list({str(i) for i in range(50)}))"
    assert len({sandbox.run(Program(program), "", LIMITS).stdout for _ in range(3)}) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives jails a user of their own")
def test_root_is_left_behind(sandbox: Sandbox) -> None:
    if sandbox.level is Level.LIMITS:
        pytest.skip("limits alone keep the user")
    found = sandbox.run(Program("import os; print(os.getuid() != 0); os.setuid(0)"), "", LIMITS)
    assert (found.outcome, found.stdout) == (Ending.FAILED, "True\n")
    found = sandbox.run(Program("open('/usr/planted', 'w')"), "", LIMITS)
    assert found.outcome is Ending.FAILED
    assert not Path("/usr/planted").exists()


def test_fork_bomb_is_held_and_nothing_of_it_stays(sandbox: Sandbox) -> None:
    if not enforces_processes(sandbox):
        pytest.skip("this level does not enforce the count of processes")
    count = sandbox.run(
        Program("import os, time\nn = 0\ntry:\n  while n < 100:\n    if os.fork() == 0: time.sleep(9)\n    n += 1\n"
        "except OSError: print(n)"), "", LIMITS,
    )  # fmt: skip
    assert int(count.stdout) < LIMITS.num_processes  # proven enforced, so that a real bomb may follow
    bomb = sandbox.run(Program("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"), "", LIMITS)
    assert bomb.outcome is Ending.TIME_LIMIT
    assert sandbox.run(Program("print(1)"), "", LIMITS).stdout == "1\n"


def test_process_that_leaves_its_group_is_killed(sandbox: Sandbox, tmp_path: Path) -> None:
    if sandbox.level is Level.LIMITS:
        pytest.skip("limits alone cannot find what leaves its group")
    tag = f"daemon-{os.getpid()}-{tmp_path.name}"
    program = (
        "import os, sys, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork(): os._exit(0)\n"
        "  print('up', flush=True)\n"
        f"  os.execv(sys.executable, [sys.executable, '-S', '-c', 'import time; time.sleep(30)', {tag!r}])\n"
        "time.sleep(0.5)"
    )
    found = sandbox.run(Program(program), "", LIMITS)
    assert (found.outcome, found.stdout) == (Ending.FINISHED, "up\n")
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if tag.encode() in command]


def test_nothing_outside_is_reached_behind_bubblewrap(sandbox: Sandbox) -> None:
    if sandbox.level is not Level.BUBBLEWRAP:
        pytest.skip("only bubblewrap hides the host")
    home = str(Path(__file__).parent)
    program = "import os, socket\nprocesses = [p for p in os.listdir('/proc') if p.isdigit()]\n"
    program += f"print(os.path.exists({home!r}), len(processes) < 5)\n"
    program += "socket.create_connection(('127.0.0.1', 1), 1)"
    found = sandbox.run(Program(program), "", LIMITS)
    assert found.stdout == "False True\n"
    assert "unreachable" in found.stderr or "refused" in found.stderr


def test_missing_bubblewrap_is_told(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="bubblewrap"):
        _ = Sandbox(level=Level.BUBBLEWRAP, bubblewrap=tmp_path / "missing").level


def test_conversation_has_a_clock_and_an_end(sandbox: Sandbox) -> None:
    program = "import sys, time\nfor line in sys.stdin:\n  time.sleep(float(line)); print('done', flush=True)"
    with sandbox.open(Program(program), LIMITS) as jail:
        assert jail.ask("0", wait_s=1.0) == "done"
        with pytest.raises(Exception, match="time_limit"):
            jail.ask("5", wait_s=0.2)
