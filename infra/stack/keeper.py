"""The resident process of a stack: starts its services in order, starts an ended one again, and takes all down with it.

It holds the lock of the stack's home as long as it lives, so whether a stack is up is never a guess. Every service is
a `ChildProcess`: it ends when the keeper does, however that ends.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from infra.config import Config
from infra.output import write_json
from infra.process import ChildProcess
from infra.runtime import child_environment
from infra.stack.plan import Plan, Service

START_TIMEOUT_S = 180.0
POLL_S = 0.25
MAX_BACKOFF_S = 60.0
LOCK_PATIENCE_S = 1.0


class ServiceState(Config):
    """How a service is."""

    name: str
    state: Literal["waiting", "starting", "up", "ended"] = "waiting"
    pid: int | None = None
    starts: int = 0


class StackState(Config):
    """What the keeper tells in `state.json`."""

    pid: int
    state: Literal["starting", "up", "failed", "stopping"]
    started: float = Field(description="seconds since 1970")
    error: str = ""
    services: tuple[ServiceState, ...] = ()


class StackError(RuntimeError):
    """A service that does not start; the message names it, the end of its log and the remedy."""


class Keeper:
    """Keeps a plan's services running until it is told to stop."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stopping = False
        self._started = time.time()
        self._running: dict[str, ChildProcess] = {}
        self._starts = dict.fromkeys((service.name for service in plan.services), 0)
        self._due: dict[str, float] = {}

    def keep(self) -> None:
        """Start everything, then watch until a signal comes.

        Raises:
            StackError: a server or a command of the setup failed; everything is stopped again.
        """
        try:
            self._tell("starting")
            for server in self.plan.servers:
                self._start(server)
            for server in self.plan.servers:
                self._wait_for(server)
            for command in self.plan.setup:
                self._run(command)
            self._keep_workers()
        finally:
            self._tell("stopping")
            self._stop_all()

    def _keep_workers(self) -> None:
        if self.stopping:
            return
        for worker in self.plan.workers:
            self._start(worker)
        self._tell("up")
        while not self.stopping:
            time.sleep(POLL_S)
            self._restart_ended()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler."""
        self.stopping = True

    def _start(self, service: Service) -> None:
        self._starts[service.name] += 1
        environment = child_environment(**service.env)
        log = self.plan.log_of(service.name)
        if self._starts[service.name] > 1:  # why the life before ended
            log.replace(self.plan.log_of(f"{service.name}.before"))
        self._running[service.name] = ChildProcess(service.command, name=service.name, log=log, env=environment)

    def _wait_for(self, service: Service) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while service.health is not None and not answers(service.health) and not self.stopping:
            if not self._running[service.name].running:
                raise StackError(f"{service.name} ended at start; mend what its log says:\n{self._tail(service)}")
            if time.monotonic() > deadline:
                raise StackError(f"{service.name} did not answer in {START_TIMEOUT_S:.0f} s:\n{self._tail(service)}")
            time.sleep(POLL_S)

    def _run(self, command: Service) -> None:
        if self.stopping:
            return
        log = self.plan.log_of(command.name)
        with ChildProcess(command.command, name=command.name, log=log, env=child_environment(**command.env)) as child:
            while child.running and not self.stopping:
                time.sleep(POLL_S)
            if child.returncode:
                raise StackError(f"{command.name} failed; mend what its log says:\n{child.tail()}\n(the end of {log})")

    def _restart_ended(self) -> None:
        """Start ended services again, after a second the first time and later and later after that."""
        for service in self.plan.services:
            if self._running[service.name].running:
                continue
            due = self._due.setdefault(service.name, time.monotonic() + self._backoff_s(service))
            if time.monotonic() >= due:
                del self._due[service.name]
                self._start(service)
            self._tell("up")

    def _backoff_s(self, service: Service) -> float:
        doublings = min(self._starts[service.name] - 1, 10)  # 2.0 ** 1024 is an error, days into a stack's life
        return min(MAX_BACKOFF_S, 2.0**doublings)

    def _stop_all(self) -> None:
        """Workers first: they report the flow runs that end with them to the server."""
        for group in (self.plan.workers, self.plan.servers):
            children = [self._running[each.name] for each in group if each.name in self._running]
            with ThreadPoolExecutor(max(1, len(children))) as threads:
                list(threads.map(lambda child: child.stop(), children))

    def _tell(self, state: Literal["starting", "up", "failed", "stopping"], error: str = "") -> None:
        services = tuple(self._state_of(service) for service in self.plan.services)
        told = StackState(pid=os.getpid(), state=state, started=self._started, error=error, services=services)
        try:
            write_json(state_path(self.plan.home), told.model_dump())
        except OSError as full:  # a full disk is no reason to end what runs, nor to leave it running at the end
            print(f"cannot tell that the stack is {state}: {full}", file=sys.stderr, flush=True)

    def _state_of(self, service: Service) -> ServiceState:
        child = self._running.get(service.name)
        if child is None:
            return ServiceState(name=service.name)
        state: Literal["up", "ended"] = "up" if child.running else "ended"
        return ServiceState(name=service.name, state=state, pid=child.pid, starts=self._starts[service.name])

    def _tail(self, service: Service) -> str:
        return f"{self._running[service.name].tail()}\n(the end of {self.plan.log_of(service.name)})"

    def fail(self, error: str) -> None:
        """Leave the reason why the stack is not up."""
        self._tell("failed", error)


def state_path(home: Path) -> Path:
    """Where the keeper tells how things are."""
    return home / "state.json"


def plan_path(home: Path) -> Path:
    """Where `up` leaves the plan for the keeper."""
    return home / "plan.json"


def take_lock(home: Path) -> IO[Any] | None:
    """The lock of a stack's home, to be handed to its keeper; None while another holds it.

    Patient for a moment: who only looks holds it too, for as long as a look takes.
    """
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # databases, and a profile that may hold keys
    lock = (home / "lock").open("a")
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                return None
            time.sleep(0.05)
        else:
            return lock


def is_kept(home: Path) -> bool:
    """True while a keeper lives. Only looks: writes nothing, and needs no right to write."""
    try:
        with (home / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def answers(url: str, timeout_s: float = 5.0) -> bool:
    """True when a GET gives 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(home: Path, lock_fd: int) -> int:
    """Keep the stack whose plan lies in `home`; the lock that `up` took is ours as long as we live."""
    os.set_inheritable(lock_fd, False)
    with os.fdopen(lock_fd, "a"):
        keeper = Keeper(Plan.model_validate_json(plan_path(home).read_text(encoding="utf-8")))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, keeper.request_stop)
        try:
            keeper.keep()
        except (StackError, OSError) as error:
            keeper.fail(str(error))
            return 1
        with suppress(FileNotFoundError):
            state_path(home).unlink()
        return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
