"""What a CronJob does now: the Job to start, those to end, those of its history to remove (batch/v1 CronJob). Pure."""

from __future__ import annotations

import datetime
import math
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from twinstack.api.batch import CronJob, CronJobStatus, Job
from twinstack.api.cronschedules import Schedule, ScheduleError, parse
from twinstack.api.meta import ObjectReference
from twinstack.api.times import format_time, parse_time
from twinstack.controllers.jobends import finished
from twinstack.controllers.owners import reference_to

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MANY = 100  # missed times of which people are told
LATE = 0.1  # seconds after its time that a Job is started, so that clocks agree that it has come


@dataclass
class Plan:
    """`job` is what to create for the time `scheduled`. `wait`: seconds until the next time."""

    status: CronJobStatus
    job: dict[str, Any] | None = None
    scheduled: float = 0.0
    ended: list[Job] = field(default_factory=list)  # deleted to make room (Replace)
    expired: list[Job] = field(default_factory=list)  # deleted as history
    wait: float = math.inf
    events: list[tuple[str, str, str]] = field(default_factory=list)  # type, reason, message

    def tell(self, reason: str, message: str, type_: str = "Warning") -> None:
        self.events.append((type_, reason, message))


def plan(cron: CronJob, jobs: Sequence[Job], now: float) -> Plan:
    """What to do for a CronJob that owns `jobs`."""
    status = msgspec.structs.replace(cron.status, active=list(cron.status.active))
    step = Plan(status, expired=_expired(cron, jobs))
    _follow_jobs(cron, jobs, step)
    if cron.metadata.deletion_timestamp is not None or cron.spec.suspend:
        return step
    zone = None
    if cron.spec.time_zone is not None:
        try:
            zone = zoneinfo.ZoneInfo(cron.spec.time_zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            step.tell("UnknownTimeZone", f'invalid timeZone: "{cron.spec.time_zone}": {error}')
            return step
    try:
        schedule = parse(cron.spec.schedule)
    except ScheduleError as error:
        step.tell("UnparseableSchedule", f'unparseable schedule: "{cron.spec.schedule}" : {error}')
        return step
    due = _latest(cron, schedule, zone, step, now)
    following = schedule.next(now, zone)
    if following is not None:
        step.wait = following - now + LATE
    if due is not None:
        _start(cron, jobs, step, due, zone, now)
    return step


def _follow_jobs(cron: CronJob, jobs: Sequence[Job], step: Plan) -> None:
    """Bring the list of running Jobs, and the time of the last success, up to date."""
    status, present = step.status, {job.metadata.uid for job in jobs}
    for job in jobs:
        end, name = finished(job), job.metadata.name
        listed = any(one.uid == job.metadata.uid for one in status.active)
        if listed and end is not None:
            status.active = [one for one in status.active if one.uid != job.metadata.uid]
            step.tell("SawCompletedJob", f"Saw completed job: {name}, condition: {end.type}", "Normal")
        elif not listed and end is None:
            step.tell("UnexpectedJob", f"Saw a job that the controller did not create or forgot: {name}")
        if end is not None and end.type == "Complete":
            status.last_successful_time = (
                max(status.last_successful_time or "", job.status.completion_time or "") or None
            )
    for one in status.active:
        if one.uid not in present:
            step.tell("MissingJob", f"Active job went missing: {one.name}", "Normal")
    status.active = [one for one in status.active if one.uid in present]


def _expired(cron: CronJob, jobs: Sequence[Job]) -> list[Job]:
    limits = {"Complete": cron.spec.successful_jobs_history_limit, "Failed": cron.spec.failed_jobs_history_limit}
    stale: list[Job] = []
    for type_, limit in limits.items():
        done = [job for job in jobs if (end := finished(job)) is not None and end.type == type_]
        done.sort(key=lambda job: (job.status.start_time or "", job.metadata.name))
        if limit is not None:
            stale += done[: max(0, len(done) - limit)]
    return [job for job in stale if job.metadata.deletion_timestamp is None]


def _latest(cron: CronJob, schedule: Schedule, zone: datetime.tzinfo | None, step: Plan, now: float) -> float | None:
    """The last time that has come and was not acted on."""
    since = parse_time(cron.status.last_schedule_time or cron.metadata.creation_timestamp)
    deadline = cron.spec.starting_deadline_seconds
    if deadline is not None:
        since = max(since, now - deadline)
    latest: float | None = None
    missed, when = 0, schedule.next(since, zone)
    if schedule.every and when is not None and when <= now:
        missed = int(now - since) // schedule.every
        latest = int(since) + missed * schedule.every
    while not schedule.every and when is not None and when <= now:
        latest, missed = when, missed + 1
        if missed > MANY:  # no need to count them all: the last one lies behind the midpoint of what is left
            middle = when + (now - when) / 2
            jump = schedule.next(middle, zone)
            when = jump if jump is not None and jump <= now else schedule.next(when, zone)
        else:
            when = schedule.next(when, zone)
    if missed > MANY:
        step.tell(
            "TooManyMissedTimes",
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew",
        )
    return latest


def _start(
    cron: CronJob, jobs: Sequence[Job], step: Plan, due: float, zone: datetime.tzinfo | None, now: float
) -> None:
    deadline = cron.spec.starting_deadline_seconds
    if deadline is not None and due + deadline < now:
        when = datetime.datetime.fromtimestamp(due, datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
        step.tell("MissSchedule", f"Missed scheduled time to start a job: {when}")
        return
    running = step.status.active
    name = job_name(cron, due)
    if any(one.name == name for one in running):
        return
    if running and cron.spec.concurrency_policy == "Forbid":
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        step.tell("JobAlreadyActive", message, "Normal")
        return
    if cron.spec.concurrency_policy == "Replace":
        uids = {one.uid for one in running}
        step.ended = [job for job in jobs if job.metadata.uid in uids]
    step.job, step.scheduled = job_body(cron, due, zone), due


def job_name(cron: CronJob, scheduled: float) -> str:
    """One name a minute, so that no time is acted on twice."""
    return f"{cron.metadata.name}-{int(scheduled) // 60}"


def job_body(cron: CronJob, scheduled: float, zone: datetime.tzinfo | None) -> dict[str, Any]:
    template = cron.spec.job_template
    written = datetime.datetime.fromtimestamp(scheduled, zone or datetime.UTC).isoformat().replace("+00:00", "Z")
    metadata = {
        "name": job_name(cron, scheduled),
        "namespace": cron.metadata.namespace,
        "labels": template.metadata.get("labels") or {},
        "annotations": (template.metadata.get("annotations") or {}) | {SCHEDULED: written},
        "ownerReferences": [msgspec.to_builtins(reference_to(cron))],
    }
    return {"metadata": metadata, "spec": template.spec}


def started(status: CronJobStatus, job: Job, scheduled: float) -> None:
    """Note a Job that was created, in place."""
    reference = ObjectReference(
        kind="Job",
        api_version="batch/v1",
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        resource_version=job.metadata.resource_version,
    )
    if finished(job) is None:
        status.active.append(reference)
    status.last_schedule_time = format_time(scheduled)
