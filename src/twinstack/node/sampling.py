"""What a node, its pods and their containers have used, read when somebody asks; answers are good for a few seconds.

Nothing is read while nobody asks. Rates are between the last two readings, so the first one has none.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from twinstack.api import core
from twinstack.linux import namespaces
from twinstack.linux.cgroupusage import Usage
from twinstack.node.network import Network
from twinstack.node.runtime.base import Container, ContainerKey, Phase, Runtime

GOOD_FOR = 5.0  # seconds
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Interface(NamedTuple):
    """Bytes and errors since it is there."""

    name: str
    received: int
    receive_errors: int
    sent: int
    send_errors: int


class Disk(NamedTuple):
    """Bytes and inodes of a file system."""

    capacity: int
    available: int
    used: int
    inodes: int
    inodes_free: int


class PodReading(NamedTuple):
    """`own`: of its control group; None where there is none. `network`: None on the node's network or without one."""

    pod: core.Pod
    own: Usage | None
    containers: Sequence[tuple[Container, Usage]]
    network: Sequence[Interface] | None


class Reading(NamedTuple):
    """`time` in Unix seconds; `node` is the machine's, `pods` by uid."""

    time: float
    booted: float
    node: Usage
    network: Sequence[Interface]
    disk: Disk
    pods: Mapping[str, PodReading]


class Agent(Protocol):
    pods: dict[str, core.Pod]
    network: Network
    runtime: Runtime


class Sampler:
    """Of one node; `root` is where pods' files are."""

    def __init__(self, agent: Agent, root: Path) -> None:
        self._agent = agent
        self._root = root
        self._lock = asyncio.Lock()
        self._last: Reading | None = None
        self._before: Reading | None = None
        self._seen: set[ContainerKey] = set()  # what ran then: what has come since is not left out

    async def read(self) -> tuple[Reading, Reading | None]:
        """The present, and what was before it."""
        async with self._lock:
            pods = list(self._agent.pods.values())
            runs = {pod.metadata.uid: self._agent.runtime.containers(pod.metadata.uid) for pod in pods}
            last = self._last
            is_good = last is not None and 0 <= time.time() - last.time < GOOD_FOR
            if last is None or not is_good or _running(runs) != self._seen:
                self._seen = _running(runs)
                self._last = await asyncio.to_thread(self._read, pods, runs)
                if not is_good:
                    self._before = last
            assert self._last is not None
            return self._last, self._before

    def _read(self, pods: Sequence[core.Pod], runs: Mapping[str, Sequence[Container]]) -> Reading:
        disk = os.statvfs(self._root)
        size = disk.f_frsize
        return Reading(
            time=time.time(),
            booted=_statistics("btime"),
            node=_machine(),
            network=interfaces(Path("/proc/self/net/dev").read_text()),
            disk=Disk(
                disk.f_blocks * size,
                disk.f_bavail * size,
                (disk.f_blocks - disk.f_bfree) * size,
                disk.f_files,
                disk.f_ffree,
            ),
            pods={pod.metadata.uid: self._read_pod(pod, runs[pod.metadata.uid]) for pod in pods},
        )

    def _read_pod(self, pod: core.Pod, runs: Sequence[Container]) -> PodReading:
        uid, runtime = pod.metadata.uid, self._agent.runtime
        running = [(run, runtime.usage(run.key)) for run in runs if run.phase is Phase.RUNNING]
        network = None
        if running and not pod.spec.host_network:
            network = _network(self._agent.network.path(uid))
        used = [(run, usage) for run, usage in running if usage is not None]
        return PodReading(pod, runtime.pod_usage(uid), used, network)


def _running(runs: Mapping[str, Sequence[Container]]) -> set[ContainerKey]:
    return {run.key for each in runs.values() for run in each if run.phase is Phase.RUNNING}


def _network(path: Path) -> list[Interface] | None:
    try:
        text = namespaces.inside(path, lambda: Path("/proc/thread-self/net/dev").read_text())
    except OSError:  # it has just gone
        return None
    return interfaces(text)


def interfaces(text: str) -> list[Interface]:
    """Of a /proc/net/dev, without the loopback."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        values = [int(value) for value in rest.split()]
        if name.strip() != "lo":
            found.append(Interface(name.strip(), values[0], values[2], values[8], values[10]))
    return found


def _machine() -> Usage:
    """All that runs on it: what is not free and not a file that can be forgotten is its working set."""
    memory = _table("/proc/meminfo")
    faults = _table("/proc/vmstat")
    used = (memory["MemTotal"] - memory["MemFree"]) << 10
    return Usage(
        cpu=_statistics("cpu") * _TICK,
        memory=used,
        working_set=max(0, used - (memory.get("Inactive(file)", 0) << 10)),
        resident=memory.get("AnonPages", 0) << 10,
        faults=faults.get("pgfault", 0),
        major_faults=faults.get("pgmajfault", 0),
        limit=memory["MemTotal"] << 10,
    )


def _table(path: str) -> dict[str, int]:
    pairs = (line.replace(":", " ").split() for line in Path(path).read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}


def _statistics(name: str) -> int:
    """Of /proc/stat: `btime`, or ticks of work of all processors."""
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words and words[0] == name:
            user, nice, system, _idle, _wait, *rest = (int(word) for word in (words[1:] + ["0"] * 8)[:8])
            return user if name == "btime" else user + nice + system + sum(rest)
    return 0
