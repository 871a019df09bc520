"""Kernel parameters of the calling thread's network namespace (sysctl(8), Documentation/networking/ip-sysctl).

`/proc/sys/net` shows the namespace of the thread that opens it, so a parameter of another namespace is
written by a thread inside it (`namespaces.inside`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

ROOT = "/proc/sys/"
_LONGEST = 4096


def read(name: str) -> str:
    """The value of `net/ipv4/ip_forward` and the like. Raises OSError."""
    descriptor = os.open(ROOT + name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LONGEST).decode("ascii").strip()
    finally:
        os.close(descriptor)


def write(values: Mapping[str, str]) -> None:
    """Set parameters, in order. Raises OSError naming the one that failed."""
    for name, value in values.items():
        descriptor = os.open(ROOT + name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        except OSError as error:
            raise OSError(error.errno, f"set {name}={value}: {os.strerror(error.errno or 0)}") from error
        finally:
            os.close(descriptor)


def write_changed(values: Mapping[str, str]) -> None:
    """Set only parameters that differ, so that a file system that is read-only but right is no error."""
    write({name: value for name, value in values.items() if read(name) != value})
