"""Removes whatever a cluster has left on the machine, whether or not its parts still know of it."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from twinstack.cluster import network
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import DEFAULT_HOME, RUN, ClusterPaths
from twinstack.linux import cgroups, mounts, namespaces, processes
from twinstack.linux.processes import Process

CGROUPS = "cgroups"  # file in a node's directory: where its containers have their control groups
_ROUNDS = 5  # of killing, because a process may start another one while it is found
_ROUND = 1.0  # seconds for the killed of one round to end


def sweep(paths: ClusterPaths) -> None:
    """End the cluster's processes, detach its mounts, free its namespaces, delete its files. Idempotent."""
    _end(lambda: cluster_processes(paths))
    for directory in (paths.root, paths.run):
        mounts.unmount_below(str(directory))
    for record in paths.root.glob(f"nodes/*/{CGROUPS}"):
        _remove_groups(record)
    network.remove(paths)
    for directory in (paths.root, paths.run):
        _delete(directory)
    with contextlib.suppress(OSError):  # other clusters' sockets are there
        RUN.rmdir()
    if paths.root.parent == DEFAULT_HOME:
        with contextlib.suppress(OSError):  # other clusters' state is there
            DEFAULT_HOME.rmdir()


def sweep_node(paths: ClusterPaths, index: int) -> None:
    """The same for one node whose parts have ended. Idempotent."""
    pinned = paths.node_namespaces(index)
    _end(lambda: _processes_in(pinned))
    for directory in (paths.node_root(index), paths.node_run(index)):
        mounts.unmount_below(str(directory))
    _remove_groups(paths.node_root(index) / CGROUPS)
    for path in pinned:
        namespaces.remove(path)
    for directory in (paths.node_run(index), paths.node_root(index)):
        _delete(directory)


def _remove_groups(record: Path) -> None:
    """The control groups of a node's containers, and whatever still runs in them."""
    directories = cgroups.recorded(record)
    cgroups.kill(directories)
    if not cgroups.remove(directories):
        raise ClusterError(f"processes in {directories[0]} do not end", "end them, then run this command again")


def _delete(directory: Path) -> None:
    """Delete a tree, never through a mount: pods see the host's files in places below."""
    left = mounts.mounted(str(directory))
    if left:
        raise ClusterError(
            f"{left[0][0]} is still mounted, so {directory} is kept",
            f"`umount {left[0][0]}`, then run this command again",
        )
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def _end(find: Callable[[], Iterator[Process]]) -> None:
    """SIGKILL everything that is found until nothing is."""
    for _ in range(_ROUNDS):
        found = list(find())
        if not found:
            return
        _kill(found)
    names = ", ".join(str(process.pid) for process in found)
    raise ClusterError(f"processes of the cluster do not end: {names}", "end them, then run this command again")


def _kill(found: list[Process]) -> None:
    """Kill and wait until all have ended, at most for a round."""
    poll = select.poll()
    with contextlib.ExitStack() as stack:
        waiting = 0
        for process in found:
            descriptor = processes.open_descriptor(process)
            if descriptor is None:
                continue
            stack.callback(os.close, descriptor)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                poll.register(descriptor, select.POLLIN)
                waiting += 1
        deadline = time.monotonic() + _ROUND
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                poll.unregister(descriptor)
                waiting -= 1


def cluster_processes(paths: ClusterPaths) -> Iterator[Process]:
    """Processes in the cluster's namespaces, and its parts and supervisor in the host's; zombies and we excepted."""
    return _processes_in(paths.namespaces(), lambda pid: _is_part(pid, paths))


def _processes_in(pinned: Sequence[Path], also: Callable[[str], bool] = lambda pid: False) -> Iterator[Process]:
    own = {path.stat().st_ino for path in pinned}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            belongs = os.stat(f"/proc/{entry}/ns/net").st_ino in own or also(entry)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended, or it is so well protected that it is none of ours
        process = processes.identify(int(entry)) if belongs else None
        if process is not None:
            yield process


def _is_part(pid: str, paths: ClusterPaths) -> bool:
    """A part is started with a file of this cluster, which no program of a person is."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().decode(errors="replace").split("\0")[:-1]
    if words[-3:-2] in (["supervise"], ["follow"]) and words[-2:] == ["--name", paths.name]:
        return True
    return any(word.startswith(f"{paths.kubeconfigs}/") or word == str(paths.database) for word in words[2:])
