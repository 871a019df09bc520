"""System calls that Python 3.11 does not wrap: namespaces, the host name."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000


def check(result: int, what: str) -> int:
    """Return a system call's result. Raises OSError, with `what` in its text, for a negative one."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (CLONE_NEWPID: its children)."""
    check(libc.unshare(flags), "unshare namespaces")


def set_hostname(name: str) -> None:
    """Set the host name of the calling thread's UTS namespace."""
    encoded = name.encode()
    check(libc.sethostname(encoded, len(encoded)), f"set host name {name}")
