"""What a jailed program may use, how well it is kept apart, and how it ended."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pydantic import Field

from infra.config import Config

MIB = 1024 * 1024


class Limits(Config):
    """Limits of one jailed program. All but time, memory and output are there to stop abuse, not to be tuned."""

    wall_s: float = Field(default=10.0, gt=0, description="seconds of wall clock, from the program's first instruction")
    cpu_s: int = Field(default=10, ge=1, description="seconds of CPU of one process")
    memory_bytes: int = Field(default=1024 * MIB, ge=64 * MIB, description="address space of one process")
    output_bytes: int = Field(default=8 * MIB, ge=1024, description="standard output; more ends the program")
    file_bytes: int = Field(default=16 * MIB, ge=0, description="largest file; also the size of the jail's /tmp")
    num_processes: int = Field(default=32, ge=1, description="processes and threads of the jail's user")
    num_open_files: int = Field(default=64, ge=16, description="open files of one process")


class Language(StrEnum):
    """What a program is written in."""

    PYTHON = "python"
    CPP = "cpp"


class Program(NamedTuple):
    """A program that nobody trusts."""

    source: str
    language: Language = Language.PYTHON


class Level(StrEnum):
    """How well a jail is kept apart from the host, best first."""

    BUBBLEWRAP = "bubblewrap"
    """Own network, process, user and file view; a host process is neither seen nor reached."""
    DOCKER = "docker"
    """A container on a Docker engine: as above, with limits by cgroup."""
    OWN_USER = "own_user"
    """Limits and an unprivileged user of its own: cannot write outside its folder, but sees host files and network."""
    LIMITS = "limits"
    """Limits only, as this user: stops accidents, not attacks."""


class Ending(StrEnum):
    """How a jailed program ended."""

    FINISHED = "finished"  # exit code 0
    FAILED = "failed"  # another exit code, or a signal
    COMPILE_ERROR = "compile_error"  # C++ that the compiler refuses; what it said is in `stderr`
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    SANDBOX_FAILURE = "sandbox_failure"  # the program never started: no statement about it


class Execution(NamedTuple):
    """What a jailed program did. `ms` is wall clock, with the start of the jail."""

    outcome: Ending
    stdout: str
    stderr: str
    ms: float
    cpu_s: float | None = None
    max_rss_bytes: int | None = None


class SandboxError(RuntimeError):
    """The jail itself failed; says nothing about the program."""
