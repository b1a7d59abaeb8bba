"""First code of a program in a container: take the program from standard input, set its limits, say so, become it.

Runs as `python -c` from this file's text, with settings as JSON in `sys.argv[1]`; imports nothing but the standard
library. Settings: limits (resource name → value), language, environment (of a C++ program), size (bytes of the program:
Python source, or what the compiler made of C++), boot and filter (the texts of boot.py and seccomp.py, which no image
holds). What follows on standard input is the program's own.
"""

import json
import os
import sys
from types import ModuleType

_STDIN, _STDOUT = 0, 1


def _read_program(size: int) -> bytes:
    program = bytearray()
    while len(program) < size:
        chunk = os.read(_STDIN, min(size - len(program), 1 << 20))
        if not chunk:
            sys.exit("the program did not arrive whole")
        program += chunk
    return bytes(program)


def _module(name: str, text: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(text, f"{name}.py", "exec"), vars(module))
    return module


def _in_memory(binary: bytes) -> int:
    """Descriptor of a file that nobody can write to or find; so /tmp need not allow execution."""
    descriptor = os.memfd_create("main")
    view = memoryview(binary)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def _main() -> None:
    settings = json.loads(sys.argv[1])
    sys.argv[:] = ["main.py"]
    program = _read_program(settings["size"])
    is_binary = settings["language"] == "cpp"
    descriptor = _in_memory(program) if is_binary else -1
    boot, seccomp = _module("boot", settings["boot"]), _module("seccomp", settings["filter"])
    seccomp.refuse_calls(seccomp.filter_program())
    boot.set_limits(settings["limits"])
    os.write(_STDOUT, b"r")
    if is_binary:
        os.execve(descriptor, ["main"], settings["environment"])
    exec(compile(program, "main.py", "exec"), boot.program_namespace())


if __name__ == "__main__":
    _main()
