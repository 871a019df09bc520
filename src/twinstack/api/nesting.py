"""How much structure a request body may have: what reads and judges objects takes time and stack for each part.

Upstream reads 10 000 levels; no object of an API has a tenth of ours.
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 128
MAX_PARTS = 50_000  # maps and lists and what is in them: one as large as may be stored has 31 bytes for each


def problem(value: Any) -> str:
    """What is wrong with the shape of decoded data; empty if nothing is."""
    level: list[Any] = [value]
    parts = 1
    for _ in range(MAX_DEPTH + 1):
        level = [each for each in level if type(each) is dict or type(each) is list]
        if not level:
            return ""
        parts += sum(map(len, level))
        if parts > MAX_PARTS:
            return f"too many parts: at most {MAX_PARTS} objects, lists and values are read"
        level = [item for each in level for item in (each.values() if type(each) is dict else each)]
    return "exceeded max depth"
