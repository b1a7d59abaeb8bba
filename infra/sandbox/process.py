"""A started program as a jail drives it, whatever holds it."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Status(NamedTuple):
    """How a program's first process ended."""

    code: int
    """Exit code, or minus the number of the signal that ended it."""
    cpu_s: float | None = None
    """CPU of the program and the children it waited for; None: not told."""
    max_rss_bytes: int | None = None
    """Largest resident memory of its first process; None: not told."""


class Process(Protocol):
    """A started program. The descriptors belong to the jail, which closes all four after `kill`."""

    @property
    def stdin(self) -> int:
        """Write end."""
        ...

    @property
    def stdout(self) -> int:
        """Read end."""
        ...

    @property
    def stderr(self) -> int:
        """Read end."""
        ...

    @property
    def ended(self) -> int:
        """Readable (or at its end) once the program's first process is over; what is in it is not read."""
        ...

    def status(self) -> Status:
        """How it ended; asked only after `ended` is readable.

        Raises:
            SandboxError: what holds the program failed, so that nobody knows.
        """
        ...

    def kill(self) -> None:
        """End the program with all that it started, and return when nothing of it runs; harmless when it has ended."""
        ...
