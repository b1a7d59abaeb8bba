"""The command line of a jail at each level, and the files that it may see."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

from infra.sandbox.limits import Level, Limits

BOOT = Path(__file__).with_name("boot.py")
# The whole environment of a jailed program. A fixed hash seed: the order of sets must not decide a verdict.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "PYTHONHASHSEED": "0"}
_ROOT_FOLDERS = ("/bin", "/lib", "/lib64", "/lib32")
_SPARE_INTERPRETERS = (Path("/usr/local/bin/python3"), Path("/usr/bin/python3"))
_OTHERS_MAY_ENTER = 0o001
_OTHERS_MAY_READ = 0o004
_LONGEST_CPU_S = 3600


class Box(NamedTuple):
    """A jail's place on the host.

    Attributes:
        folder: temporary, deleted afterwards; holds `main.py` and the working folder `work`.
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
        return self.folder / "main.py"

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


def jail_command(level: Level, bubblewrap: Path | None, box: Box, limits: Limits) -> list[str]:
    """The command that starts `box`'s program in a jail of `level`."""
    if level is Level.BUBBLEWRAP:
        assert bubblewrap is not None
        walls = [str(bubblewrap), *_walls(box, limits)]
        return [*walls, "--", *_python(own_interpreter(), box, limits, Path("/box/main.py"))]
    python = interpreter_for_others() if level is Level.OWN_USER else own_interpreter()
    assert python is not None
    return _python(python, box, limits, box.program)


def _python(python: Path, box: Box, limits: Limits, program: Path) -> list[str]:
    # Not -I: it would ignore the hash seed; the environment is ours anyway.
    settings = {"limits": _resources(limits), "user": box.user, "ready": box.ready, "program": str(program)}
    return [str(python), "-P", "-s", "-S", "-B", "-c", BOOT.read_text(encoding="utf-8"), json.dumps(settings)]


def _resources(limits: Limits) -> dict[str, int]:
    return {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": min(math.ceil(limits.cpu_s), _LONGEST_CPU_S),
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.num_open_files,
        "RLIMIT_NPROC": limits.num_processes,
    }


def _walls(box: Box, limits: Limits) -> list[str]:
    apart = ["--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    # As root the boot code changes to the box's user itself, since the kernel counts processes by the host's user.
    rights = ["--unshare-user"]
    if box.user is not None:
        rights = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    prefix = str(own_interpreter().parent.parent)
    files = ["--ro-bind", "/usr", "/usr", *_root_folders(), "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    if not prefix.startswith("/usr/"):
        files += [*_open_folders(Path(prefix)), "--ro-bind", prefix, prefix]
    files += [*_open_folders(Path("/box/main.py")), "--ro-bind", str(box.program), "/box/main.py"]
    files += ["--proc", "/proc", "--dev", "/dev"]
    files += ["--perms", "1777", "--size", str(max(limits.file_bytes, 4096)), "--tmpfs", "/tmp"]
    ties = ["--info-fd", str(box.info), "--die-with-parent", "--new-session"]
    return [*apart, *rights, *ties, *files, "--remount-ro", "/", "--chdir", "/tmp"]


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
