"""Inside a slot's jail: a Python with the common modules loaded; each program is a fork of it, behind walls of its own.

A program's first process is the only child of an `init` of ours, in a process and mount namespace that the kernel takes
down when init ends: nothing of a program is left for the next. (IPC gets a namespace too where no system-call filter
refuses it.) The host speaks over one socket: `run` with JSON and descriptors, `kill`; it hears `hello`, and `gone` when
nothing of the program runs any more, or `left` when the network, which is the slot's, still holds a connection of it.
Imports nothing but the standard library.
"""

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any, NamedTuple

from infra.sandbox.boot import give_up_privileges, go_first, program_namespace, set_limits
from infra.sandbox.seccomp import filter_program, refuse_calls

# What a program's processes do before it begins touches as little memory as it can: each page that they write to is
# copied, and copies are most of what a start costs. So all that can be made before they are forked is made once, here.
_LIBC = ctypes.PyDLL(None, use_errno=True)

# What programs of contests and benchmarks import; loaded once, so that an import in a program costs microseconds.
PRELOADED = (
    "abc", "array", "bisect", "builtins", "cmath", "collections", "collections.abc", "copy", "dataclasses", "datetime",
    "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "inspect", "io", "itertools", "json", "math",
    "numbers", "operator", "os", "queue", "random", "re", "statistics", "string", "struct", "sys", "textwrap",
    "threading", "time", "traceback", "types", "typing",
)  # fmt: skip
_NEW_NAMESPACES = 0x0002_0000 | 0x2000_0000  # CLONE_NEWNS, CLONE_NEWPID
_NEW_IPC = 0x0800_0000  # CLONE_NEWIPC
_CLONE = {"x86_64": 56, "aarch64": 220}
_PRIVATE, _RECURSIVE, _NO_SETUID, _NO_DEVICES, _NO_EXEC = 1 << 18, 1 << 14, 2, 4, 8
_SET_DUMPABLE = 4
_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_OWN_CAPABILITIES, _NO_CAPABILITIES = (ctypes.c_uint32 * 2)(0x2008_0522, 0), (ctypes.c_uint32 * 6)()
_FLUSH_FAILED = 120  # Python's own exit code for it
_LONGEST_MESSAGE = 65_536
_MOST_DESCRIPTORS = 6
_REPORT_AT, _CONTENT_AT = 100, 101  # above what a program is given, so that nothing is overwritten
_ALL_DESCRIPTORS = 1 << 20
_MOST_FILES = 4096  # of /tmp: an empty file takes kernel memory too


_OURS = tuple(name for name in sys.modules if name.split(".")[0] == "infra")


class Started(NamedTuple):
    """What a forked program is to do once it is behind its walls."""

    content: bytes
    command: list[str] | None
    is_binary: bool
    environment: dict[str, str]


class _Order(NamedTuple):
    settings: dict[str, Any]
    stdio: list[int]
    report: int
    content: int
    passed: list[int]


def serve(control: int) -> Started:
    """Fork programs until the host closes its end. Returns in the fork that is to become a program, only."""
    for name in PRELOADED:
        importlib.import_module(name)
    _LIBC.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    _do_mount("none", "/", "", _PRIVATE | _RECURSIVE, "")  # the namespaces of programs inherit it
    # Without a handler the kernel drops what a program of the same user sends to its namespace's first process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.collect()
    gc.freeze()  # a fork's collector would copy the pages of all that was loaded
    host = socket.socket(fileno=control)
    host.send(b"hello")
    calls = filter_program()
    while True:
        message, descriptors, _, _ = socket.recv_fds(host, _LONGEST_MESSAGE, _MOST_DESCRIPTORS)
        if not message:
            os._exit(0)
        if not message.startswith(b"run "):
            continue  # a late `kill`: the program ended by itself
        order = _order(message, descriptors)
        init = _fork_apart(_NEW_NAMESPACES if calls else _NEW_NAMESPACES | _NEW_IPC)
        if init == 0:
            return _init(host, order, calls)
        for descriptor in descriptors:
            os.close(descriptor)
        _await_end(host, init)
        host.send(b"gone" if _is_network_clean() else b"left")


def _order(message: bytes, descriptors: list[int]) -> _Order:
    return _Order(json.loads(message[4:]), descriptors[:3], descriptors[3], descriptors[4], descriptors[5:])


def _fork_apart(namespaces: int) -> int:
    process: int = _LIBC.syscall(_CLONE[os.uname().machine], namespaces | signal.SIGCHLD, 0, 0, 0, 0)
    if process < 0:
        raise OSError(ctypes.get_errno(), "no namespaces within the jail")
    return process


def _await_end(host: socket.socket, init: int) -> None:
    descriptor = os.pidfd_open(init)
    ends = select.poll()
    ends.register(descriptor, select.POLLIN)
    ends.register(host, select.POLLIN)
    while True:
        ready = [found for found, _ in ends.poll()]
        if descriptor in ready:
            break
        message = host.recv(_LONGEST_MESSAGE)
        os.kill(init, signal.SIGKILL)
        if not message:
            os._exit(0)
    os.close(descriptor)
    os.waitpid(init, 0)


