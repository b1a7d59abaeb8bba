"""What runs programs that nobody trusts, on this machine or elsewhere; graders need no more than this."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from infra.sandbox.jail import Jail
from infra.sandbox.limits import Execution, Level, Limits, Program


class Backend(Protocol):
    """A place with jails. Safe from threads; every call has a jail of its own."""

    @property
    def level(self) -> Level:
        """How well jails are kept apart; probed at the first look.

        Raises:
            SandboxError: no jail works here.
        """
        ...

    def run(self, program: Program, stdin: str, limits: Limits) -> Execution:
        """Run a program with its whole input; a failure of the jail itself is `SANDBOX_FAILURE`."""
        ...

    def open(self, program: Program, limits: Limits) -> AbstractContextManager[Jail]:
        """A program to speak with by lines; killed when the block ends.

        Raises:
            SandboxError: the jail does not start.
        """
        ...

    def close(self) -> None:
        """End what is kept warm; a later call starts it again."""
        ...
