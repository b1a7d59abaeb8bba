"""First code of a program in a container: take the program from standard input, set its limits, say so, become it.

Runs as `python -c` from this file's text, with settings as JSON in `sys.argv[1]`; imports nothing but the standard
library. Settings: limits (resource name → value), language, environment (of a C++ program), size (bytes of the program:
Python source, or what the compiler made of C++), filter (the text of seccomp.py, which no image holds). What follows on
standard input is the program's own.
"""

import json
import os
import resource
import sys
from typing import Any

_STDIN, _STDOUT = 0, 1


def _read_program(size: int) -> bytes:
    program = bytearray()
    while len(program) < size:
        chunk = os.read(_STDIN, min(size - len(program), 1 << 20))
        if not chunk:
            sys.exit("the program did not arrive whole")
        program += chunk
    return bytes(program)


def _set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # One second between soft and hard, so that the soft limit's signal tells why the program ended.
        over = soft + 1 if name == "RLIMIT_CPU" and hard == resource.RLIM_INFINITY else soft
        resource.setrlimit(kind, (soft, over))


def _refuse_calls(source: str) -> None:
    filter_module: dict[str, Any] = {"__name__": "seccomp"}
    exec(compile(source, "seccomp.py", "exec"), filter_module)
    filter_module["refuse_calls"](filter_module["filter_program"]())


def _in_memory(binary: bytes) -> int:
    """Descriptor of a file that nobody can write to or find; so /tmp need not allow execution."""
    descriptor = os.memfd_create("main")
    view = memoryview(binary)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


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
    program = _read_program(settings["size"])
    is_binary = settings["language"] == "cpp"
    descriptor = _in_memory(program) if is_binary else -1
    _refuse_calls(settings["filter"])
    _set_limits(settings["limits"])
    os.write(_STDOUT, b"r")
    if is_binary:
        os.execve(descriptor, ["main"], settings["environment"])
    exec(compile(program, "main.py", "exec"), _namespace())


if __name__ == "__main__":
    _main()
