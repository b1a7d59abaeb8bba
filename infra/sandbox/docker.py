"""Docker sandbox: a few warm containers, where neither bubblewrap nor root is to be had but an engine is."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from infra.sandbox import docker_boot, seccomp
from infra.sandbox.cpp import CppConfig
from infra.sandbox.docker_container import Container, DockerConfig
from infra.sandbox.docker_process import ContainerProcess, resources
from infra.sandbox.isolation import BOOT, ENVIRONMENT
from infra.sandbox.jail import Jail
from infra.sandbox.limits import MIB, Ending, Execution, Language, Level, Limits, Program, SandboxError

if TYPE_CHECKING:
    from docker.client import DockerClient

_DOCKER_BOOT, _FILTER = Path(docker_boot.__file__), Path(seccomp.__file__)
_ENGINE_S = 60.0
_BINARIES_BYTES = 256 * MIB
# Runs in a container as any program does: the compiler is not trusted with strangers' sources either.
_COMPILE = """
import base64, subprocess, sys
done = subprocess.run(["g++", "-I/opt/headers", *FLAGS, "-x", "c++", "-", "-o", "/tmp/main"],
                      input=SOURCE.encode("utf-8", "surrogatepass"), stderr=subprocess.PIPE)
if done.returncode:
    sys.stderr.write(done.stderr.decode(errors="replace")[:8000])
    sys.exit(1)
with open("/tmp/main", "rb") as file:
    print(base64.b64encode(file.read()).decode())
