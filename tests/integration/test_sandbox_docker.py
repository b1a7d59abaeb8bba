"""The Docker sandbox on a real engine, where one can be started: endings, C++, and what hostile programs try."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from infra.sandbox.docker import DockerSandbox
from infra.sandbox.docker_container import LABEL, DockerConfig
from infra.sandbox.jail import JailEndedError
from infra.sandbox.limits import MIB, Ending, Execution, Language, Level, Limits, Program, SandboxError
from tasks.records import Outcome
from tasks.rewards.code import CodeConfig, CodeGrader
from tests.integration.attacked_host import SECRET, Host, attacked_host
from tests.integration.docker_engine import SANDBOX, EngineError, build_sandbox_image, docker_client, engine_with_base
from tests.integration.hostile_cpp import CPP
from tests.integration.hostile_python import PYTHON, Hostile

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
LIMITS = Limits(wall_s=5.0, cpu_s=2, memory_bytes=256 * MIB, output_bytes=MIB, file_bytes=8 * MIB)
SQUARES = "#include <bits/stdc++.h>\nint main() { long n, s = 0; while (std::cin >> n) s += n * n; std::cout << s; }"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of an engine that holds the sandbox image, built without a registry."""
    with ExitStack() as stack:
        try:
            socket = stack.enter_context(engine_with_base(tmp_path_factory.mktemp("docker")))
        except EngineError as error:
            pytest.skip(str(error))
        with docker_client(socket) as client:
            build_sandbox_image(client)
        yield socket


def config(engine: Path, **changes: Any) -> DockerConfig:
    return DockerConfig(image=SANDBOX, engine=f"unix://{engine}", tmp_bytes=16 * MIB, **changes)


@pytest.fixture(scope="module")
def sandbox(engine: Path) -> Iterator[DockerSandbox]:
    # One slot, so that each program follows in the container of the last one.
    opened = DockerSandbox(config(engine, num_slots=1))
    yield opened
    opened.close()


def python(sandbox: DockerSandbox, source: str, stdin: str = "") -> Execution:
    return sandbox.run(Program(source), stdin, LIMITS)


def containers(engine: Path) -> list[str]:
    with docker_client(engine) as client:
        return [container.id for container in client.containers.list(filters={"label": LABEL})]


def test_the_walls_stand(sandbox: DockerSandbox, engine: Path) -> None:
    assert sandbox.level is Level.DOCKER
    with docker_client(engine) as client:
        (container,) = client.containers.list(filters={"label": LABEL})
        host = container.attrs["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"]
    assert host["NetworkMode"] == "none"
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["PidsLimit"], host["Memory"], host["NanoCpus"]) == (64, 2048 * MIB, 10**9)


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("print(input())", Ending.FINISHED),
        ("1/0", Ending.FAILED),
        ("import sys; sys.exit(3)", Ending.FAILED),
        ("import os; os.kill(os.getpid(), 11)", Ending.FAILED),
        ("while True: pass", Ending.TIME_LIMIT),
        ("import time; time.sleep(60)", Ending.TIME_LIMIT),
        ("x = 'a' * 10**9", Ending.MEMORY_LIMIT),
        ("while True: print('a' * 10000)", Ending.OUTPUT_LIMIT),
        ("open('/tmp/f', 'w').write('a' * 10**8)", Ending.FAILED),
        ("import sys\nfor _ in range(300): sys.stderr.write('e' * 65536)", Ending.FINISHED),
        ("this is not Python", Ending.FAILED),
    ],
)
def test_endings(sandbox: DockerSandbox, source: str, outcome: Ending) -> None:
    assert python(sandbox, source, "hello\n").outcome is outcome
    assert python(sandbox, "print(input())", "hello\n").stdout == "hello\n"


def test_much_goes_in_and_out(sandbox: DockerSandbox) -> None:
    text = "0123456789" * 50_000
    assert python(sandbox, "import sys; sys.stdout.write(sys.stdin.read()[::-1])", text).stdout == text[::-1]


def test_a_program_is_spoken_with(sandbox: DockerSandbox) -> None:
    with sandbox.open(Program("while True: print(input() * 2, flush=True)"), LIMITS) as jail:
        assert [jail.ask(word, 5) for word in ("a", "bc")] == ["aa", "bcbc"]
    with sandbox.open(Program("print(input()); raise SystemExit(0)"), LIMITS) as jail:
        assert jail.ask("a", 5) == "a"
        with pytest.raises(JailEndedError):
            jail.ask("b", 5)


