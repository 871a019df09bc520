"""Linux capabilities of the calling process (capabilities(7)).

Imports nothing but `syscalls`: the process that is left beside every container runs this.
"""

from __future__ import annotations

import ctypes
import struct

from twinstack.linux.syscalls import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    check,
    libc,
    prctl,
)

NAMES = [  # in the kernel's order
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]

# What container engines grant by default.
DEFAULT = frozenset(
    {
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    }
)

_VERSION_3 = 0x20080522


def numbers(names: frozenset[str] | set[str]) -> list[int]:
    """The kernel's numbers of capability names (without `CAP_`). Raises ValueError for an unknown name."""
    unknown = sorted(names.difference(NAMES))
    if unknown:
        raise ValueError(f"unknown capabilities: {', '.join(unknown)}")
    return [number for number, name in enumerate(NAMES) if name in names]


def effective() -> frozenset[str]:
    """What the calling process may do now, without `CAP_`."""
    with open("/proc/self/status", encoding="ascii") as file:
        bits = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return frozenset(name for number, name in enumerate(NAMES) if bits >> number & 1)


def limit_bounding(keep: list[int]) -> None:
    """Give up all capabilities but `keep` for every program executed from now on."""
    for number in range(_last() + 1):
        if number not in keep:
            prctl(PR_CAPBSET_DROP, number)


def set_own(keep: list[int]) -> None:
    """Hold exactly `keep` as effective and permitted, and pass none on through the inheritable set."""
    bits = sum(1 << number for number in keep)
    header = struct.pack("=Ii", _VERSION_3, 0)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    check(libc.prctl(PR_CAP_AMBIENT, ctypes.c_ulong(PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0), "clear ambient capabilities")
    check(libc.capset(ctypes.create_string_buffer(header), ctypes.create_string_buffer(data)), "set capabilities")


def _last() -> int:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())
