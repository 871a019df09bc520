"""The API's three spellings of an instant (meta/v1 Time and MicroTime, RFC 3339 nano), all UTC."""

from __future__ import annotations

import datetime
import time


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
