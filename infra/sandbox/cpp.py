"""C++ programs: compiled in a jail of their own, with a precompiled header and a cache of what was compiled."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field

from infra.config import Config
from infra.sandbox.binaries import BinaryCache
from infra.sandbox.header import precompiled_header
from infra.sandbox.jail import Jail
from infra.sandbox.limits import MIB, Ending, Execution, Limits, SandboxError
from infra.sandbox.local import LocalJails
from infra.sandbox.order import Kind, Order

_HEADER_PLACE = Path("/header")
# What may stand before the include of all: nothing that the library could see, and nothing that needs the library.
_BEFORE = (
    r"(?>\s|//[^\n\\]*\n|/\*.*?\*/|#[ \t]*include[ \t]*<[a-z_]+>"
    r"|#[ \t]*pragma[ \t]+GCC[ \t]+(?:optimize|target)\b[^\n\\]*\n)*+"
)
_INCLUDES_ALL = re.compile(_BEFORE + r"#[ \t]*include[ \t]*<bits/stdc\+\+\.h>", re.DOTALL)
_RULES = "what g++ refuses is refused"  # other rules make other executables: these are not taken for those
_VERSION_S = 60.0


class CppConfig(Config):
    """How C++ is compiled, and what compiling may use. A hostile source attacks the compiler too."""

    standard: Literal["c++17", "c++20"] = Field(default="c++20", description="language standard")
    optimisation: Literal["-O0", "-O1", "-O2", "-O3"] = Field(default="-O2", description="optimisation level")
    wall_s: float = Field(default=60.0, gt=0, description="seconds of wall clock to compile one program")
    cpu_s: int = Field(default=30, ge=1, description="seconds of CPU to compile one program")
    memory_bytes: int = Field(default=2048 * MIB, ge=512 * MIB, description="address space of the compiler")
    binary_bytes: int = Field(default=64 * MIB, ge=MIB, description="largest executable, and largest temporary file")
    cache_bytes: int = Field(default=1024 * MIB, ge=0, description="executables kept for the next time; oldest go")

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags that shape the executable."""
        return (f"-std={self.standard}", self.optimisation, "-pipe", "-w", "-fmax-errors=20")

    @property
    def limits(self) -> Limits:
        """Limits of one run of the compiler."""
        return Limits(
            wall_s=self.wall_s,
            cpu_s=self.cpu_s,
            memory_bytes=self.memory_bytes,
            output_bytes=MIB,
            file_bytes=self.binary_bytes,
            num_processes=16,
        )


class CompileFailure(Exception):  # noqa: N818 - the program's failure, as a wrong answer is; not an error here
    """The source gives no executable; `execution` says why, with what the compiler said in `stderr`."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(execution.outcome)
        self.execution = execution


class CppCompiler:
    """Compiles programs. Safe from threads.

    Args:
        jails: where the executables run; compiling happens in jails of the same level, of their own.
        cache: folder for executables and the precompiled header; by default in this user's cache folder.

    Raises:
        SandboxError: no compiler here.
    """

    def __init__(self, config: CppConfig, jails: LocalJails, cache: Path | None = None) -> None:
        self._config = config
        self._gxx = _compiler()
        self._identity = [_version(self._gxx), *config.flags]
        folder = cache or _default_cache()
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._binaries = BinaryCache(folder / "executables", config.cache_bytes)
        self._folder, self._jails, self._lock = folder, jails, threading.Lock()
        self._compile_jails: LocalJails | None = None
        self._has_header = False

    def compile(self, source: str) -> bytes:
        """The executable of a source.

        Raises:
            CompileFailure: the compiler refuses it, or needs more than it may have.
            SandboxError: the jail fails.
        """
        content = source.encode("utf-8", errors="surrogatepass")
        key = hashlib.sha256(repr([_RULES, *self._identity, content]).encode()).hexdigest()
        binary = self._binaries.get(key)
        if binary is None:
            binary = self._compile(content)
            self._binaries.put(key, binary)
        return binary

    def _compile(self, source: bytes) -> bytes:
        jails = self._jails_with_header()
        if self._has_header and takes_header(source.decode("utf-8", errors="replace")):
            try:
                return self._run(jails, source, ("-I", str(_HEADER_PLACE), "-include", "stdc++.h"))
            except CompileFailure as failure:
                # The library came before the source's pragmas, which may be what it does not bear.
                if failure.execution.outcome is not Ending.COMPILE_ERROR:
                    raise
        return self._run(jails, source, ())

    def _jails_with_header(self) -> LocalJails:
        with self._lock:
            if self._compile_jails is None:
                header = precompiled_header(self._gxx, self._config.flags, self._identity, self._folder / "header")
                self._compile_jails = self._jails.with_shown({header: _HEADER_PLACE} if header else {})
                self._has_header = header is not None and self._compile_jails.is_warm
            return self._compile_jails

    def _run(self, jails: LocalJails, source: bytes, header: tuple[str, ...]) -> bytes:
        compiler = " ".join([str(self._gxx), *self._config.flags, *header, "-x", "c++", "-", "-o", "program"])
        out = os.memfd_create("executable")
        try:
            order = Order(b"", Kind.COMMAND, ("/bin/sh", "-c", f"{compiler} && cat program >&3"), out)
            with jails.jail(order, self._config.limits) as jail:
                done = _fed(jail, source)
            if done.outcome is not Ending.FINISHED:
                outcome = Ending.COMPILE_ERROR if done.outcome is Ending.FAILED else done.outcome
                raise CompileFailure(done._replace(outcome=outcome))
            return os.pread(out, os.fstat(out).st_size, 0)
        finally:
            os.close(out)

    def close(self) -> None:
        """End the jails that compile."""
        with self._lock:
            if self._compile_jails:
                self._compile_jails.close()


def takes_header(source: str) -> bool:
    """True for a source that begins with the whole library; another would have names that the compiler refuses it."""
    return _INCLUDES_ALL.match(source) is not None


def _default_cache() -> Path:
    try:
        return Path.home() / ".cache" / "posttrain" / "cpp"
    except RuntimeError:  # a user without a home
        return Path(os.devnull) / "cpp"  # where nothing can be kept


def _fed(jail: Jail, source: bytes) -> Execution:
    return jail.feed(source.decode("utf-8", errors="surrogateescape"))


def _compiler() -> Path:
    found = shutil.which("g++", path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise SandboxError("no C++ compiler on this machine; install it (`apt-get install g++`)")
    return Path(found).resolve()


def _version(gxx: Path) -> str:
    told = subprocess.run(
        [str(gxx), "-dumpfullversion", "-dumpmachine"], capture_output=True, text=True, check=False, timeout=_VERSION_S
    )
    status = gxx.stat()
    return f"{told.stdout.strip()} {status.st_size} {status.st_mtime_ns}"
