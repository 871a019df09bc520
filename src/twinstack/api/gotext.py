"""Values as Go's `fmt` prints them with %v: what some error messages quote."""

from __future__ import annotations

from typing import Any


def go_print(value: Any) -> str:
    """`map[a:1 b:[x y]]`: keys sorted, texts bare, null as `<nil>`."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_print(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_print, value))}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return str(value)
