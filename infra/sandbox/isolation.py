"""The command line of a jail at each level, and the files that it may see."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from infra.sandbox.limits import Level, Limits
from infra.sandbox.order import Kind, Order

BOOT = Path(__file__).with_name("boot.py")
# The whole environment of a jailed program. A fixed hash seed: the order of sets must not decide a verdict.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "PYTHONHASHSEED": "0"}
_ROOT_FOLDERS = ("/bin", "/lib", "/lib64", "/lib32")
_LIBRARIES = Path("/etc/ld.so.cache")
_SPARE_INTERPRETERS = (Path("/usr/local/bin/python3"), Path("/usr/bin/python3"))
ZYGOTE = (BOOT, BOOT.with_name("zygote.py"), BOOT.with_name("seccomp.py"))
# Not -I: it would ignore the hash seed; the environment is ours anyway.
_FLAGS = ("-P", "-s", "-S", "-B")
_SLOT_TMP_BYTES = 4096  # each program has a folder of its own over it
_OTHERS_MAY_ENTER = 0o001
_OTHERS_MAY_READ = 0o004
_LONGEST_CPU_S = 3600


class Box(NamedTuple):
    """A jail's place on the host.

    Attributes:
        folder: temporary, deleted afterwards; holds the program `main` and the working folder `work`.
        user: unprivileged uid that the program runs as; None: as this process's user.
        ready: descriptor that the boot code writes to when the program starts.
        info: descriptor that bubblewrap writes its first process's id to.
    """

    folder: Path
    user: int | None
    ready: int
    info: int

    @property
    def program(self) -> Path:
        return self.folder / "main"

    @property
    def work(self) -> Path:
        return self.folder / "work"


def own_interpreter() -> Path:
    """The real file of the Python that runs us, outside of any virtual environment."""
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return (base if base.exists() else Path(sys.executable)).resolve()


def interpreter_for_others() -> Path | None:
    """A Python that an unprivileged user can start: ours if its folders are open to all, otherwise the system's."""
    for path in (own_interpreter(), *_SPARE_INTERPRETERS):
        if path.exists() and _is_open_to_all(path.resolve()):
            return path.resolve()
    return None


def _is_open_to_all(path: Path) -> bool:
    try:
        modes = [folder.stat().st_mode for folder in path.parents]
        return all(mode & _OTHERS_MAY_ENTER for mode in modes) and bool(path.stat().st_mode & _OTHERS_MAY_READ)
    except PermissionError:
        return False


def jail_command(level: Level, bubblewrap: Path | None, box: Box, order: Order, limits: Limits) -> list[str]:
    """The command that starts `order` in a jail of `level`, of its own."""
    if level is Level.BUBBLEWRAP:
        assert bubblewrap is not None
        rights = () if box.user is None else ("CAP_SETUID", "CAP_SETGID")
        walls = _walls(rights, {box.program: Path("/box/main")}, limits.file_bytes, box.info)
        return [str(bubblewrap), *walls, "--", *_python(own_interpreter(), box, order, limits, Path("/box/main"))]
    python = interpreter_for_others() if level is Level.OWN_USER else own_interpreter()
    assert python is not None
    return _python(python, box, order, limits, box.program)


def slot_command(bubblewrap: Path, user: int | None, info: int, control: int, shown: Mapping[Path, Path]) -> list[str]:
    """The command that starts a zygote, which talks over the descriptor `control`.

    Args:
        user: of the programs; None: this process's own.
        shown: further host files and folders, read-only, and where the jail sees them.
    """
    code = {path: Path("/box/infra/sandbox") / path.name for path in ZYGOTE}
    # It makes namespaces and mounts for each program, and changes to the program's user; a program has none of these.
    rights = ["CAP_SYS_ADMIN"] if user is None else ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"]
    walls = _walls(rights, {**code, **shown}, _SLOT_TMP_BYTES, info)
    start = f"import sys; sys.path.append('/box'); import infra.sandbox.zygote as z; z.become(z.serve({control}))"
    return [str(bubblewrap), *walls, "--", str(own_interpreter()), *_FLAGS, "-c", start]


def _python(python: Path, box: Box, order: Order, limits: Limits, program: Path) -> list[str]:
    settings: dict[str, object] = {
        "limits": resources(limits),
        "user": box.user,
        "ready": box.ready,
        "program": str(program),
    }
    settings["command"] = [str(program)] if order.kind is Kind.BINARY else list(order.command) or None
    return [str(python), *_FLAGS, "-c", BOOT.read_text(encoding="utf-8"), json.dumps(settings)]


def resources(limits: Limits) -> dict[str, int]:
    """Resource limits of the kernel, by name."""
    return {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": min(math.ceil(limits.cpu_s), _LONGEST_CPU_S),
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.num_open_files,
        "RLIMIT_NPROC": limits.num_processes,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }


def _walls(rights: Sequence[str], shown: Mapping[Path, Path], tmp_bytes: int, info: int) -> list[str]:
    apart = ["--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    # As root the code inside changes to the slot's user itself, since the kernel counts processes by the host's user.
    powers = ["--cap-drop", "ALL"] if os.geteuid() == 0 else ["--unshare-user"]
    powers += [argument for right in rights for argument in ("--cap-add", right)]
    prefix = own_interpreter().parent.parent
    files = ["--ro-bind", "/usr", "/usr", *_root_folders()]
    files += [*_open_folders(_LIBRARIES), "--ro-bind-try", str(_LIBRARIES), str(_LIBRARIES)]
    if not prefix.is_relative_to("/usr"):
        files += _shown(prefix, prefix)
    for path, place in shown.items():
        files += _shown(path, place)
    files += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    files += ["--perms", "1777", "--size", str(max(tmp_bytes, 4096)), "--tmpfs", "/tmp"]
    ties = ["--info-fd", str(info), "--die-with-parent", "--new-session"]
    return [*apart, *powers, *ties, *files, "--remount-ro", "/", "--chdir", "/tmp"]


def _shown(path: Path, place: Path) -> list[str]:
    return [*_open_folders(place), "--ro-bind", str(path), str(place)]


def _open_folders(path: Path) -> list[str]:
    """Folders above a file of the jail, made so that its user may enter them."""
    above = [str(folder) for folder in reversed(path.parents) if folder != Path("/")]
    return [argument for folder in above for argument in ("--perms", "0755", "--dir", folder)]


def _root_folders() -> list[str]:
    arguments = []
    for name in _ROOT_FOLDERS:
        path = Path(name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), name]
        elif path.exists():
            arguments += ["--ro-bind", name, name]
    return arguments
