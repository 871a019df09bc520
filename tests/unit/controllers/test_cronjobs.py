"""Which time of a CronJob's schedule is acted on."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.batch import CronJob, Job
from twinstack.api.cronschedules import parse
from twinstack.api.times import format_time
from twinstack.controllers.cronplan import job_name, plan

NOW = 1_800_000_000.0  # Friday, 15 January 2027, 08:00 UTC


def cron(since: float, **spec: Any) -> CronJob:
    meta = {"name": "c", "namespace": "n", "uid": "u", "creationTimestamp": format_time(NOW - since)}
    fields = {"schedule": "*/10 * * * *", "timeZone": "UTC", "jobTemplate": {"spec": {"template": {}}}} | spec
    return msgspec.convert({"metadata": meta, "spec": fields}, CronJob)


def finished(name: str, kind: str, minute: int) -> Job:
    status = {"conditions": [{"type": kind, "status": "True"}], "startTime": format_time(NOW + 60 * minute)}
    return msgspec.convert({"metadata": {"name": name, "uid": name}, "status": status}, Job)


@given(st.integers(0, 40 * 86400), st.sampled_from(["*/10 * * * *", "5 3 * * *", "0 0 * * 0", "* * * * *"]))
def test_of_the_missed_times_the_last_one_is_acted_on(since: int, schedule: str) -> None:
    step = plan(cron(since, schedule=schedule), [], NOW)
    expected, when = None, parse(schedule).next(NOW - since, datetime.UTC)
    missed = 0
    while when is not None and when <= NOW:
        expected, when, missed = when, parse(schedule).next(when, datetime.UTC), missed + 1
        if missed > 3000:
            return  # too many to count here
    assert (step.scheduled if step.job is not None else None) == expected
    assert any(reason == "TooManyMissedTimes" for _, reason, _ in step.events) is (missed > 100)
    assert step.wait > 0


@pytest.mark.parametrize(("deadline", "starts"), [(None, True), (30, False), (3600, True)])
def test_a_time_may_be_missed_by_the_deadline_at_most(deadline: int | None, starts: bool) -> None:
    spec = {"schedule": "50 7 * * *"} | ({} if deadline is None else {"startingDeadlineSeconds": deadline})
    step = plan(cron(7200, **spec), [], NOW)
    assert (step.job is not None) is starts


def test_what_cannot_be_read_is_told_and_starts_nothing() -> None:
    for spec, reason in (
        ({"timeZone": "Nowhere/City"}, "UnknownTimeZone"),
        ({"schedule": "every day"}, "UnparseableSchedule"),
    ):
        step = plan(cron(7200, **spec), [], NOW)
        assert (step.job, [reason for _, reason, _ in step.events]) == (None, [reason])


def test_the_oldest_of_each_kind_of_end_go() -> None:
    jobs = [finished(f"{kind}-{minute}", kind, minute) for kind in ("Complete", "Failed") for minute in (2, 0, 1)]
    step = plan(cron(0, successfulJobsHistoryLimit=2, failedJobsHistoryLimit=0), jobs, NOW)
    names = [job.metadata.name for job in step.expired]
    assert names == ["Complete-0", "Failed-0", "Failed-1", "Failed-2"]


def test_a_time_has_one_name() -> None:
    assert job_name(cron(0), NOW) == job_name(cron(0), NOW + 59) == "c-30000000"
    step = plan(cron(700), [], NOW)
    assert step.job is not None
    assert (
        step.job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] == "2027-01-15T08:00:00Z"
    )
