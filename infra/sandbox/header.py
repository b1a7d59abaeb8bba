"""The C++ standard library as one precompiled header: it saves a second of each compilation."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from infra.sandbox.limits import SandboxError

_BUILD_S = 300.0


def precompiled_header(gxx: Path, flags: Sequence[str], identity: Sequence[str], folder: Path) -> Path | None:
    """Folder with `stdc++.h` and its precompiled form, made once a machine for a compiler and its flags.

    None: no place for it, so each compilation reads the library's text.

    Raises:
        SandboxError: the compiler does not work.
    """
    place = folder / hashlib.sha256(repr(list(identity)).encode()).hexdigest()[:24]
    try:
        if not place.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _make(gxx, flags, place)
        return place if place.exists() else None
    except OSError:
        return None


def _make(gxx: Path, flags: Sequence[str], place: Path) -> None:
    made = Path(tempfile.mkdtemp(dir=place.parent))
    try:
        if _is_built(gxx, flags, made):
            made.chmod(0o755)
            with suppress(OSError):  # another process was faster: its header is as good
                made.rename(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_built(gxx: Path, flags: Sequence[str], folder: Path) -> bool:
    header = folder / "stdc++.h"
    header.write_text("#include <bits/stdc++.h>\n", encoding="utf-8")
    if _run([str(gxx), *flags, "-x", "c++-header", header.name, "-o", "stdc++.h.gch"], folder):
        # The disk is full, or nothing works; checking a text writes nothing.
        if trouble := _run([str(gxx), *flags, "-fsyntax-only", "-x", "c++-header", header.name], folder):
            raise SandboxError(f"the C++ compiler does not work: {trouble}; reinstall it (`apt-get install g++`)")
        return False
    for path in folder.iterdir():
        path.chmod(0o644)
    return True


def _run(command: Sequence[str], folder: Path) -> str:
    """Why a command failed; empty: it did not."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_BUILD_S)
    except subprocess.TimeoutExpired as error:
        return str(error)
    return (done.stderr[-500:] or f"exit code {done.returncode}") if done.returncode else ""
