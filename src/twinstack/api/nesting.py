"""How much structure a request body may have: what reads and judges objects takes time and stack for each part.

Upstream reads 10 000 levels; no object of an API has a tenth of ours.
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 128
MAX_CONTAINERS = 100_000  # maps and lists


def problem(value: Any) -> str:
    """What is wrong with the shape of decoded data; empty if nothing is."""
    level: list[Any] = [value]
    containers = 0
    for _ in range(MAX_DEPTH + 1):
        level = [each for each in level if type(each) is dict or type(each) is list]
        if not level:
            return ""
        containers += len(level)
        if containers > MAX_CONTAINERS:
            return f"too many objects and lists: at most {MAX_CONTAINERS} are read"
        level = [item for each in level for item in (each.values() if type(each) is dict else each)]
    return "exceeded max depth"
