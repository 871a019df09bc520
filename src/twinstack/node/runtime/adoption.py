"""What is left of containers: taken up if it runs, cleared away if not, at whatever step its makers were killed.

A container is made in this order: directory, overlay, `config.json`, `container.json`, conmon (holding the lock), the
runtime's state and control groups, `process`, the start. Everything blocks.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import NamedTuple

from twinstack.linux import cgroups, mounts, processes
from twinstack.node.runtime import execution
from twinstack.node.runtime.base import pod_group
from twinstack.node.runtime.engine import Engine
from twinstack.node.runtime.overlay import RootDirectory
from twinstack.node.runtime.records import ContainerDirectory, Exit, Layout, Record, Running

_STEP, _STEPS = 0.005, 2000  # how long those who are killed may take to go
_SAID = 400  # steps in which a conmon that has just been started says who it is


class Found(NamedTuple):
    """A container of an earlier agent: one that runs, or has ended."""

    record: Record
    running: Running | None
    end: Exit | None


def look(engine: Engine, layout: Layout, directory: ContainerDirectory) -> Found | None:
    """None for one that never ran: nothing of it is left then."""
    record, running = directory.record(), directory.running()
    lives = running is not None and processes.is_alive(running.monitor)
    end = directory.exit()
    groups = layout.group_directories()
    if record is not None and end is not None:
        if engine.knows(directory.key.id) or cgroups.exists(groups, directory.key.group):
            clear(engine, layout, directory)
        return Found(record, running, end)
    if record is None or running is None or engine.waits(directory.key.id):
        discard(engine, layout, directory)
        return None
    if lives:
        execution.end_all(directory, cgroups.members(groups, directory.key.group))
        return Found(record, running, None)
    processes.send_signal(running.first, signal.SIGKILL)
    clear(engine, layout, directory)
    return Found(record, running, directory.write_unknown_exit())


def clear(engine: Engine, layout: Layout, directory: ContainerDirectory) -> None:
    """Kill what is left of an ended container, and have the runtime and the kernel forget it; its records stay.

    Idempotent. Raises RuntimeFailure, OSError.
    """
    key, groups = directory.key, layout.group_directories()
    if cgroups.exists(groups, key.group):
        cgroups.kill(groups, key.group)
    engine.delete(key.id)
    if not cgroups.remove(groups, key.group):
        raise OSError(f"a process of container {key.id} cannot be killed")
    RootDirectory(directory.path).unmount()


def discard(engine: Engine, layout: Layout, directory: ContainerDirectory) -> None:
    """Leave nothing of a container, whatever state it is in, but its log. Idempotent. Raises as `clear`."""
    if not directory.path.is_dir():
        return
    groups = layout.group_directories()
    for step in range(_STEPS):
        if not directory.is_locked():
            break
        if _kill_monitor(directory) or step > _SAID:
            cgroups.kill(groups, directory.key.group)
        time.sleep(_STEP)
    clear(engine, layout, directory)
    RootDirectory(directory.path).remove()
    directory.remove()


def remove_group(layout: Layout, uid: str) -> None:
    """Of a pod whose containers have ended, with whatever is still in it. Idempotent. Raises OSError."""
    groups, group = layout.group_directories(), pod_group(uid)
    if cgroups.exists(groups, group) and not (cgroups.kill(groups, group) and cgroups.remove(groups, group)):
        raise OSError(f"a process of pod {uid} cannot be killed")


def destroy(layout: Layout) -> bool:
    """Kill every container of a node and those who keep it; False if any stays. Needs no runtime. Files stay."""
    groups = layout.group_directories()
    directories = [directory for uid in layout.pod_uids() for directory in layout.containers(uid)]
    for _ in range(_STEPS):
        cgroups.kill(groups)
        directories = [directory for directory in directories if directory.is_locked()]
        if not directories:
            break
        for directory in directories:
            _kill_monitor(directory)
        time.sleep(_STEP)
    return cgroups.remove(groups) and not directories


def unmount_roots(layout: Layout) -> None:
    """Of containers that were being made."""
    below = f"{layout.pods.resolve()}/"
    for point, _ in reversed(mounts.mounted(str(layout.pods.resolve()))):
        if "/containers/" in point.removeprefix(below):
            mounts.unmount(point)


def _kill_monitor(directory: ContainerDirectory) -> bool:
    """False while nobody knows which process it is."""
    monitor = directory.monitor_pid()
    if monitor is not None and _speaks_of(monitor, directory.key.id):
        with suppress(ProcessLookupError):
            os.kill(monitor, signal.SIGKILL)
    return monitor is not None


def _speaks_of(pid: int, identity: str) -> bool:
    """Whether a process has a container's name among its words: its number may be another's by now."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return identity.encode() in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False
