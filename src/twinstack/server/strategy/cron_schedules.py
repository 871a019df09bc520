"""Schedules of CronJobs: five fields, or a descriptor such as `@daily`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_DESCRIPTORS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_duration = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)").match


class ScheduleError(ValueError):
    """A schedule that cannot be read; the message is the API server's."""


class _Bounds(NamedTuple):
    low: int
    high: int
    names: Mapping[str, int] = {}


_FIELDS = (
    _Bounds(0, 59),
    _Bounds(0, 23),
    _Bounds(1, 31),
    _Bounds(1, 12, {name: i for i, name in enumerate(_MONTHS, 1)}),
    _Bounds(0, 6, {name: i for i, name in enumerate(_DAYS)}),
)


def check(schedule: str) -> None:
    """Raises ScheduleError."""
    if not schedule:
        raise ScheduleError("empty spec string")
    if schedule.startswith("@"):
        _check_descriptor(schedule)
        return
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        raise ScheduleError(f"expected exactly {len(_FIELDS)} fields, found {len(fields)}: [{' '.join(fields)}]")
    for text, bounds in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            if part:
                _check_range(part, bounds)


def _check_descriptor(text: str) -> None:
    if text in _DESCRIPTORS:
        return
    if not text.startswith("@every "):
        raise ScheduleError(f"unrecognized descriptor: {text}")
    span = text.removeprefix("@every ")
    rest = span.lstrip("+-")
    while rest and rest != "0":
        found = _duration(rest)
        if found is None:
            raise ScheduleError(f'failed to parse duration {text}: time: invalid duration "{span}"')
        rest = rest[found.end() :]


def _check_range(text: str, bounds: _Bounds) -> None:
    """`*`, `5`, `1-5`, each with `/step` perhaps."""
    span, slash, step_text = text.partition("/")
    low_text, dash, high_text = span.partition("-")
    single = not dash
    if low_text in ("*", "?"):
        low, high = bounds.low, bounds.high
    else:
        low = _number(low_text, bounds)
        if "-" in high_text:
            raise ScheduleError(f"too many hyphens: {text}")
        high = low if single else _number(high_text, bounds)
    step = 1
    if slash:
        if "/" in step_text:
            raise ScheduleError(f"too many slashes: {text}")
        step = _integer(step_text)
        if single:
            high = bounds.high
    if low < bounds.low:
        raise ScheduleError(f"beginning of range ({low}) below minimum ({bounds.low}): {text}")
    if high > bounds.high:
        raise ScheduleError(f"end of range ({high}) above maximum ({bounds.high}): {text}")
    if low > high:
        raise ScheduleError(f"beginning of range ({low}) beyond end of range ({high}): {text}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {text}")


def _number(text: str, bounds: _Bounds) -> int:
    named = bounds.names.get(text.lower())
    return _integer(text) if named is None else named


def _integer(text: str) -> int:
    if not re.fullmatch("[+-]?[0-9]+", text):
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    value = int(text)
    if value < 0:
        raise ScheduleError(f"negative number ({value}) not allowed: {text}")
    return value