def test_cpp(sandbox: DockerSandbox) -> None:
    squares = Program(SQUARES, Language.CPP)
    assert sandbox.run(squares, "3 4 12", LIMITS).stdout == "169"
    started = time.monotonic()
    assert sandbox.run(squares, "1 1", LIMITS).stdout == "2"
    assert time.monotonic() - started < 3, "compiled once"
    wrong = sandbox.run(Program("int main() { return x; }", Language.CPP), "", LIMITS)
    assert wrong.outcome is Ending.COMPILE_ERROR
    assert "‘x’ was not declared" in wrong.stderr
    endless = sandbox.run(Program('int main() { for (;;) asm(""); }', Language.CPP), "", LIMITS)
    assert endless.outcome is Ending.TIME_LIMIT
    hidden = sandbox.run(Program('#include "/etc/shadow"\nint main() {}', Language.CPP), "", LIMITS)
    assert hidden.outcome is Ending.COMPILE_ERROR


# Each says on standard output what it reached; nothing may be reached.
REACHING = {
    "network": "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=2); print('reached')",
    "datagram": "import socket\nsocket.socket(2, 2).sendto(b'x', ('192.0.2.1', 53)); print('reached')",
    "write outside": "open('/usr/planted', 'w'); print('reached')",
    "host's socket": "import socket\nsocket.socket(40, socket.SOCK_STREAM); print('reached')",
    "netlink": "import socket\nsocket.socket(16, socket.SOCK_RAW, 0); print('reached')",
    "root": "import os; os.setuid(0); print('reached')",
    "mount": "import ctypes\nif ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0: print('reached')",
    "keeper": "import os\nos.kill(1, 9); print('reached')",
    "keeper's memory": "open('/proc/1/mem', 'rb'); print('reached')",
    "keeper's descriptors": "import os\nprint('reached', os.listdir('/proc/1/fd'))",
    "device": "import os\nos.mknod('/tmp/sda', 0o60666, os.makedev(8, 0)); print('reached')",
    "engine": "import os\nif os.path.exists('/var/run/docker.sock'): print('reached')",
    "execution in tmp": "import os, shutil\nshutil.copy('/bin/echo', '/tmp/t'); os.execv('/tmp/t', ['t', 'reached'])",
}  # fmt: skip


@pytest.mark.parametrize("source", REACHING.values(), ids=REACHING.keys())
def test_nothing_outside_is_reached(sandbox: DockerSandbox, source: str) -> None:
    found = python(sandbox, source)
    assert "reached" not in found.stdout
    assert found.outcome in {Ending.FINISHED, Ending.FAILED}, found


FLEE = "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n"
LEAVING = {
    "fork bomb": "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
    "daemon": f"{FLEE}    time.sleep(600)",
    "daemon that ignores signals": f"import signal\nsignal.signal(15, signal.SIG_IGN)\n{FLEE}    time.sleep(600)",
    "files": "import os\nos.makedirs('/tmp/a/b'); open('/tmp/a/b/c', 'w').write('x'); os.chmod('/tmp/a', 0)",
    "link": "import os\nos.symlink('/usr', '/tmp/usr')",
    "full disk": "f = open('/dev/shm/f', 'wb')\nwhile True: f.write(b'x' * 65536)",
    "many files": "for n in range(5000): open(f'/tmp/{n}', 'w')",
    "System V memory": "import ctypes\nprint(ctypes.CDLL(None).shmget(77, 4096, 0o1666))",
    "message queue": "import ctypes\nprint(ctypes.CDLL(None).mq_open(b'/q', 0o102, 0o666, None))",
    "kill all": "import os\nos.kill(-1, 9)",
    "stopped": "import os\nos.kill(os.getpid(), 19)",
    "memory in many processes": "import os\nfor _ in range(20): os.fork()\nx = bytearray(200 * 2**20)",
}
LOOK = """
import os
print([name for name in os.listdir('/proc') if name.isdigit() and int(name) not in (1, os.getpid())])
print(sum((os.listdir(folder) for folder in ('/tmp', '/dev/shm', '/dev/mqueue')), []))
print([len(open(f'/proc/sysvipc/{kind}').readlines()) for kind in ('shm', 'sem', 'msg')])
"""


