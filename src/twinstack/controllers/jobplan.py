"""The next step of a Job: which Pods to make and which to end, and what to report (batch/v1 Job). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from twinstack.api.batch import Job, JobStatus
from twinstack.api.core import Pod
from twinstack.api.meta import Condition
from twinstack.api.times import format_time
from twinstack.controllers import jobends, jobindexes, podfailures
from twinstack.controllers.jobcounts import Counts, attempts, count, is_indexed, is_tracked
from twinstack.controllers.jobends import End
from twinstack.controllers.jobpods import Slot
from twinstack.controllers.podstate import is_active, is_finished, is_ready
from twinstack.controllers.replicas import surplus

FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 600.0  # seconds between a failed Pod and the next

Doomed = Callable[[Pod], bool]


class Failures(NamedTuple):
    """How many Pods have failed since the last success, and when the last did, Unix time."""

    number: int = 0
    last: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next Pod may be made."""
        return max(0.0, self.last + backoff(self.number) - now)


@dataclass
class Plan:
    """`dismissed` are deleted uncounted, `stopped` are deleted and counted; then the status is written; then those in
    `countable` lose their finalizer. `wait`: seconds until there is something to do though nothing changes."""

    status: JobStatus
    create: list[Slot] = field(default_factory=list)
    dismissed: list[Pod] = field(default_factory=list)
    stopped: list[Pod] = field(default_factory=list)
    countable: list[Pod] = field(default_factory=list)
    failures: Failures = field(default_factory=Failures)
    wait: float = math.inf
    events: list[tuple[str, str, str]] = field(default_factory=list)  # type, reason, message


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(FIRST_BACKOFF * 2.0 ** (min(failures, 30) - 1), LONGEST_BACKOFF) if failures > 0 else 0.0


def plan(job: Job, pods: Sequence[Pod], doomed: Doomed, failures: Failures, now: float) -> Plan:
    """What to do for an unfinished Job that owns `pods`."""
    status = msgspec.structs.replace(job.status, conditions=list(job.status.conditions))
    counts = count(job, pods, ending=jobends.decided(job) is not None)
    step = Plan(status, countable=counts.countable, failures=_followed(failures, counts))
    active = [pod for pod in pods if is_active(pod) and not doomed(pod)]
    end = jobends.end_of(job, counts, active, now)
    if end is not None:
        step.stopped = active
        _report_end(step, end, now, over=not active and not any(map(is_tracked, pods)) and not _leaving(pods, doomed))
    else:
        _advance(job, step, counts, pods, active, doomed, now)
    status.succeeded, status.failed = counts.succeeded, counts.failed
    status.uncounted_terminated_pods = counts.uncounted
    if is_indexed(job):
        status.completed_indexes = jobindexes.format_indexes(counts.completed)
        if job.spec.backoff_limit_per_index is not None:
            status.failed_indexes = jobindexes.format_indexes(counts.failed_indexes)
    return step


def recount(status: JobStatus, pods: Sequence[Pod], doomed: Doomed) -> None:
    """Take what the status says of present Pods from `pods`, after the step was taken."""
    active = [pod for pod in pods if is_active(pod) and not doomed(pod)]
    status.active, status.ready = len(active), sum(map(is_ready, active))
    status.terminating = _leaving(pods, doomed)


def _leaving(pods: Sequence[Pod], doomed: Doomed) -> int:
    return sum(doomed(pod) and not is_finished(pod) for pod in pods)


def _followed(before: Failures, counts: Counts) -> Failures:
    """A success ends the row of failures before it."""
    succeeded = max((podfailures.finished_at(pod) for pod in counts.new_successes), default=-math.inf)
    if before.last <= succeeded:
        before = Failures()
    failed = [when for pod in counts.new_failures if (when := podfailures.finished_at(pod)) > succeeded]
    return Failures(before.number + len(failed), max(before.last, *failed)) if failed else before


def _report_end(step: Plan, end: End, now: float, *, over: bool) -> None:
    set_condition(step.status.conditions, end.type, "True", end.reason, end.message, now)
    if not over:
        return
    last = jobends.TARGETS[end.type]
    set_condition(step.status.conditions, last, "True", end.reason, end.message, now)
    if last == "Complete":
        step.status.completion_time = format_time(now)
        step.events.append(("Normal", "Completed", "Job completed"))
    else:
        step.events.append(("Warning", end.reason, end.message))


