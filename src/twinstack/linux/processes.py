"""Processes that outlive the one that started them: identity, signals, end (pidfd_open(2), proc(5)).

A process number is used again after its process has gone. A process is therefore named by its number and the
time it started at; a signal goes through a descriptor that was checked against both.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NamedTuple

from twinstack.linux import procfs


class Process(NamedTuple):
    """One process of this boot. `started` is in clock ticks since boot."""

    pid: int
    started: int


def identify(pid: int) -> Process | None:
    """The process that has this number now; None when there is none, or only its zombie."""
    found = procfs.state_and_start(pid)
    if found is None or found[0] in "ZX":
        return None
    return Process(pid, found[1])


def is_alive(process: Process) -> bool:
    """Whether it still runs; a zombie does not."""
    return identify(process.pid) == process


def open_descriptor(process: Process) -> int | None:
    """A pidfd, readable once the process has ended; None when it has ended already. The caller closes it."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if identify(process.pid) == process:
        return descriptor
    os.close(descriptor)
    return None


def send_signal(process: Process, number: signal.Signals | int) -> bool:
    """Signal it; False when it has ended already."""
    descriptor = open_descriptor(process)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def signal_group(pid: int, number: signal.Signals | int) -> None:
    """Signal a process and its group, also one that another leads, who is then spared.

    Raises ProcessLookupError when it has ended already.
    """
    group = os.getpgid(pid)
    if group == pid:
        os.killpg(pid, number)
        return
    for other in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        if other != group and procfs.group(other) == group:
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, number)


def boot_id() -> str:
    """Differs after every start of the machine, so that what was recorded before is known to be gone."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
