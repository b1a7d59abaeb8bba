"""First code inside a jail: give up privileges, set the limits, say so, then run the program in this same interpreter.

Runs as `python -c` from this file's text, with settings as JSON in `sys.argv[1]`; imports nothing but the standard
library. Settings: limits (resource name → value), user (uid or None), ready (descriptor of the pipe that hears of the
start), program (path).
"""

import json
import os
import resource
import sys
from typing import Any


def _give_up_privileges(user: int | None) -> None:
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def _set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # One second between soft and hard, so that the soft limit's signal tells why the program ended.
        over = soft + 1 if name == "RLIMIT_CPU" and hard == resource.RLIM_INFINITY else soft
        resource.setrlimit(kind, (soft, over))


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib would double the start of every jail
        return file.read()


def _namespace() -> dict[str, Any]:
    import builtins

    # `-S` leaves these out, and ordinary programs call them.
    vars(builtins).update(exit=sys.exit, quit=sys.exit)
    sys.set_int_max_str_digits(0)
    names = vars(sys.modules["__main__"])
    names.clear()
    names.update(__name__="__main__", __builtins__=builtins, __file__="main.py", __doc__=None)
    return names


def _main() -> None:
    settings = json.loads(sys.argv[1])
    sys.argv[:] = ["main.py"]
    program = _read(settings["program"])
    # Limits that root may exceed are set before, the count of processes is per user: all hold after the change of user.
    _set_limits(settings["limits"])
    _give_up_privileges(settings["user"])
    os.write(settings["ready"], b"r")
    os.close(settings["ready"])
    exec(compile(program, "main.py", "exec"), _namespace())


if __name__ == "__main__":
    _main()
