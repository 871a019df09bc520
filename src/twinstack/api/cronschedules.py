"""Schedules of CronJobs: five fields, or a descriptor such as `@daily`. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import NamedTuple

_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MOST_DAYS = 5 * 366 + 100  # that are looked through: a date such as 29 February comes within them
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
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


class Schedule(NamedTuple):
    """When to run. With `every`, seconds, the rest is empty.

    A day matches by its number in the month and in the week; where both are restricted one of them is enough.
    """

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()  # 0 is Sunday
    either: bool = False
    every: int = 0

    def next(self, after: float, zone: datetime.tzinfo | None = None) -> float | None:
        """The first time after `after`, both Unix times, by the clock of `zone` (None: this machine's).

        None when there is none in five years. An hour that the clock leaves out has no times, one that it repeats
        has them twice.
        """
        if self.every:
            return int(after) + self.every
        moment = (int(after) // 60 + 1) * 60
        for _ in range(_MOST_DAYS + 24 + 60):
            local = datetime.datetime.fromtimestamp(moment, zone)
            if not self._on(local):
                moment = _next_midnight(local, moment)
            elif local.hour not in self.hours:
                moment += 3600 - local.minute * 60
            elif local.minute not in self.minutes:
                moment += 60
            else:
                return moment
        return None

    def _on(self, local: datetime.datetime) -> bool:
        if local.month not in self.months:
            return False
        by_day, by_weekday = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return by_day or by_weekday if self.either else by_day and by_weekday


def _next_midnight(local: datetime.datetime, moment: int) -> int:
    day = local.date() + datetime.timedelta(days=1)
    midnight = datetime.datetime.combine(day, datetime.time(), local.tzinfo)
    return max(int(midnight.timestamp()), moment + 60)


def parse(schedule: str) -> Schedule:
    """Read a schedule. Raises ScheduleError."""
    if not schedule:
        raise ScheduleError("empty spec string")
    if schedule.startswith("@"):
        if schedule not in _DESCRIPTORS:
            return Schedule(every=_every(schedule))
        schedule = _DESCRIPTORS[schedule]
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        raise ScheduleError(f"expected exactly {len(_FIELDS)} fields, found {len(fields)}: [{' '.join(fields)}]")
    minutes, hours, days, months, weekdays = (
        frozenset[int]().union(*(_range(part, bounds) for part in text.split(",") if part))
        for text, bounds in zip(fields, _FIELDS, strict=True)
    )
    either = not any(_is_free(text) for text in (fields[2], fields[4]))
    return Schedule(minutes, hours, days, months, weekdays, either)


def _is_free(text: str) -> bool:
    """Whether a field restricts nothing."""
    return any(part.partition("/")[0] in ("*", "?") and part.partition("/")[2] in ("", "1") for part in text.split(","))


def _every(text: str) -> int:
    if not text.startswith("@every "):
        raise ScheduleError(f"unrecognized descriptor: {text}")
    span = text.removeprefix("@every ")
    rest, total = span.lstrip("+-"), 0.0
    while rest and rest != "0":
        found = _duration(rest)
        if found is None:
            raise ScheduleError(f'failed to parse duration {text}: time: invalid duration "{span}"')
        total += float(found[1]) * _UNITS[found[3]]
        rest = rest[found.end() :]
    return max(1, int(-total if span.startswith("-") else total))


def _range(text: str, bounds: _Bounds) -> range:
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
    return range(low, high + 1, step)


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
