"""Runs every Job to its end (batch/v1), each Pod counted exactly once."""

from __future__ import annotations

import math
import time

from twinstack.api.batch import Job
from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import JOBS
from twinstack.api.selectors import LabelSelector
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers import jobends, jobplan
from twinstack.controllers.context import Context
from twinstack.controllers.jobcounts import is_tracked
from twinstack.controllers.jobplan import Failures, Plan
from twinstack.controllers.jobpods import FINALIZER, pod_body
from twinstack.controllers.ownedpods import OwnedPods, all_of
from twinstack.controllers.owners import controller_of
from twinstack.controllers.statuswriting import write_status

MANAGER = "kubernetes.io/job-controller"  # spec.managedBy of Jobs that are ours, as if it were empty
UNCERTAIN_DELAY = 1.0  # seconds after a deed without an answer: the watch may show that it was done


class JobController:
    """Also lets go Pods of Jobs that are no more, or over: a finalizer must not outlive who takes it off."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._events = context.recorder("job-controller")
        self._queue = WorkQueue("jobs")
        self._jobs = context.informers.of(JOBS)
        self._pods = OwnedPods(context, self._jobs, self._events, _selector, finalizer=FINALIZER)
        self._tracked = self._pods.informer.index(_job_of_tracked)
        self._failures: dict[str, Failures] = {}  # uid → its row of failures; begins anew with this process

    async def run(self) -> None:
        await self._pods.synced()
        self._jobs.subscribe(self._changed)
        self._pods.subscribe(self._queue.add)
        await self._queue.run(self._sync, workers=5)

    def _changed(self, old: Job | None, new: Job | None) -> None:
        if old is not None and new is None:
            self._failures.pop(old.metadata.uid, None)
        changed = new if new is not None else old
        if changed is not None:
            self._queue.add(changed.key)

    async def _sync(self, key: str) -> None:
        job = self._jobs.objects.get(key)
        if job is not None and (job.spec.managed_by or MANAGER) != MANAGER:
            return
        over = job is None or job.metadata.deletion_timestamp is not None or jobends.finished(job) is not None
        if job is None or over:
            await self._release(list(self._tracked[key].values()))
            return
        strangers = [pod for pod in self._tracked[key].values() if not _is_of(pod, job)]
        await self._release(strangers)  # of an earlier Job of this name
        await self._pods.claim(job)
        step = jobplan.plan(
            job, self._pods.of(job), self._pods.is_doomed, self._failures.get(job.metadata.uid, Failures()), time.time()
        )
        failure: Exception | None = None
        try:
            await self._take(job, step)
        except (StatusError, OSError) as error:
            failure = error
        await self._report(job, step)
        if isinstance(failure, StatusError):
            raise failure
        wait = min(step.wait, UNCERTAIN_DELAY if failure is not None else math.inf)
        if wait < math.inf:
            self._queue.add(key, delay=max(wait, 0.01))

    async def _take(self, job: Job, step: Plan) -> None:
        await self._release(step.dismissed)
        await self._pods.delete(job, [*step.dismissed, *step.stopped])
        await self._pods.create(job, [pod_body(job, slot) for slot in step.create])

    async def _report(self, job: Job, step: Plan) -> None:
        jobplan.recount(step.status, self._pods.of(job), self._pods.is_doomed)
        if step.status != job.status and not await write_status(self._client, self._jobs, job, step.status):
            return
        if step.failures.number:
            self._failures[job.metadata.uid] = step.failures
        else:
            self._failures.pop(job.metadata.uid, None)
        for type_, reason, message in step.events:
            self._events.event(job, type_, reason, message)
        await self._release(step.countable)

    async def _release(self, pods: list[Pod]) -> None:
        """Take our finalizer off."""
        await all_of([self._release_one(pod) for pod in pods if is_tracked(pod)])

    async def _release_one(self, pod: Pod) -> None:
        meta = pod.metadata
        patch = {"metadata": {"uid": meta.uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        informer = self._pods.informer
        try:
            informer.wrote(await self._client.patch(informer.kind, meta.name, meta.namespace, patch))
        except StatusError as error:
            if error.code not in (404, 409):
                raise


def _selector(job: Job) -> LabelSelector:
    return LabelSelector.from_object(job.spec.selector)


def _is_of(pod: Pod, job: Job) -> bool:
    owner = controller_of(pod)
    return owner is not None and owner.uid == job.metadata.uid


def _job_of_tracked(pod: Pod) -> list[str]:
    """For an index: the key of the Job that a Pod with our finalizer waits for."""
    owner = controller_of(pod)
    if owner is None or owner.kind != "Job" or not is_tracked(pod):
        return []
    return [f"{pod.metadata.namespace}/{owner.name}"]
