"""System calls that Python 3.11 does not wrap: mounts, namespaces, process attributes.

Imports nothing but ctypes and os: the process that is left beside every container runs this.
"""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4


def check(result: int, what: str) -> int:
    """Return a system call's result. Raises OSError, with `what` in its text, for a negative one."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (CLONE_NEWPID: its children)."""
    check(libc.unshare(flags), "unshare namespaces")


def enter_namespace(path: str, kind: int) -> None:
    """Move the calling thread into the namespace of type `kind` that is pinned at `path`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(libc.setns(descriptor, kind), f"enter namespace {path}")
    finally:
        os.close(descriptor)


def enter_process(descriptor: int) -> None:
    """Move the calling process, which must have one thread, to where the process of a pidfd is: files, host name,
    IPC, network, and for its children the PID namespace (setns(2), Linux 5.8)."""
    kinds = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID
    check(libc.setns(descriptor, kinds), "enter the container's namespaces")


def set_hostname(name: str) -> None:
    """Set the host name of the calling thread's UTS namespace."""
    encoded = name.encode()
    check(libc.sethostname(encoded, len(encoded)), f"set host name {name}")


def prctl(option: int, argument: int = 0) -> None:
    """Change an attribute of the calling process (prctl(2))."""
    check(
        libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)),
        f"prctl {option}",
    )
