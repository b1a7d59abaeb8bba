"""First code inside a jail: give up privileges, set the limits, say so, then become the program.

Runs by itself as `python -c` from this file's text, with settings as JSON in `sys.argv[1]`, and is a part of the
zygote; imports nothing but the standard library. Settings: limits (resource name → value), user (uid or None), ready
(descriptor of the pipe that hears of the start), program (path), command (None for a Python program: run it in this
same interpreter).
"""

import contextlib
import json
import os
import resource
import sys
from typing import Any


def set_limits(limits: dict[str, int]) -> None:
    """Set resource limits by name, soft and hard."""
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # One second between soft and hard, so that the soft limit's signal tells why the program ended.
        over = soft + 1 if name == "RLIMIT_CPU" and hard == resource.RLIM_INFINITY else soft
        resource.setrlimit(kind, (soft, over))


def give_up_privileges(user: int | None) -> None:
    """Become another user for good; None: stay who this is."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def go_first() -> None:
    """Have the kernel end this process before any other when memory is short; without /proc it decides by itself."""
    with contextlib.suppress(OSError):
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(file, b"1000")
        os.close(file)


def program_namespace() -> dict[str, Any]:
    """The names that a program starts with, as in a script."""
    import builtins

    # `-S` leaves these out, and ordinary programs call them.
    vars(builtins).update(exit=sys.exit, quit=sys.exit)
    sys.set_int_max_str_digits(0)
    names = vars(sys.modules["__main__"])
    names.clear()
    names.update(__name__="__main__", __builtins__=builtins, __file__="main.py", __doc__=None)
    return names


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib would double the start of every jail
        return file.read()


def _main() -> None:
    settings = json.loads(sys.argv[1])
    sys.argv[:] = ["main.py"]
    command = settings["command"]
    program = "" if command else _read(settings["program"])
    # Limits that root may exceed are set before, the count of processes is per user: all hold after the change of user.
    set_limits(settings["limits"])
    go_first()
    give_up_privileges(settings["user"])
    os.write(settings["ready"], b"r")
    os.close(settings["ready"])
    if command:
        os.execv(command[0], command)
    exec(compile(program, "main.py", "exec"), program_namespace())


if __name__ == "__main__":
    _main()
