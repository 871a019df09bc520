"""How long ago something was, as tables show it."""

from __future__ import annotations

from twinstack.api.times import parse_time

UNKNOWN = "<unknown>"
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def age(timestamp: str | None, now: float) -> str:
    """The time since an RFC 3339 instant; `<unknown>` without one."""
    return duration(now - parse_time(timestamp)) if timestamp else UNKNOWN


def duration(seconds: float) -> str:
    """Two units where the first is small, one where it is large: `119s`, `9m59s`, `179m`, `7h59m`, `47h`, `7d23h`."""
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole == -1 else "<invalid>"
    for limit, unit, name, small, small_name in (
        (2 * _MINUTE, 1, "s", 0, ""),
        (10 * _MINUTE, _MINUTE, "m", 1, "s"),
        (3 * _HOUR, _MINUTE, "m", 0, ""),
        (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
        (48 * _HOUR, _HOUR, "h", 0, ""),
        (8 * _DAY, _DAY, "d", _HOUR, "h"),
        (2 * _YEAR, _DAY, "d", 0, ""),
        (8 * _YEAR, _YEAR, "y", _DAY, "d"),
    ):
        if whole < limit:
            rest = whole % unit // small if small else 0
            return f"{whole // unit}{name}{f'{rest}{small_name}' if rest else ''}"
    return f"{whole // _YEAR}y"
