"""The system calls that a container may make, as an OCI runtime takes them (runtime-spec, linux.seccomp). Pure.

`seccomp.txt` has the names; what depends on arguments is here.
"""

from __future__ import annotations

import functools
from collections.abc import Set
from importlib import resources
from typing import Any

ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
    "s390x": ["SCMP_ARCH_S390", "SCMP_ARCH_S390X"],
}
# Of personality(2): Linux, 32 bits, no randomised addresses, both, and the question which one it is.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_NEW_NAMESPACES = 0x7E020000  # the flags of clone(2) for mount, UTS, IPC, user, PID, network and cgroup namespaces
_ENOSYS = 38


def default_profile(capabilities: Set[str], machine: str) -> dict[str, Any]:
    """For a container with these capabilities (without `CAP_`) on a machine of this architecture (uname -m)."""
    table = _table()
    names = {*table["*"], *table.get(machine, ())}
    for capability in capabilities:
        names.update(table.get(f"CAP_{capability}", ()))
    calls: list[dict[str, Any]] = [{"names": sorted(names), "action": "SCMP_ACT_ALLOW"}]
    calls += [_allow_if("personality", "SCMP_CMP_EQ", value) for value in _PERSONALITIES]
    if "SYS_ADMIN" not in capabilities:
        flags = 1 if machine.startswith("s390") else 0  # where clone(2) takes them
        calls.append(_allow_if("clone", "SCMP_CMP_MASKED_EQ", _NEW_NAMESPACES, index=flags))
        # Its flags cannot be looked at: libraries try clone() when it seems to be missing.
        calls.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ARCHITECTURES.get(machine, []),
        "syscalls": calls,
    }


def _allow_if(name: str, operator: str, value: int, index: int = 0) -> dict[str, Any]:
    condition = {"index": index, "value": value, "valueTwo": 0, "op": operator}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]}


@functools.cache
def _table() -> dict[str, list[str]]:
    """Names by who may use them."""
    found: dict[str, list[str]] = {}
    words: list[str] = []
    for line in resources.files(__package__ or "").joinpath("seccomp.txt").read_text().splitlines():
        if line.endswith(":"):
            words = found[line[:-1]] = []
        elif line.startswith(" "):
            words += line.split()
    return found
