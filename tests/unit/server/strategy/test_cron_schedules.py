"""Schedules of CronJobs, as the API server reads them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.server.strategy.cron_schedules import ScheduleError, check


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *", "*/5 0 1,15 * mon-fri", "0 0 ? JAN SUN", "59 23 31 12 6", "1-5/2 * * * *", "5/15 * * * *",
        "@daily", "@hourly", "@every 1h30m", "@every 1.5h", "0  0\t* * *",
    ],
)  # fmt: skip
def test_accepted(schedule: str) -> None:
    check(schedule)


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
        check(schedule)
    assert str(caught.value) == message


@given(st.lists(st.text(alphabet="0123456789*/-,?abcJAN@", max_size=6), min_size=5, max_size=5))
def test_anything_is_read_or_refused(fields: list[str]) -> None:
    with contextlib.suppress(ScheduleError):
        check(" ".join(fields))
