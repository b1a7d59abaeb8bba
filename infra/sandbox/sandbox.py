"""Sandbox: the best jails that work on this machine, and programs in them."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.sandbox.cpp import CompileFailure, CppCompiler, CppConfig
from infra.sandbox.jail import Jail, JailEndedError
from infra.sandbox.limits import Ending, Execution, Language, Level, Limits, Program, SandboxError
from infra.sandbox.local import LocalJails
from infra.sandbox.order import Kind, Order
from infra.sandbox.probe import open_walls

LOCAL_LEVELS = (Level.BUBBLEWRAP, Level.OWN_USER, Level.LIMITS)
_TRIES = 2  # a jail that failed says nothing about the program, so another one is asked
_REMEDY = (
    "install bubblewrap (`apt-get install bubblewrap`), use the Docker sandbox, or set `unsafe = true` for tests of "
    "code that you trust"
)


class Sandbox:
    """Runs untrusted programs in jails of this machine (see `backend.Backend`). Safe from threads.

    Args:
        level: insist on a level; by default the best that a probe finds working.
        bubblewrap: its program; by default the one on the search path.
        unsafe: accept a level whose walls do not all stand. Without it, such a machine is refused.
        cpp: how C++ is compiled.
        cache: folder of compiled programs; by default one of this user's.
    """

    def __init__(
        self,
        level: Level | None = None,
        bubblewrap: Path | None = None,
        *,
        unsafe: bool = False,
        cpp: CppConfig | None = None,
        cache: Path | None = None,
    ) -> None:
        found = shutil.which("bwrap")
        self._bubblewrap = bubblewrap or (Path(found) if found else None)
        self._wanted, self._unsafe = level, unsafe
        self._cpp, self._cache = cpp or CppConfig(), cache
        self._lock = threading.Lock()
        self._found: LocalJails | None = None
        self._compiler: CppCompiler | None = None

    @property
    def level(self) -> Level:
        """The level in use; probed at the first look.

        Raises:
            SandboxError: no level, or not the wanted one, works here, or its walls do not all stand.
        """
        return self._jails().level

    def _jails(self) -> LocalJails:
        with self._lock:
            if self._found is None:
                self._found = self._probe()
                weakref.finalize(self, self._found.close)
            return self._found

    def _probe(self) -> LocalJails:
        # Limits alone would run strangers' code as root, so root has to ask for that by name.
        levels = [level for level in LOCAL_LEVELS if level is not Level.LIMITS or os.geteuid() != 0]
        troubles = []
        for level in [self._wanted] if self._wanted else levels:
            for is_warm in (True, False) if level is Level.BUBBLEWRAP else (False,):
                jails = LocalJails(level, self._bubblewrap, is_warm)
                trouble = self._trouble(jails)
                if not trouble:
                    return jails
                jails.close()
                troubles.append(f"{level}: {trouble}")
        raise SandboxError(f"secure sandbox not available: {'; '.join(dict.fromkeys(troubles))}; {_REMEDY}")

    def _trouble(self, jails: LocalJails) -> str:
        try:
            walls = open_walls(jails)
        except (SandboxError, OSError) as error:
            return str(error)
        found = ", ".join(f"`{wall}` is not enforced" for wall in walls)
        if found and self._unsafe:
            warnings.warn(f"unsafe sandbox, level {jails.level}: {found}; only for code that you trust", stacklevel=2)
            return ""
        return found

    def run(self, program: Program, stdin: str, limits: Limits) -> Execution:
        """Run a program with its whole input; a failure of the jail itself is `SANDBOX_FAILURE`."""
        trouble = ""
        for _ in range(_TRIES):
            try:
                with self._jails().jail(self._order(program), limits) as jail:
                    return jail.feed(stdin)
            except CompileFailure as failure:
                return failure.execution
            except (SandboxError, OSError) as error:
                trouble = str(error)
        return Execution(Ending.SANDBOX_FAILURE, "", trouble, 0.0)

    @contextmanager
    def open(self, program: Program, limits: Limits) -> Iterator[Jail]:
        """A program to speak with by lines; killed when the block ends.

        Raises:
            JailEndedError: it does not compile.
            SandboxError: the jail does not start.
        """
        try:
            order = self._order(program)
        except CompileFailure as failure:
            raise JailEndedError(failure.execution.outcome) from failure
        except OSError as error:
            raise SandboxError(f"the program cannot be compiled: {error}") from error
        with self._jails().jail(order, limits) as jail:
            yield jail

    def _order(self, program: Program) -> Order:
        if program.language is Language.PYTHON:
            return Order(program.source.encode("utf-8", errors="surrogatepass"))
        jails = self._jails()
        with self._lock:
            if self._compiler is None:
                self._compiler = CppCompiler(self._cpp, jails, self._cache)
                weakref.finalize(self, self._compiler.close)
        return Order(self._compiler.compile(program.source), Kind.BINARY)

    def close(self) -> None:
        """End what is kept warm; a later call starts it again."""
        with self._lock:
            if self._found:
                self._found.close()
            if self._compiler:
                self._compiler.close()
