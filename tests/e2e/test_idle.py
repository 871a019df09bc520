"""What an idle cluster of two nodes costs."""

from __future__ import annotations

import os
import time

from tests.e2e.cluster import Cluster
from tests.e2e.test_lifecycle import supervisor

from twinstack.cluster.status import proportional_size

MEMORY = 350 * 1024  # KiB, proportional set sizes of all parts and the supervisor
CPU = 0.03  # of a core
SETTLE, WATCH = 3.0, 8.0  # seconds


def processor_time(pid: int) -> float:
    """Seconds of user and system time that a process has used."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watched(pids: dict[str, int]) -> dict[str, float]:
    """What part of a core each process uses."""
    before = {name: processor_time(pid) for name, pid in pids.items()}
    time.sleep(WATCH)
    return {name: round((processor_time(pid) - before[name]) / WATCH, 4) for name, pid in pids.items()}


def test_an_idle_cluster_is_small_and_quiet(dual: Cluster) -> None:
    pids = {part["name"]: part["pid"] for part in dual.status()["parts"]} | {"supervisor": supervisor(dual)}
    time.sleep(SETTLE)
    used = watched(pids)
    for _ in range(2):  # it may not have been idle yet
        if sum(used.values()) > CPU:
            used = watched(pids)
    sizes = {name: proportional_size(pid) or 0 for name, pid in pids.items()}
    print(f"PSS {sum(sizes.values()) / 1024:.0f} MiB {sizes}; CPU {sum(used.values()):.2%} {used}")
    assert sum(sizes.values()) <= MEMORY, sizes
    assert sum(used.values()) <= CPU, used
