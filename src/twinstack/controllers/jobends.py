"""When a Job has ended, and how: the conditions of batch/v1 JobStatus. Pure.

FailureTarget or SuccessCriteriaMet decides; Failed or Complete follows with the same reason once all Pods have ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from twinstack.api.batch import Job
from twinstack.api.core import Pod
from twinstack.api.meta import Condition
from twinstack.api.times import parse_time
from twinstack.controllers import jobindexes
from twinstack.controllers.jobcounts import Counts, is_indexed
from twinstack.controllers.podstate import condition

TARGETS = {"FailureTarget": "Failed", "SuccessCriteriaMet": "Complete"}  # what decides → what follows


class End(NamedTuple):
    """`type` is one of TARGETS."""

    type: str
    reason: str
    message: str


def holds(conditions: list[Condition], type_: str) -> bool:
    found = condition(conditions, type_)
    return found is not None and found.status == "True"


def finished(job: Job) -> Condition | None:
    """The condition Complete or Failed of a Job that has one."""
    return next((one for one in job.status.conditions if one.type in TARGETS.values() and one.status == "True"), None)


def decided(job: Job) -> End | None:
    """The end that was decided before."""
    for entry in job.status.conditions:
        if entry.type in TARGETS and entry.status == "True":
            return End(entry.type, entry.reason, entry.message)
    return None


def end_of(job: Job, counts: Counts, active: Sequence[Pod], now: float) -> End | None:
    """The end of a Job, if it has come to one."""
    return decided(job) or _failure(job, counts, active, now) or _success(job, counts, active)


def deadline_in(job: Job, now: float) -> float | None:
    """Seconds until a running Job is over its activeDeadlineSeconds; None when it has no deadline."""
    seconds = job.spec.active_deadline_seconds
    if seconds is None or job.status.start_time is None or job.spec.suspend:
        return None
    return parse_time(job.status.start_time) + seconds - now


def _failure(job: Job, counts: Counts, active: Sequence[Pod], now: float) -> End | None:
    if counts.fatal:
        return End("FailureTarget", "PodFailurePolicy", counts.fatal)
    limit = 6 if job.spec.backoff_limit is None else job.spec.backoff_limit
    if counts.all_failed > limit or _restarted_too_often(job, active, limit):
        return End("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left = deadline_in(job, now)
    if left is not None and left <= 0:
        return End("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline")
    if not is_indexed(job) or not counts.failed_indexes:
        return None
    most = job.spec.max_failed_indexes
    if most is not None and len(counts.failed_indexes) > most:
        message = "Job has exceeded the specified maximal number of failed indexes"
        return End("FailureTarget", "MaxFailedIndexesExceeded", message)
    if _success_rule(job, counts.completed) is None and len(counts.failed_indexes | counts.completed) >= (
        job.spec.completions or 0
    ):
        return End("FailureTarget", "FailedIndexes", "Job has failed indexes")
    return None


def _restarted_too_often(job: Job, active: Iterable[Pod], limit: int) -> bool:
    """Containers that are restarted in their Pods count as failures too."""
    if job.spec.template.spec.get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        status.restart_count
        for pod in active
        if pod.status.phase in ("Running", "Pending")
        for status in (*pod.status.container_statuses, *pod.status.init_container_statuses)
    )
    return restarts > 0 if limit == 0 else restarts >= limit


def _success(job: Job, counts: Counts, active: Sequence[Pod]) -> End | None:
    rule = _success_rule(job, counts.completed) if is_indexed(job) else None
    if rule is not None:
        return End("SuccessCriteriaMet", "SuccessPolicy", f"Matched rules at index {rule}")
    if is_indexed(job):
        reached = len(counts.completed) >= (job.spec.completions or 0)
    else:
        succeeded = counts.succeeded + len(counts.uncounted.succeeded)
        wanted = job.spec.completions
        reached = succeeded > 0 and not active if wanted is None else succeeded >= wanted
    return (
        End("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")
        if reached
        else None
    )


def _success_rule(job: Job, completed: set[int]) -> int | None:
    """The first rule of spec.successPolicy that is met (KEP-3998)."""
    for position, rule in enumerate((job.spec.success_policy or {}).get("rules") or []):
        named, least = rule.get("succeededIndexes"), rule.get("succeededCount")
        wanted = completed if named is None else jobindexes.parse(named, job.spec.completions or 0)
        needed = len(wanted) if least is None else least
        if len(completed & wanted) >= needed and (named is not None or least is not None):
            return position
    return None
