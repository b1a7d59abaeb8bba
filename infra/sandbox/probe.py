"""Which walls of a level really stand on this machine: each is tried by a program that would break it."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from infra.sandbox.limits import MIB, Ending, Limits
from infra.sandbox.local import LocalJails
from infra.sandbox.order import Order

_LIMITS = Limits(wall_s=20.0, cpu_s=10, memory_bytes=256 * MIB, file_bytes=MIB, num_processes=8)
_MEMORY = "x = bytearray(1 << 29)"
_FILE = "open('large', 'wb').write(b'a' * (1 << 22))"
_PROCESSES = """
import os, time
count = 0
try:
    while count < 40:
        if os.fork() == 0:
            time.sleep(30)
        count += 1
except OSError:
    pass
print(count)
"""
_WALLS = """
import json, os, socket
folder, port = {folder!r}, {port}
found = {{"processes": os.readlink("/proc/self/ns/pid"), "user": os.geteuid()}}
def tried(action):
    try:
        action()
    except OSError:
        return False
    return True
found["read"] = tried(lambda: open(folder + "/marker").read())
found["write"] = tried(lambda: open(folder + "/planted", "w").close())
found["system"] = tried(lambda: open("/usr/posttrain-planted", "w").close())
found["network"] = tried(lambda: socket.create_connection(("127.0.0.1", port), 2))
print(json.dumps(found))
"""


def open_walls(jails: LocalJails) -> list[str]:
    """Names of the limits that are not enforced; none: the level is secure here.

    Raises:
        SandboxError: no program starts at this level.
    """
    checks: dict[str, Callable[[LocalJails], bool]] = {"memory": _holds_memory, "processes": _holds_processes}
    checks["file size"] = _holds_files
    return [name for name, holds in checks.items() if not holds(jails)] + _fallen(jails)


def _holds_memory(jails: LocalJails) -> bool:
    with jails.jail(Order(_MEMORY.encode()), _LIMITS) as jail:
        return jail.feed("").outcome is Ending.MEMORY_LIMIT


def _holds_files(jails: LocalJails) -> bool:
    with jails.jail(Order(_FILE.encode()), _LIMITS) as jail:
        return jail.feed("").outcome is Ending.FAILED


def _holds_processes(jails: LocalJails) -> bool:
    with jails.jail(Order(_PROCESSES.encode()), _LIMITS) as jail:
        done = jail.feed("")
    return done.outcome is Ending.FINISHED and int(done.stdout) < _LIMITS.num_processes


def _fallen(jails: LocalJails) -> list[str]:
    """Walls that a program got through: to a port that listens here, a file all may read, a folder all may write."""
    with (
        tempfile.TemporaryDirectory(prefix="posttrain-probe-") as name,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "marker").write_text("host", encoding="utf-8")
        source = _WALLS.format(folder=name, port=server.getsockname()[1])
        with jails.jail(Order(source.encode()), _LIMITS) as jail:
            done = jail.feed("")
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return [f"walls ({done.outcome} {done.stderr[-200:]})"]
    fallen = {"host files unreadable": found["read"], "no write outside": found["write"] or found["system"]}
    fallen["no network"] = found["network"]
    fallen["own process namespace"] = found["processes"] == str(Path("/proc/self/ns/pid").readlink())
    fallen["not root"] = found["user"] == 0 and os.geteuid() == 0
    return [wall for wall, has_fallen in fallen.items() if has_fallen]
