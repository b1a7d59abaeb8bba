"""System calls that no jailed program needs, and that reach the kernel's less proven parts: refused by a filter.

Imports nothing but the standard library, since it also runs inside jails. Machines that are not listed have no filter;
the other walls stand there too.
"""

import ctypes
import os
import struct
from typing import NamedTuple

_NEW_NAMESPACES = 0x7E02_0000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_FOREIGN_NUMBERS = 0x4000_0000  # the x32 calls of x86-64, which nobody uses
# unix, inet, inet6: inside the jail's own network. Others are not all kept apart by namespaces: vsock reaches the host.
_FAMILIES = (1, 2, 10)
_SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Machine(NamedTuple):
    architecture: int
    clone: int
    socket: int
    refused: tuple[int, ...]


# io_uring, mounts by descriptor (open_tree_attr is the last) and pidfd_getfd have the same numbers everywhere.
_SHARED = (425, 426, 427, 428, 429, 430, 431, 432, 433, 435, 438, 442, 467)
_CLONE3 = 435
_MACHINES = {
    # ptrace, process_vm_readv, process_vm_writev, unshare, setns, mount, umount2, pivot_root, chroot, add_key,
    # request_key, keyctl, bpf, perf_event_open, userfaultfd, name_to_handle_at, open_by_handle_at, kexec_load,
    # init_module, finit_module, delete_module, swapon, swapoff, reboot, acct, quotactl, syslog, kcmp; shmget, semget,
    # msgget, mq_open: no limit of a process counts what they hold, and that outlives the process
    "x86_64": _Machine(
        0xC000_003E, 56, 41,
        (101, 310, 311, 272, 308, 165, 166, 155, 161, 248, 249, 250, 321, 298, 323, 303, 304, 246, 175, 313, 176, 167,
         168, 169, 163, 179, 103, 312, 29, 64, 68, 240, *_SHARED),
    ),
    "aarch64": _Machine(
        0xC000_00B7, 220, 198,
        (117, 270, 271, 97, 268, 40, 39, 41, 51, 217, 218, 219, 280, 241, 282, 264, 265, 104, 105, 273, 106, 224, 225,
         142, 89, 60, 116, 272, 194, 190, 186, 180, *_SHARED),
    ),
}  # fmt: skip


def filter_program(machine: str = os.uname().machine) -> bytes:
    """The filter in the kernel's form (struct sock_filter); empty for a machine that is not listed."""
    known = _MACHINES.get(machine)
    if known is None:
        return b""
    steps = [_step(_LOAD, _MACHINE_AT), _step(_EQUAL, known.architecture, 1, 0), _step(_RETURN, _KILL)]
    steps += [_step(_LOAD, _NUMBER_AT), _step(_AT_LEAST, _FOREIGN_NUMBERS, 0, 1), _step(_RETURN, _ERRNO | _EPERM)]
    for number in known.refused:
        # glibc tries the older clone when this one is unknown; the filter cannot read the newer one's flags.
        error = _ENOSYS if number == _CLONE3 else _EPERM
        steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERRNO | error)]
    steps += [
        _step(_EQUAL, known.clone, 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT_AT),
        _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1),
    ]
    steps += [_step(_RETURN, _ERRNO | _EPERM), _step(_RETURN, _ALLOW)]
    steps += [_step(_EQUAL, known.socket, 1, 0), _step(_RETURN, _ALLOW), _step(_LOAD, _FIRST_ARGUMENT_AT)]
    for family in _FAMILIES:
        steps += [_step(_EQUAL, family, 0, 1), _step(_RETURN, _ALLOW)]
    return b"".join([*steps, _step(_RETURN, _ERRNO | _EAFNOSUPPORT)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def refuse_calls(program: bytes) -> None:
    """Hold this process and its children to a filter, for good; no program in it gains privileges by exec.

    Raises:
        OSError: the kernel takes no filter.
    """
    if _LIBC.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if program:
        wanted = _Filter(len(program) // 8, program)
        if _LIBC.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.byref(wanted), 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "seccomp filter")
