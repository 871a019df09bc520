"""Makes a control group that limits all that is below it, in both versions (cgroups(7), the kernel's cgroup-v2)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import NamedTuple

from twinstack.linux.cgroups import LIMITABLE, Place, words

PERIOD = 100_000  # microseconds in which a limit of CPU counts
SMALLEST_QUOTA = 1_000


class Amounts(NamedTuple):
    """Memory in bytes, CPU in thousandths, shares of CPU when that runs short, processes. Zero: no limit."""

    memory: int = 0
    cpu: int = 0
    shares: int = 0
    processes: int = 0


def make(place: Place, name: str, amounts: Amounts) -> None:
    """The group `name` in a place, which may be there already. Raises OSError."""
    for directory in dict.fromkeys(place.by_controller.values()):
        os.makedirs(f"{directory}/{name}", exist_ok=True)
        if place.unified:
            hand_down(os.path.dirname(directory))
            hand_down(directory)
    for controller, values in settings(amounts, unified=place.unified).items():
        if controller not in place.by_controller:
            continue
        group = f"{place.by_controller[controller]}/{name}"
        for file, value in values.items():
            _write(f"{group}/{file}", value)


def hand_down(group: str) -> None:
    """Let groups right below this one have its controllers (version 2)."""
    given = words(f"{group}/cgroup.subtree_control")
    for controller in words(f"{group}/cgroup.controllers"):
        if controller in LIMITABLE and controller not in given:
            _write(f"{group}/cgroup.subtree_control", f"+{controller}")


def settings(amounts: Amounts, *, unified: bool) -> dict[str, Mapping[str, str]]:
    """By controller, what is written to which file of a group. Pure."""
    quota = max(SMALLEST_QUOTA, amounts.cpu * PERIOD // 1000)
    memory, cpu, pids = dict[str, str](), dict[str, str](), dict[str, str]()
    if amounts.memory:
        memory["memory.max" if unified else "memory.limit_in_bytes"] = str(amounts.memory)
    if amounts.shares and unified:
        cpu["cpu.weight"] = str(weight(amounts.shares))
    elif amounts.shares:
        cpu["cpu.shares"] = str(amounts.shares)
    if amounts.cpu and unified:
        cpu["cpu.max"] = f"{quota} {PERIOD}"
    elif amounts.cpu:
        cpu |= {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": str(quota)}
    if amounts.processes:
        pids["pids.max"] = str(amounts.processes)
    return {"memory": memory, "cpu": cpu, "pids": pids}


def weight(shares: int) -> int:
    """What version 2 has in place of shares: 2 is 1, 1024 is 100, 262144 is 10000, and a curve through them (OCI)."""
    power = math.log2(min(max(shares, 2), 262144))
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
