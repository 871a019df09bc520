"""Which of a Job's finished Pods count, and are counted already (KEP-2307). Pure.

A Pod carries a finalizer until it is counted, and passes three states that survive a restart at any moment: finished;
named in status.uncountedTerminatedPods; without finalizer, when the counter grows and the name goes. So none is
counted twice or never, however early it is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from twinstack.api.batch import Job, UncountedTerminatedPods
from twinstack.api.core import Pod
from twinstack.controllers import jobindexes, podfailures
from twinstack.controllers.jobpods import FINALIZER
from twinstack.controllers.podfailures import Verdict


@dataclass
class Counts:
    """What a Job has come to. Pods in `countable` lose their finalizer once the status is written."""

    succeeded: int = 0  # counted
    failed: int = 0
    uncounted: UncountedTerminatedPods = field(default_factory=UncountedTerminatedPods)
    completed: set[int] = field(default_factory=set)  # Indexed only
    failed_indexes: set[int] = field(default_factory=set)
    countable: list[Pod] = field(default_factory=list)
    delayed: dict[int, Pod] = field(default_factory=dict)  # index → its last failed Pod, until another takes its place
    new_failures: list[Pod] = field(default_factory=list)
    new_successes: list[Pod] = field(default_factory=list)
    fatal: str = ""  # why the failure of a Pod is that of the Job

    @property
    def all_failed(self) -> int:
        return self.failed + len(self.uncounted.failed)


def is_indexed(job: Job) -> bool:
    return job.spec.completion_mode == "Indexed"


def is_tracked(pod: Pod) -> bool:
    return FINALIZER in pod.metadata.finalizers


def has_failed(job: Job, pod: Pod) -> bool:
    """A Pod on its way out has failed, unless the Job wants to see it end first (podReplacementPolicy)."""
    if pod.status.phase == "Failed":
        return True
    leaves = pod.metadata.deletion_timestamp is not None and pod.status.phase != "Succeeded"
    return leaves and job.spec.pod_replacement_policy != "Failed"


def count(job: Job, pods: Sequence[Pod], *, ending: bool) -> Counts:
    """Take account of all finished Pods. `ending`: the Job is, so no failed Pod waits for one to replace it."""
    tracked = {pod.metadata.uid: pod for pod in pods if is_tracked(pod)}
    counts = _settled(job, tracked)
    completions = job.spec.completions or 0
    if is_indexed(job):
        counts.completed = jobindexes.parse(job.status.completed_indexes, completions)
        counts.failed_indexes = jobindexes.parse(job.status.failed_indexes, completions)
    known = {*counts.uncounted.succeeded, *counts.uncounted.failed}
    for uid, pod in sorted(tracked.items()):
        if uid in known:
            counts.countable.append(pod)
        elif pod.status.phase == "Succeeded":
            _add_success(job, counts, pod, completions)
    for uid, pod in sorted(tracked.items()):
        if uid not in known and has_failed(job, pod):
            _add_failure(job, counts, pod, pods, ending)
    counts.failed_indexes -= counts.completed
    if is_indexed(job):
        counts.succeeded = len(counts.completed)
    return counts


def _settled(job: Job, tracked: dict[str, Pod]) -> Counts:
    """Names whose Pods have lost the finalizer become numbers."""
    before = job.status.uncounted_terminated_pods or UncountedTerminatedPods()
    waiting = UncountedTerminatedPods(
        succeeded=[uid for uid in before.succeeded if uid in tracked],
        failed=[uid for uid in before.failed if uid in tracked],
    )
    return Counts(
        succeeded=job.status.succeeded + len(before.succeeded) - len(waiting.succeeded),
        failed=job.status.failed + len(before.failed) - len(waiting.failed),
        uncounted=waiting,
    )


def _add_success(job: Job, counts: Counts, pod: Pod, completions: int) -> None:
    counts.countable.append(pod)
    counts.new_successes.append(pod)
    if not is_indexed(job):
        counts.uncounted.succeeded.append(pod.metadata.uid)
    elif 0 <= jobindexes.index_of(pod) < completions:
        counts.completed.add(jobindexes.index_of(pod))


def _add_failure(job: Job, counts: Counts, pod: Pod, pods: Sequence[Pod], ending: bool) -> None:
    by_index = job.spec.backoff_limit_per_index is not None
    verdict = podfailures.judge(job.spec.pod_failure_policy, pod, by_index=by_index)
    if verdict.action == podfailures.FAIL_JOB:
        counts.fatal = counts.fatal or verdict.message
    if by_index and not _settles_index(job, counts, pod, pods, verdict) and not (ending or counts.fatal):
        counts.delayed[jobindexes.index_of(pod)] = pod
        return
    counts.countable.append(pod)
    if verdict.action != podfailures.IGNORE:
        counts.uncounted.failed.append(pod.metadata.uid)
        counts.new_failures.append(pod)


def _settles_index(job: Job, counts: Counts, pod: Pod, pods: Sequence[Pod], verdict: Verdict) -> bool:
    """Whether no Pod has yet to be made that would read the count of failures from this one."""
    index, limit = jobindexes.index_of(pod), job.spec.backoff_limit_per_index or 0
    if not 0 <= index < (job.spec.completions or 0) or index in counts.completed:
        return True
    spent = verdict.action != podfailures.IGNORE and jobindexes.failures_of(pod) >= limit
    if spent or verdict.action == podfailures.FAIL_INDEX:
        counts.failed_indexes.add(index)
    tries = attempts(pod)
    return index in counts.failed_indexes or any(
        jobindexes.index_of(other) == index and attempts(other) > tries for other in pods
    )


def attempts(pod: Pod) -> int:
    """How many Pods of its index had failed before it."""
    return jobindexes.failures_of(pod) + jobindexes.ignored_of(pod)
