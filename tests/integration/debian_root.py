"""A base image without a registry: a root file system made of the Debian packages that this very machine has installed.

Only the packages asked for and what they depend on, read from dpkg's own lists: seconds, no download, and the same
Python and compiler as on the machine.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

# What a shell, Python and a C++ compiler need, and the small init that our images start with.
PACKAGES = (
    "base-files", "bash", "bubblewrap", "coreutils", "dash", "g++", "grep", "hostname", "libc-bin", "python3", "sed",
    "tini",
)  # fmt: skip
_MERGED_USR = ("bin", "lib", "lib64", "sbin")
_FOLDERS = {
    "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755, "sys": 0o755, "tmp": 0o1777,
    "var": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
_OURS = (*_MERGED_USR, *_FOLDERS, *_ACCOUNTS)


class RootError(RuntimeError):
    """This machine cannot give a root file system; the message says what is missing."""


def write_root(path: Path, packages: Iterable[str] = PACKAGES) -> Path:
    """Write the root file system as a tarball.

    Raises:
        RootError: no Debian here, or a package is not installed.
    """
    if shutil.which("dpkg-query") is None:
        raise RootError("no dpkg here; the root file system is made of Debian's own packages")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in _MERGED_USR:
            _add_link(tar, name, f"usr/{name}")
        for name, mode in _FOLDERS.items():
            _add_folder(tar, name, mode)
        for name, content in _ACCOUNTS.items():
            _add_text(tar, name, content)
        for file in sorted(_files(_closure(packages))):
            tar.add(file, arcname=str(file).lstrip("/"), recursive=False)
    return path


def _closure(packages: Iterable[str]) -> set[str]:
    """The packages and all that they depend on, as far as it is installed."""
    needs = _installed()
    wanted, found = list(packages), set[str]()
    missing = [name for name in wanted if name not in needs]
    if missing:
        raise RootError(f"not installed: {', '.join(missing)}; `apt-get install {' '.join(missing)}`")
    while wanted:
        name = wanted.pop()
        if name in needs and name not in found:
            found.add(name)
            wanted += needs[name]
    return found


def _installed() -> dict[str, list[str]]:
    """Installed package → every name in its dependencies; of alternatives, all."""
    layout = "${db:Status-Abbrev}|${Package}|${Pre-Depends},${Depends}\n"
    lines = subprocess.run(["dpkg-query", "-W", "-f", layout], capture_output=True, text=True, check=True).stdout
    needs: dict[str, list[str]] = {}
    for line in lines.splitlines():
        status, name, depends = line.split("|", 2)
        if status.startswith("ii"):
            needs[name] = re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)", depends)
    return needs


def _files(packages: set[str]) -> set[Path]:
    """Files and folders of the packages at their real places: /bin is a link to /usr/bin, which dpkg does not know."""
    listed = subprocess.run(["dpkg-query", "-L", *sorted(packages)], capture_output=True, text=True, check=True).stdout
    # Lines such as "diverted by …" and "package … contains no files" are no paths.
    named = {Path(line) for line in listed.splitlines() if line.startswith("/") and line != "/."}
    kept = {path.parent.resolve() / path.name for path in named if not path.is_relative_to("/usr/share/doc")}
    return {path for path in kept if path.is_symlink() or path.exists()} - {Path("/", name) for name in _OURS}


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _add_folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _add_text(tar: tarfile.TarFile, name: str, content: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content.encode()))
