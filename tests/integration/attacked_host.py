"""What hostile programs would reach on this machine: a file, a port, a socket and a secret, and whether they did."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SECRET = "correct-horse-battery"


class Host(NamedTuple):
    """What attacks on this machine would reach."""

    folder: Path
    port: int
    socket_name: str

    @property
    def marker(self) -> Path:
        return self.folder / "marker"

    def aim(self, source: str) -> str:
        """A program's source with the names of what it attacks."""
        names = {"MARKER": str(self.marker), "FOLDER": str(self.folder), "PORT": str(self.port), "SECRET": SECRET}
        names |= {"SOCKET": self.socket_name, "PID": str(os.getpid())}
        for name, value in names.items():
            source = source.replace(f"@{name}@", value)
        return source


@contextmanager
def attacked_host(folder: Path) -> Iterator[Host]:
    """The targets, which listen and lie open to every user while the block lasts."""
    folder.chmod(0o777)
    name = f"posttrain-hostile-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0{name}")
        local.listen()
        host = Host(folder, server.getsockname()[1], name)
        host.marker.write_text(SECRET, encoding="utf-8")
        yield host