@pytest.mark.parametrize("source", LEAVING.values(), ids=LEAVING.keys())
def test_nothing_of_a_program_stays_for_the_next(sandbox: DockerSandbox, engine: Path, source: str) -> None:
    assert python(sandbox, source).outcome is not Ending.SANDBOX_FAILURE
    after = python(sandbox, LOOK)
    assert (after.outcome, after.stdout) == (Ending.FINISHED, "[]\n[]\n[1, 1, 1]\n"), after
    assert len(containers(engine)) == 1


def test_containers_are_kept_warm(sandbox: DockerSandbox, engine: Path) -> None:
    python(sandbox, "print(1)")
    before = containers(engine)
    for _ in range(3):
        python(sandbox, "print(1)")
    assert containers(engine) == before


def test_threads_share_the_slots(engine: Path) -> None:
    many = DockerSandbox(config(engine, num_slots=3))
    try:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda number: python(many, f"print({number})").stdout, range(24)))
        assert found == [f"{number}\n" for number in range(24)]
    finally:
        many.close()


def test_the_grader_judges_in_containers(sandbox: DockerSandbox) -> None:
    grader = CodeGrader(CodeConfig(test_s=5.0), sandbox)
    tests = {"kind": "assert", "asserts": ["assert f(2) == 4", "assert f(3) == 9"]}
    assert grader.judge_program(tests, "def f(x): return x * x").outcome is Outcome.PASSED
    assert grader.judge_program(tests, "def f(x): return x + x").outcome is Outcome.WRONG
    stdio = {"kind": "stdio", "inputs": ["2\n"], "outputs": ["4\n"]}
    assert grader.judge_program(stdio, "print(int(input()) ** 2)").outcome is Outcome.PASSED


def test_a_container_ends_with_the_process_that_started_it(engine: Path) -> None:
    before = set(containers(engine))
    script = (
        "import sys, time\nfrom infra.sandbox.docker import *\nfrom infra.sandbox.limits import *\n"
        "box = DockerSandbox(DockerConfig(image=sys.argv[1], engine=sys.argv[2]))\n"
        "print(box.run(Program('print(1)'), '', Limits()).outcome, flush=True)\ntime.sleep(600)"
    )
    command = [sys.executable, "-c", script, SANDBOX, f"unix://{engine}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == "finished"
        assert len(set(containers(engine)) - before) == 1
        process.kill()
    deadline = time.monotonic() + 30
    while set(containers(engine)) - before:
        assert time.monotonic() < deadline, "the container outlives its owner"
        time.sleep(0.2)


def test_a_missing_engine_or_image_is_one_error_with_its_remedy(engine: Path, tmp_path: Path) -> None:
    nowhere = DockerSandbox(DockerConfig(engine=f"unix://{tmp_path}/docker.sock"))
    with pytest.raises(SandboxError, match="systemctl start docker"):
        _ = nowhere.level
    unmade = DockerSandbox(DockerConfig(engine=f"unix://{engine}", image="posttrain-test/none:1"))
    with pytest.raises(SandboxError, match=r"docker build -f docker/sandbox\.Dockerfile -t posttrain-test/none:1"):
        _ = unmade.level
    assert unmade.run(Program("print(1)"), "", LIMITS).outcome is Ending.SANDBOX_FAILURE


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with attacked_host(tmp_path_factory.mktemp("host")) as host:
        yield host


# What a container has of its own: its list of users, the program's user, memory to share that is wiped after it.
OWN_IN_CONTAINERS = {"reads_shadow", "setuid", "posix_shared_memory"}


@pytest.mark.thorough
@pytest.mark.parametrize("row", [*PYTHON, *CPP], ids=lambda row: row.name)
def test_the_whole_hostile_set(sandbox: DockerSandbox, host: Host, row: Hostile) -> None:
    """The programs that attack bubblewrap's jails; how each ends may differ a little, what it reaches may not."""
    language = Language.CPP if row in CPP else Language.PYTHON
    found = sandbox.run(Program(host.aim(row.source), language), "", LIMITS)
    assert found.outcome is not Ending.SANDBOX_FAILURE
    assert "ESCAPED" not in found.stdout or row.name in OWN_IN_CONTAINERS
    assert SECRET not in found.stdout + found.stderr
    assert [path.name for path in host.folder.iterdir()] == ["marker"]
    assert python(sandbox, LOOK).stdout == "[]\n[]\n[1, 1, 1]\n"