def _is_network_clean() -> bool:
    """False while a closed connection keeps its port, as it does for a minute; and where nobody can tell."""
    rows: list[list[bytes]] = []
    # Not the lists of connections: for them the kernel walks a table as large as the machine.
    for path in ("/proc/net/sockstat", "/proc/net/sockstat6"):
        with suppress(OSError):  # a kernel may have no IPv6
            file = os.open(path, os.O_RDONLY)
            rows += [line.split() for line in os.read(file, _LONGEST_MESSAGE).splitlines() if line.startswith(b"TCP")]
            os.close(file)
    counts = [dict(zip(row[1::2], row[2::2], strict=True)) for row in rows]
    return bool(counts) and all(count.get(b"inuse") == b"0" and count.get(b"tw", b"0") == b"0" for count in counts)


def _init(host: socket.socket, order: _Order, calls: bytes) -> Started:
    """First process of the program's namespace: furnish it, fork the program, tell how it ended."""
    host.detach()
    try:
        _mount(order.settings)
        program = _fork()
        if program == 0:
            return _program(order, calls)
    except BaseException as error:
        os.write(order.report, f"x{type(error).__name__}: {error}"[:1000].encode())
        os._exit(1)
    os.dup2(order.report, 3)
    os.closerange(0, 3)
    os.closerange(4, _ALL_DESCRIPTORS)
    ended = 0
    while ended != program:
        ended, status = os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {"code": os.waitstatus_to_exitcode(status), "cpu_s": used.ru_utime + used.ru_stime, "rss": used.ru_maxrss}
    os.write(3, json.dumps(told).encode())
    os._exit(0)


def _fork() -> int:
    """As `os.fork`, whose hooks would touch as many pages as a small program: no thread and no lock is to be mended."""
    process: int = _LIBC.fork()
    if process < 0:
        raise OSError(ctypes.get_errno(), "no further process")
    if process == 0:
        random.seed()
    return process


def _mount(settings: dict[str, Any]) -> None:
    room = f"size={max(settings['file_bytes'], 4096)},nr_inodes={_MOST_FILES},mode=1777"
    _do_mount("tmpfs", "/tmp", "tmpfs", _NO_SETUID | _NO_DEVICES, room)
    # Without root a kernel may refuse; the outer one shows our own processes, which the program cannot touch.
    with suppress(PermissionError):
        _do_mount("proc", "/proc", "proc", _NO_SETUID | _NO_DEVICES | _NO_EXEC, "")
    os.chdir("/tmp")


def _do_mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    if _LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _program(order: _Order, calls: bytes) -> Started:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _arrange(order)
    is_binary = order.settings["kind"] == "binary"
    content = b"" if is_binary else _read_all(_CONTENT_AT)
    set_limits(order.settings["limits"])
    give_up_privileges(order.settings["user"])
    _drop_capabilities()
    # A change of user made it non-dumpable, and then it could not open /dev/stdin.
    _LIBC.prctl(_SET_DUMPABLE, 1, 0, 0, 0)
    go_first()
    refuse_calls(calls)
    os.write(_REPORT_AT, b"r")
    os.close(_REPORT_AT)
    return Started(content, order.settings["command"], is_binary, order.settings["environment"])


def _drop_capabilities() -> None:
    """Without a change of user the kernel takes none away, and ambient ones outlive exec."""
    if _LIBC.prctl(_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0) != 0 or _LIBC.capset(_OWN_CAPABILITIES, _NO_CAPABILITIES) != 0:
        raise OSError(ctypes.get_errno(), "capabilities are kept")


def _arrange(order: _Order) -> None:
    """The program's descriptors at 0, 1, 2 and 3; report and content above, closed on exec; no others."""
    for descriptor in (order.report, order.content, *order.stdio, *order.passed):
        fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _REPORT_AT)
    os.closerange(0, _REPORT_AT)
    for number in range(len(order.stdio) + len(order.passed)):
        os.dup2(_CONTENT_AT + 1 + number, number)
    os.closerange(_CONTENT_AT + 1, _ALL_DESCRIPTORS)


def _read_all(descriptor: int) -> bytes:
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    return content


def become(started: Started) -> None:
    """Turn into the program; never returns."""
    if started.is_binary:
        os.execve(_CONTENT_AT, ["main"], started.environment)
    if started.command:
        os.execve(started.command[0], started.command, started.environment)
    for name in _OURS:
        del sys.modules[name]
    sys.argv[:] = ["main.py"]
    names = program_namespace()
    code = _run(started.content, names)
    try:
        # As at the end of any script; but freeing every module takes longer than most programs, so that is left out.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for name in [name for name in names if name != "__builtins__"]:
            names[name] = None
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or _FLUSH_FAILED
    finally:
        os._exit(code)


def _run(content: bytes, names: dict[str, Any]) -> int:
    try:
        exec(compile(content, "main.py", "exec"), names)
    except SystemExit as leave:
        return _exit_code(leave.code)
    except BaseException as error:
        below = error.__traceback__.tb_next if error.__traceback__ else None
        sys.excepthook(type(error), error.with_traceback(below), below)
        return 1
    return 0


def _exit_code(code: object) -> int:
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1
