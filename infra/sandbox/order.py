"""What a jail is told to start."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """How the content of an order is run."""

    PYTHON = "python"  # source, by the jail's own interpreter
    BINARY = "binary"  # an executable file
    COMMAND = "command"  # not at all: the command is a program that the jail sees


class Order(NamedTuple):
    """One start within a jail."""

    content: bytes
    kind: Kind = Kind.PYTHON
    command: tuple[str, ...] = ()
    out: int | None = None
    """Descriptor of the host that the command has as its descriptor 3."""
