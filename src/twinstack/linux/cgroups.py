"""Control groups of both versions: where containers may be put, who is in a group, how one is removed (cgroups(7)).

Groups are made below one's own group, never at the root, so that what limits the maker limits what it makes, too. In
version 2 a group that holds processes can give its controllers to no group below it; then the nearest group above that
does give them is taken.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

LIMITABLE = ("memory", "cpu", "pids")
_ATTEMPTS, _PAUSE = 40, 0.005  # a group empties a moment after its last process


class Place(NamedTuple):
    """Where groups of containers go.

    `directories`: one a hierarchy, below which a container's own group is made. `path`: what an OCI runtime is given as
    cgroupsPath for them, to be continued by `/NAME`: relative to its own groups in version 1. `limited`: the resources
    that can be limited there. `swap_limited`: swap with the memory, too. `by_controller`: those of `directories` in
    which what is limited is. `nested`: in version 1, some are below another group than a root.
    """

    directories: tuple[str, ...]
    path: str
    limited: frozenset[str]
    swap_limited: bool
    unified: bool = False  # version 2 alone
    by_controller: Mapping[str, str] = {}
    nested: bool = False


def place(name: str) -> Place:
    """Groups called `name` below the calling process's own ones. Nothing is made yet."""
    with open("/proc/self/cgroup", encoding="ascii") as lines:
        own = lines.read()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        table = lines.read()
    groups, points = own_groups(own, table), mount_points(table)
    if list(groups) == [""]:
        return _unified(groups[""], points[""][1], name)
    directories = tuple(f"{group}/{name}" for group in groups.values())
    usable = frozenset(c for c in LIMITABLE if c in groups and os.access(f"{groups[c]}/cgroup.procs", os.W_OK))
    swap = "memory" in usable and os.path.exists(f"{groups['memory']}/memory.memsw.limit_in_bytes")
    by_controller = {controller: f"{groups[controller]}/{name}" for controller in usable}
    nested = any(group != points[controller][1] for controller, group in groups.items())
    return Place(tuple(dict.fromkeys(directories)), name, usable, swap, by_controller=by_controller, nested=nested)


def own_groups(own: str, table: str) -> dict[str, str]:
    """By controller (version 2: the empty word), the directory of the group that `own`, a /proc/PID/cgroup, names.

    `table` is a /proc/PID/mountinfo.
    """
    points = mount_points(table)
    found: dict[str, str] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in points:
                root, point = points[controller]
                below = path.removeprefix(root) if root != "/" else path
                found[controller] = f"{point}/{below.strip('/')}".rstrip("/")
    return found


def mount_points(table: str) -> dict[str, tuple[str, str]]:
    """By controller, the group that is shown and where; version 2 is the empty word."""
    found: dict[str, tuple[str, str]] = {}
    for line in table.splitlines():
        front, _, back = line.partition(" - ")
        kind, _, options = back.split(" ", 2)
        _, _, _, root, point, *_ = front.split(" ")
        if kind == "cgroup2":
            found.setdefault("", (root, point))
        elif kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, (root, point))
    return found


def _unified(own: str, top: str, name: str) -> Place:
    """Version 2 alone."""
    group = own
    while group != top and not _gives(group):
        group = os.path.dirname(group)
    directory = f"{group}/{name}"
    limited = frozenset(LIMITABLE).intersection(words(f"{group}/cgroup.controllers"))
    by_controller = dict.fromkeys(limited, directory)
    path = directory.removeprefix(top)
    return Place((directory,), path, limited, swap_limited=True, unified=True, by_controller=by_controller)


def _gives(group: str) -> bool:
    """Whether a group gives its controllers to those below, or can."""
    given = words(f"{group}/cgroup.subtree_control")
    return set(LIMITABLE) <= set(given) or (
        set(LIMITABLE) <= set(words(f"{group}/cgroup.controllers")) and not words(f"{group}/cgroup.procs")
    )


def words(path: str) -> list[str]:
    """Of a file; none without it."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def recorded(path: str | os.PathLike[str]) -> list[str]:
    """The directories of groups that a file names, a line each; none without the file."""
    try:
        with open(path, encoding="utf-8") as lines:
            return lines.read().splitlines()
    except FileNotFoundError:
        return []


def members(directories: Iterable[str], name: str = "") -> set[int]:
    """The processes in the group `name` below these directories, and in groups below it."""
    found: set[int] = set()
    for directory in directories:
        for group, _, _ in os.walk(f"{directory}/{name}"):
            found.update(_members(group))
    return found


def _members(group: str) -> Iterator[int]:
    # It may go just now, also in the middle of being read (ENODEV).
    with contextlib.suppress(OSError), open(f"{group}/cgroup.procs", encoding="ascii") as lines:
        yield from (int(line) for line in lines)


def kill(directories: Iterable[str], name: str = "") -> bool:
    """SIGKILL everything in such groups until nothing is there; False if something stays."""
    directories = tuple(directories)
    for _ in range(_ATTEMPTS):
        found = members(directories, name)
        if not found:
            return True
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        time.sleep(_PAUSE)
    return False


def exists(directories: Iterable[str], name: str) -> bool:
    return any(os.path.isdir(f"{directory}/{name}") for directory in directories)


def remove(directories: Iterable[str], name: str = "") -> bool:
    """Remove such groups and those below; False if something in them stays busy. Idempotent."""
    removed = [_remove(f"{directory}/{name}".rstrip("/")) for directory in directories]
    return all(removed)


def _remove(top: str) -> bool:
    for _ in range(_ATTEMPTS):
        busy = False
        for group, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(group)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise
                busy = True
        if not busy:
            return True
        time.sleep(_PAUSE)
    return False
