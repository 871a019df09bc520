"""Creates Jobs by the schedules of CronJobs (batch/v1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from twinstack.api.batch import CronJob, Job
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CRON_JOBS, JOBS
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers import cronplan
from twinstack.controllers.context import Context, namespace_ends, synced
from twinstack.controllers.cronplan import Plan
from twinstack.controllers.owners import controller_of, owner_uid
from twinstack.controllers.statuswriting import write_status


class CronJobController:
    """Sleeps until the next time of each; `clock` gives Unix time."""

    def __init__(self, context: Context, *, clock: Callable[[], float] = time.time) -> None:
        self._client = context.client
        self._clock = clock
        self._events = context.recorder("cronjob-controller")
        self._queue = WorkQueue("cronjobs")
        self._crons = context.informers.of(CRON_JOBS)
        self._jobs = context.informers.of(JOBS)
        self._jobs_by_owner = self._jobs.index(owner_uid)

    async def run(self) -> None:
        await synced(self._crons, self._jobs)
        self._crons.subscribe(self._cron_changed)
        self._jobs.subscribe(self._job_changed)
        await self._queue.run(self._sync, workers=5)

    def _cron_changed(self, old: CronJob | None, new: CronJob | None) -> None:
        if new is not None:
            self._queue.add(new.key)

    def _job_changed(self, old: Job | None, new: Job | None) -> None:
        changed = new if new is not None else old
        owner = controller_of(changed) if changed is not None else None
        if changed is not None and owner is not None and owner.kind == "CronJob":
            self._queue.add(f"{changed.metadata.namespace}/{owner.name}")

    async def _sync(self, key: str) -> None:
        cron = self._crons.objects.get(key)
        if cron is None:
            return
        jobs = list(self._jobs_by_owner[cron.metadata.uid].values())
        step = cronplan.plan(cron, jobs, self._clock())
        for type_, reason, message in step.events:
            self._events.event(cron, type_, reason, message)
        for job in step.expired:
            await self._delete(cron, job)
        for job in step.ended:
            await self._delete(cron, job)
            step.status.active = [one for one in step.status.active if one.uid != job.metadata.uid]
        await self._start(cron, step)
        if step.status != cron.status:
            await write_status(self._client, self._crons, cron, step.status)
        if step.wait < math.inf:
            self._queue.add(key, delay=step.wait)

    async def _start(self, cron: CronJob, step: Plan) -> None:
        if step.job is None:
            return
        try:
            job = await self._client.create(JOBS, step.job)
        except StatusError as error:
            if namespace_ends(error):
                return
            if error.reason != "AlreadyExists":
                self._events.event(cron, "Warning", "FailedCreate", f"Error creating job: {error}")
                raise
            job = await self._client.get(JOBS, step.job["metadata"]["name"], cron.metadata.namespace)
            owner = controller_of(job)
            if owner is None or owner.uid != cron.metadata.uid:
                return
        else:
            self._events.event(cron, "Normal", "SuccessfulCreate", f"Created job {job.metadata.name}")
        cronplan.started(step.status, job, step.scheduled)  # before the Job is seen: it is no unexpected one
        self._jobs.wrote(job)

    async def _delete(self, cron: CronJob, job: Job) -> None:
        meta = job.metadata
        try:
            await self._client.delete(JOBS, meta.name, meta.namespace, uid=meta.uid, propagation="Background")
        except StatusError as error:
            if error.code not in (404, 409):
                self._events.event(cron, "Warning", "FailedDelete", f"Deleted job: {error}")
                raise
        else:
            self._events.event(cron, "Normal", "SuccessfulDelete", f"Deleted job {meta.name}")
        self._jobs.removed(job)
