"""Where a profile has programs judged: in jails or containers of this machine, or by judging hosts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from infra.runtime import SandboxRuntime
from infra.sandbox.backend import Backend
from infra.sandbox.sandbox import Sandbox
from tasks.records import Verdict
from tasks.rewards.code import CodeConfig, CodeGrader

if TYPE_CHECKING:
    from tasks.rewards.code_client import RemoteCodeGrader


class CodeJudge(Protocol):
    """Judges programs. Safe from threads."""

    def ready(self) -> None:
        """Return when programs can be judged.

        Raises:
            SandboxError: none can, and why.
        """
        ...

    def judge(self, tests: dict[str, Any] | None, response: str) -> Verdict:
        """Verdict on the last block of code of a response's answer part."""
        ...


@contextmanager
def open_code_judge(config: CodeConfig, place: SandboxRuntime) -> Iterator[CodeJudge]:
    """The judge of a profile; nothing is started or asked before it is needed."""
    if place.backend == "service":
        with closing(_HostsJudge(config, place)) as hosts:
            yield hosts
        return
    with closing(_backend(place)) as sandbox:
        yield CodeGrader(config, sandbox)


def _backend(place: SandboxRuntime) -> Backend:
    if place.backend == "local":
        return Sandbox(unsafe=place.unsafe)
    from infra.sandbox.docker import DockerSandbox
    from infra.sandbox.docker_container import DockerConfig

    return DockerSandbox(DockerConfig(image=place.image, num_slots=place.slots))


class _HostsJudge:
    """Judging hosts, first spoken with when there is a program: most recipes' batches hold none."""

    def __init__(self, config: CodeConfig, place: SandboxRuntime) -> None:
        self._config, self._place = config, place
        self._lock = threading.Lock()
        self._grader: RemoteCodeGrader | None = None

    def ready(self) -> None:
        self._connected()

    def judge(self, tests: dict[str, Any] | None, response: str) -> Verdict:
        return self._connected().judge(tests, response)

    def close(self) -> None:
        with self._lock:
            if self._grader is not None:
                self._grader.close()

    def _connected(self) -> RemoteCodeGrader:
        from tasks.rewards.code_client import RemoteCodeGrader
        from tasks.rewards.code_hosts import SandboxHosts

        with self._lock:
            if self._grader is None:
                hosts = SandboxHosts(addresses=self._place.hosts, token_env=self._place.token_env)
                self._grader = RemoteCodeGrader(self._config, hosts)
            return self._grader
