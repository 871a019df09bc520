"""Schedules of CronJobs, as the API server reads them, and the times they mean."""

from __future__ import annotations

import contextlib
import datetime
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.cronschedules import ScheduleError, parse


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *", "*/5 0 1,15 * mon-fri", "0 0 ? JAN SUN", "59 23 31 12 6", "1-5/2 * * * *", "5/15 * * * *",
        "@daily", "@hourly", "@every 1h30m", "@every 1.5h", "0  0\t* * *",
    ],
)  # fmt: skip
def test_accepted(schedule: str) -> None:
    parse(schedule)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("", "empty spec string"),
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("a * * * *", 'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax'),
        ("@monday", "unrecognized descriptor: @monday"),
        ("@every x", 'failed to parse duration @every x: time: invalid duration "x"'),
    ],
)
def test_refused(schedule: str, message: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse(schedule)
    assert str(caught.value) == message


@given(st.lists(st.text(alphabet="0123456789*/-,?abcJAN@", max_size=6), min_size=5, max_size=5))
def test_anything_is_read_or_refused(fields: list[str]) -> None:
    with contextlib.suppress(ScheduleError):
        parse(" ".join(fields))


def times(schedule: str, after: str, zone: str, count: int) -> list[str]:
    found, moment = [], datetime.datetime.fromisoformat(after).timestamp()
    for _ in range(count):
        following = parse(schedule).next(moment, zoneinfo.ZoneInfo(zone))
        assert following is not None
        moment = following
        found.append(datetime.datetime.fromtimestamp(moment, zoneinfo.ZoneInfo(zone)).strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("*/30 * * * *", ["01-01 00:30", "01-01 01:00"]),
        ("15 3 * * *", ["01-01 03:15", "01-02 03:15"]),
        ("0 0 13 * 5", ["01-02 00:00", "01-09 00:00", "01-13 00:00"]),  # a Friday, or the 13th
        ("0 0 * * mon", ["01-05 00:00"]),
        ("0 12 31 * *", ["01-31 12:00", "03-31 12:00"]),
        ("@weekly", ["01-04 00:00"]),
        ("@every 90m", ["01-01 01:30", "01-01 03:00"]),
    ],
)
def test_times(schedule: str, expected: list[str]) -> None:
    assert times(schedule, "2026-01-01T00:00:00+00:00", "UTC", len(expected)) == expected


def test_an_hour_left_out_has_no_times_and_one_repeated_has_them_twice() -> None:
    assert times("30 2 * * *", "2026-03-28T12:00:00+00:00", "Europe/Berlin", 1) == ["03-30 02:30"]
    assert times("30 2 * * *", "2026-10-24T12:00:00+00:00", "Europe/Berlin", 2) == ["10-25 02:30", "10-25 02:30"]


def test_a_day_that_never_comes() -> None:
    assert parse("0 0 31 2 *").next(0.0, datetime.UTC) is None
    assert parse("0 0 29 2 *").next(0.0, datetime.UTC) == 789 * 86400


@given(st.integers(0, 2**31), st.sampled_from(["*/7 * * * *", "5 4 * * *", "0 0 1 */2 *", "1,59 */5 * * 1-5"]))
def test_the_next_time_is_later_and_nothing_lies_between(after: int, schedule: str) -> None:
    found = parse(schedule).next(after, datetime.UTC)
    assert found is not None
    assert found > after
    assert parse(schedule).next(found - 1, datetime.UTC) == found
    assert parse(schedule).next((after + found) / 2, datetime.UTC) == found
