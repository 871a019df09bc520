"""The API's three spellings of an instant (meta/v1 Time and MicroTime, RFC 3339 nano), all UTC; durations as Go's."""

from __future__ import annotations

import datetime
import re
import time

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def now() -> str:
    """meta/v1 Time of this second: `2006-01-02T15:04:05Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def format_time(seconds: float) -> str:
    """meta/v1 Time of a Unix time."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def micro_now() -> str:
    """meta/v1 MicroTime of this instant: `2006-01-02T15:04:05.000000Z`."""
    instant = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(instant))}.{int(instant % 1 * 1_000_000):06d}Z"


def parse_time(text: str) -> float:
    """Unix time of any RFC 3339 text. Raises ValueError."""
    return datetime.datetime.fromisoformat(text).timestamp()


def parse_duration(text: str) -> float:
    """Seconds of a duration as flags and metav1.Duration write it: `1m30s`, `20ms`, `0`. Raises ValueError."""
    if text == "0":
        return 0.0
    total, position = 0.0, 0
    while match := _PART.match(text, position):
        total += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    if position == 0 or position != len(text):
        raise ValueError(f"not a duration: {text!r}; write it like 30s or 1m30s")
    return total


def format_duration(seconds: float) -> str:
    """A metav1.Duration, as Go writes it: `24h0m0s`, `1m30s`, `20ms`, `0s`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.10g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest:.10g}s"