"""
_PROBE = """
import json, pathlib, socket
def is_refused(act):
    try:
        act()
    except OSError:
        return True
    return False
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "the network is closed": is_refused(lambda: socket.create_connection(("192.0.2.1", 80), timeout=2)),
    "the file system is read-only": is_refused(lambda: pathlib.Path("/usr/planted").write_text("")),
    "capabilities are dropped": int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0,
    "no new privileges are to be had": status["NoNewPrivs"].strip() == "1",
    "the user is not root": status["Uid"].split()[0] == "65534",
    "the host's own sockets are closed": is_refused(lambda: socket.socket(40, socket.SOCK_STREAM)),  # AF_VSOCK
    "other processes are unseen": sum(path.name.isdigit() for path in pathlib.Path("/proc").iterdir()) == 2,
}))
"""
_ENGINE_LIMITS = {"MemoryLimit": "memory", "PidsLimit": "processes", "CpuCfsQuota": "CPU"}


class DockerSandbox:
    """Runs untrusted Python and C++ in containers. Safe from threads: one that finds no free container waits.

    A container is started at the first need, and replaced when a program leaves anything that cannot be undone.
    """

    def __init__(self, config: DockerConfig | None = None, cpp: CppConfig | None = None) -> None:
        self._config, self._cpp = config or DockerConfig(), cpp or CppConfig()
        self._slots = threading.Semaphore(self._config.num_slots)
        self._lock = threading.Lock()
        self._probing = threading.Lock()
        self._idle: list[Container] = []
        self._client: DockerClient | None = None
        self._is_probed = False
        self._binaries: OrderedDict[str, bytes] = OrderedDict()

    @property
    def level(self) -> Level:
        """Always `DOCKER`; the walls are tried at the first look.

        Raises:
            SandboxError: no engine, no image, or a wall that does not stand.
        """
        with self._probing:
            if not self._is_probed:
                self._probe()
                self._is_probed = True
        return Level.DOCKER

    def _probe(self) -> None:
        info = self._connected().info()
        missing = [f"the engine limits no {what}" for name, what in _ENGINE_LIMITS.items() if not info.get(name)]
        done = self.run(Program(_PROBE), "", Limits())
        if done.outcome is not Ending.FINISHED:
            raise SandboxError(f"secure sandbox not available: {done.outcome} {done.stderr[-500:]}")
        missing += [f"not so: {wall}" for wall, stands in json.loads(done.stdout).items() if not stands]
        if missing:
            raise SandboxError(f"secure sandbox not available: {'; '.join(missing)}; mend the engine's set-up")

    def run(self, program: Program, stdin: str, limits: Limits) -> Execution:
        """Run a program with its whole input; a failure of the jail itself is `SANDBOX_FAILURE`."""
        try:
            compiled = self._compiled(program)
            if isinstance(compiled, Execution):
                return compiled
            with self._jail(compiled, program.language, limits) as jail:
                return jail.feed(stdin)
        except SandboxError as error:
            return Execution(Ending.SANDBOX_FAILURE, "", str(error), 0.0)

    @contextmanager
    def open(self, program: Program, limits: Limits) -> Iterator[Jail]:
        """A program to speak with by lines; killed when the block ends.

        Raises:
            SandboxError: the jail does not start, or the program does not compile.
        """
        compiled = self._compiled(program)
        if isinstance(compiled, Execution):
            raise SandboxError(f"the program does not compile: {compiled.stderr[:500]}")
        with self._jail(compiled, program.language, limits) as jail:
            yield jail

    def close(self) -> None:
        """End the containers that nobody uses now; a later call starts others."""
        with self._lock:
            idle, self._idle = self._idle, []
        for container in idle:
            container.discard()

    # Compiling

    def _compiled(self, program: Program) -> bytes | Execution:
        """What is run: Python as it is, C++ as the compiler's output; or how compiling went wrong."""
        if program.language is Language.PYTHON:
            return program.source.encode("utf-8", "surrogatepass")
        with self._lock:
            known = self._binaries.get(program.source)
        return known or self._compile(program.source)

    def _compile(self, source: str) -> bytes | Execution:
        driver = f"SOURCE, FLAGS = {source!r}, {self._cpp.flags!r}\n{_COMPILE}".encode("utf-8", "surrogatepass")
        # The executable comes back as text, which takes a third more than its bytes.
        limits = self._cpp.limits.model_copy(update={"output_bytes": 2 * self._cpp.binary_bytes})
        with self._jail(driver, Language.PYTHON, limits) as jail:
            done = jail.feed("")
        if done.outcome is not Ending.FINISHED:
            why = done.stderr if done.outcome is Ending.FAILED else f"the compiler: {done.outcome}"
            return done._replace(outcome=Ending.COMPILE_ERROR, stdout="", stderr=why)
        binary = base64.b64decode(done.stdout)
        self._keep(source, binary)
        return binary

    def _keep(self, source: str, binary: bytes) -> None:
        with self._lock:
            self._binaries[source] = binary
            while sum(map(len, self._binaries.values())) > _BINARIES_BYTES:
                self._binaries.popitem(last=False)

    # Containers

    @contextmanager
    def _jail(self, content: bytes, language: Language, limits: Limits) -> Iterator[Jail]:
        with self._slots:
            started = time.monotonic()
            process = self._start(content, language, limits)
            jail = Jail(process, limits, started)
            try:
                yield jail
            finally:
                try:
                    jail.end()
                finally:
                    self._give_back(process.container)

    def _start(self, content: bytes, language: Language, limits: Limits) -> ContainerProcess:
        """The program in a container. One that cannot start it is replaced, once."""
        settings = {"limits": resources(limits), "language": str(language), "size": len(content)}
        settings |= {"environment": ENVIRONMENT, "boot": BOOT.read_text(encoding="utf-8")}
        settings |= {"filter": _FILTER.read_text(encoding="utf-8")}
        flags = ["-P", "-s", "-S", "-B", "-c", _DOCKER_BOOT.read_text(encoding="utf-8"), json.dumps(settings)]
        for is_last in (False, True):
            container = self._take()
            try:
                return ContainerProcess(container, ["python3", *flags], content)
            except SandboxError:
                container.discard()
                if is_last:
                    raise
        raise AssertionError("unreachable")

    def _take(self) -> Container:
        client = self._connected()
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Container(client, self._config)

    def _give_back(self, container: Container) -> None:
        if container.is_alive:
            with self._lock:
                self._idle.append(container)

    def _connected(self) -> DockerClient:
        with self._lock:
            if self._client is None:
                self._client = _connect(self._config)
            return self._client


def _connect(config: DockerConfig) -> DockerClient:
    import docker.errors
    from docker.client import DockerClient, from_env

    # Each program holds a connection, and asks over another.
    options = {"timeout": _ENGINE_S, "max_pool_size": 4 * config.num_slots}
    try:
        client = DockerClient(config.engine, **options) if config.engine else from_env(**options)
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise SandboxError(f"no Docker engine answers ({error}); start it: `systemctl start docker`") from error
    try:
        client.images.get(config.image)
    except docker.errors.ImageNotFound:
        client.close()
        build = f"docker build -f docker/sandbox.Dockerfile -t {config.image} docker"
        raise SandboxError(f"the engine has no image {config.image}; make it: `{build}`") from None
    return client
