"""What the processes of a control group have used (cgroups(7), in both versions)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

_UNLIMITED = 1 << 60  # version 1 says a number near 2^63 for no limit


class Usage(NamedTuple):
    """`cpu` in nanoseconds since the group was made, memory in bytes; `limit` is 0 where memory is not limited.

    `working_set`: without files that the kernel can forget at once. `resident`: anonymous memory.
    """

    cpu: int = 0
    memory: int = 0
    working_set: int = 0
    resident: int = 0
    faults: int = 0
    major_faults: int = 0
    limit: int = 0
    processes: int = 0


def usage(groups: Iterable[str]) -> Usage | None:
    """`groups`: the directories of one group, one a hierarchy. None when it is gone, or nothing is counted for it."""
    values: dict[str, int] = {}
    for group in groups:
        for name, key in _SINGLE.items():
            text = _content(f"{group}/{name}").strip()
            if text.isdecimal():
                values[key] = int(text)
        values |= _table(_content(f"{group}/cpu.stat"))
        values |= _table(_content(f"{group}/memory.stat"))
    if "cpu" not in values and "usage_usec" not in values and "memory" not in values:
        return None
    return _assembled(values)


_SINGLE = {
    "cpuacct.usage": "cpu",
    "memory.usage_in_bytes": "memory",
    "memory.limit_in_bytes": "limit",
    "memory.current": "memory",
    "memory.max": "limit",
    "pids.current": "processes",
}


def _assembled(values: Mapping[str, int]) -> Usage:
    """In version 1 the numbers of a group and those below it are called total_."""

    def of(name: str, first: str = "") -> int:
        return values.get(f"total_{first or name}", values.get(name, 0))

    memory, limit = values.get("memory", 0), values.get("limit", 0)
    return Usage(
        cpu=values.get("cpu", values.get("usage_usec", 0) * 1000),
        memory=memory,
        working_set=max(0, memory - of("inactive_file")),
        resident=of("anon", "rss"),
        faults=of("pgfault"),
        major_faults=of("pgmajfault"),
        limit=limit if limit < _UNLIMITED else 0,
        processes=values.get("processes", 0),
    )


def _table(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _content(path: str) -> str:
    """Empty without the file; a group may go while it is read (ENODEV)."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