def _advance(
    job: Job, step: Plan, counts: Counts, pods: Sequence[Pod], active: list[Pod], doomed: Doomed, now: float
) -> None:
    status = step.status
    if job.spec.suspend:
        step.dismissed = active
        if set_condition(status.conditions, "Suspended", "True", "JobSuspended", "Job suspended", now):
            step.events.append(("Normal", "Suspended", "Job suspended"))
        return
    if jobends.holds(status.conditions, "Suspended"):
        set_condition(status.conditions, "Suspended", "False", "JobResumed", "Job resumed", now)
        status.start_time = format_time(now)
        step.events.append(("Normal", "Resumed", "Job resumed"))
    elif status.start_time is None:
        status.start_time = format_time(now)
    started = msgspec.structs.replace(job, status=status)
    left = jobends.deadline_in(started, now)
    if left is not None:
        step.wait = left
    blocked = _leaving(pods, doomed) if job.spec.pod_replacement_policy == "Failed" else 0
    if is_indexed(job):
        _fill_indexes(job, step, counts, active, blocked, now)
    else:
        _fill(job, step, counts, active, blocked, now)


def _fill(job: Job, step: Plan, counts: Counts, active: list[Pod], blocked: int, now: float) -> None:
    succeeded = counts.succeeded + len(counts.uncounted.succeeded)
    parallel = 1 if job.spec.parallelism is None else job.spec.parallelism
    if job.spec.completions is None:
        wanted = len(active) if succeeded else parallel
        wanted = min(wanted, parallel)
    else:
        wanted = max(0, min(parallel, job.spec.completions - succeeded))
    if len(active) > wanted:
        step.dismissed = surplus(active, len(active) - wanted, now)
        return
    missing = wanted - len(active) - blocked
    if missing > 0 and not _wait_for(step, step.failures.wait(now)):
        step.create = [Slot()] * missing


def _fill_indexes(job: Job, step: Plan, counts: Counts, active: list[Pod], blocked: int, now: float) -> None:
    completions = job.spec.completions or 0
    settled = counts.completed | counts.failed_indexes
    wanted = max(0, min(1 if job.spec.parallelism is None else job.spec.parallelism, completions - len(settled)))
    kept: dict[int, Pod] = {}
    for pod in sorted(active, key=lambda pod: (jobindexes.index_of(pod), -attempts(pod), pod.metadata.name)):
        index = jobindexes.index_of(pod)
        if 0 <= index < completions and index not in settled and index not in kept and len(kept) < wanted:
            kept[index] = pod
        else:
            step.dismissed.append(pod)
    missing = wanted - len(kept) - blocked
    by_index = job.spec.backoff_limit_per_index is not None
    if missing <= 0 or (not by_index and _wait_for(step, step.failures.wait(now))):
        return
    for index in range(completions):
        if missing == 0:
            break
        last = counts.delayed.get(index)
        if index in settled or index in kept or (last is not None and _wait_for(step, _pause(last, now))):
            continue
        step.create.append(_slot(job, index, last))
        missing -= 1


def _pause(last: Pod, now: float) -> float:
    """Seconds until the index of a failed Pod may be tried again."""
    return Failures(attempts(last) + 1, podfailures.finished_at(last)).wait(now)


def _slot(job: Job, index: int, last: Pod | None) -> Slot:
    if last is None:
        return Slot(index)
    verdict = podfailures.judge(job.spec.pod_failure_policy, last, by_index=True)
    ignored = verdict.action == podfailures.IGNORE
    return Slot(index, jobindexes.failures_of(last) + (not ignored), jobindexes.ignored_of(last) + ignored)


def _wait_for(step: Plan, seconds: float) -> bool:
    """Note a time to come back; False when there is nothing to wait for."""
    if seconds > 0:
        step.wait = min(step.wait, seconds)
    return seconds > 0


def set_condition(conditions: list[Condition], type_: str, status: str, reason: str, message: str, now: float) -> bool:
    """Bring a condition about, in place; False when it holds already."""
    for position, entry in enumerate(conditions):
        if entry.type == type_:
            if entry.status == status:
                return False
            del conditions[position]
            break
    when = format_time(now)
    conditions.append(
        Condition(
            type=type_, status=status, reason=reason, message=message, last_probe_time=when, last_transition_time=when
        )
    )
    return True
