"""Jails of this machine at one level: kept warm where that works, otherwise one start a program."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from infra.sandbox.isolation import Box, interpreter_for_others, jail_command
from infra.sandbox.jail import Jail
from infra.sandbox.launch import Launched, Pipe
from infra.sandbox.limits import Level, Limits, SandboxError
from infra.sandbox.order import Kind, Order
from infra.sandbox.process import Process
from infra.sandbox.slot import Slots
from infra.sandbox.users import kill_user, leased_user


class LocalJails:
    """Starts programs at one level. Safe from threads.

    Args:
        level: of this machine.
        bubblewrap: its program, where the level needs it.
        is_warm: keep zygotes; behind bubblewrap only.
        shown: host folders that every jail sees read-only, and where; behind warm bubblewrap only.
    """

    def __init__(
        self, level: Level, bubblewrap: Path | None, is_warm: bool = True, shown: Mapping[Path, Path] | None = None
    ) -> None:
        self.level, self.bubblewrap = level, bubblewrap
        self.is_warm = is_warm and level is Level.BUBBLEWRAP
        self._slots = Slots(bubblewrap, shown) if self.is_warm and bubblewrap else None

    def with_shown(self, shown: Mapping[Path, Path]) -> LocalJails:
        """The same kind of jails, which see more of the host."""
        return LocalJails(self.level, self.bubblewrap, self.is_warm, shown)

    @contextmanager
    def jail(self, order: Order, limits: Limits) -> Iterator[Jail]:
        """A started program; it is gone when the block ends.

        Raises:
            SandboxError: the jail does not start, or fails.
        """
        self._check()
        started = time.monotonic()
        with ExitStack() as stack:
            try:
                process = stack.enter_context(self._start(order, limits))
            except OSError as error:
                raise SandboxError(f"no jail can be made: {error}") from error
            jail = Jail(process, limits, started)
            try:
                yield jail
            finally:
                jail.end()

    def _start(self, order: Order, limits: Limits) -> AbstractContextManager[Process]:
        if self._slots:
            return self._slots.start(order, limits)
        return self._launch(order, limits)

    def _check(self) -> None:
        if self.level is Level.BUBBLEWRAP and self.bubblewrap is None:
            raise SandboxError("bubblewrap is not installed; install it (`apt-get install bubblewrap`)")
        if self.level is Level.OWN_USER and (os.geteuid() != 0 or interpreter_for_others() is None):
            raise SandboxError("a user of its own needs root here, and a Python that every user may start")

    @contextmanager
    def _launch(self, order: Order, limits: Limits) -> Iterator[Launched]:
        has_user = os.geteuid() == 0 and self.level is not Level.LIMITS
        folder = tempfile.TemporaryDirectory(prefix="jail-", ignore_cleanup_errors=True)
        with folder as name, leased_user(has_user) as user:
            with ExitStack() as undo:
                ready = Pipe.open()
                undo.callback(ready.close)
                info = Pipe.open()
                undo.callback(info.close)
                box = _furnish(Box(Path(name), user, ready.write_end, info.write_end), order)
                command = jail_command(self.level, self.bubblewrap, box, order, limits)
                undo.pop_all()
            try:
                yield Launched(command, box.work, ready, info, [] if order.out is None else [order.out])
            finally:
                if user is not None and self.level is Level.OWN_USER:
                    kill_user(user)

    def close(self) -> None:
        """End the idle zygotes."""
        if self._slots:
            self._slots.close()


def _furnish(box: Box, order: Order) -> Box:
    box.program.write_bytes(order.content)
    box.work.mkdir()
    if order.kind is Kind.BINARY:
        box.program.chmod(0o755)
    if box.user is not None:
        box.folder.chmod(0o711)
        os.chown(box.work, box.user, box.user)
    return box
