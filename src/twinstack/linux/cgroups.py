"""Control groups of version 1, below the calling process's own: limits of memory and CPU (cgroups(7)).

Groups are made below one's own group, never at the root, so that what limits the maker limits what it makes, too.
The process that is left beside every container runs this, so it imports little.
"""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONTROLLERS = ("memory", "cpu")
_PERIOD = 100_000  # microseconds in which a CPU limit counts
_SMALLEST_QUOTA = 1_000
_ATTEMPTS, _PAUSE = 20, 0.005  # a group empties a moment after its last process


def own(name: str) -> dict[str, str]:
    """By controller, the directory `name` below the calling process's own group; only those that can be made."""
    points = _mount_points()
    found: dict[str, str] = {}
    with open("/proc/self/cgroup", encoding="ascii") as lines:
        for line in lines:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                if controller in CONTROLLERS and controller in points:
                    root, point = points[controller]
                    below = path.removeprefix(root) if root != "/" else path
                    group = f"{point}/{below.strip('/')}".rstrip("/")
                    if os.access(f"{group}/cgroup.procs", os.W_OK):
                        found[controller] = f"{group}/{name}"
    return found


def _mount_points() -> dict[str, tuple[str, str]]:
    """By controller of version 1, the group that is shown and where."""
    found: dict[str, tuple[str, str]] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            front, _, back = line.rstrip("\n").partition(" - ")
            kind, _, options = back.split(" ", 2)
            if kind == "cgroup":
                _, _, _, root, point, *_ = front.split(" ")
                for option in options.split(","):
                    if option in CONTROLLERS:
                        found.setdefault(option, (root, point))
    return found


def create(parents: Mapping[str, str], name: str, *, memory: int, cpu: int, shares: int) -> list[str]:
    """Make a group below each of the directories that `own` gave, for limits that are not zero; returns their paths.

    `memory` in bytes, `cpu` in thousandths. Raises OSError; then none is left.
    """
    made: list[str] = []
    try:
        if memory and "memory" in parents:
            group = _make(parents["memory"], name, made)
            _write(f"{group}/memory.limit_in_bytes", memory)
            if os.path.exists(f"{group}/memory.memsw.limit_in_bytes"):
                _write(f"{group}/memory.memsw.limit_in_bytes", memory)  # no more by way of swap
        if (cpu or shares) and "cpu" in parents:
            group = _make(parents["cpu"], name, made)
            if cpu:
                _write(f"{group}/cpu.cfs_period_us", _PERIOD)
                _write(f"{group}/cpu.cfs_quota_us", max(_SMALLEST_QUOTA, cpu * _PERIOD // 1000))
            if shares:
                _write(f"{group}/cpu.shares", shares)
    except BaseException:
        remove(made)
        raise
    return made


def _make(parent: str, name: str, made: list[str]) -> str:
    """The parent goes with the last group in it, perhaps just now."""
    group = f"{parent}/{name}"
    for _ in range(_ATTEMPTS):
        try:
            os.makedirs(group, exist_ok=True)
        except FileNotFoundError:
            continue
        made.append(group)
        return group
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), group)


def open_members(groups: Sequence[str]) -> list[int]:
    """Descriptors by which a process joins, however it sees files by then: by writing `0`."""
    return [os.open(f"{group}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for group in groups]


def join(groups: Sequence[str], pid: int) -> None:
    """Move a process. What it has used already stays with its old group. Raises OSError."""
    for group in groups:
        _write(f"{group}/cgroup.procs", pid)


def oom_kills(groups: Sequence[str]) -> int:
    """How many processes of the groups were killed because memory ran out."""
    kills = 0
    for group in groups:
        try:
            with open(f"{group}/memory.oom_control", encoding="ascii") as lines:
                kills += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        except FileNotFoundError:
            continue  # a group of another controller
    return kills


def remove(groups: Sequence[str]) -> None:
    """Remove groups in which nothing runs; what is still busy after a while stays. Idempotent."""
    for group in groups:
        for _ in range(_ATTEMPTS):
            try:
                os.rmdir(group)
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(_PAUSE)
            else:
                _remove_empty(os.path.dirname(group))
                break


def _remove_empty(group: str) -> None:
    try:
        os.rmdir(group)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT):
            raise


def _write(path: str, value: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"%d" % value)
    except OSError as error:
        raise OSError(error.errno, f"{os.strerror(error.errno or 0)}: {value}", path) from error
    finally:
        os.close(descriptor)
