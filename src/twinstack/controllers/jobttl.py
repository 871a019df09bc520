"""Deletes Jobs some time after their end (spec.ttlSecondsAfterFinished, KEP-592)."""

from __future__ import annotations

import time

from twinstack.api.batch import Job
from twinstack.api.errors import StatusError
from twinstack.api.kinds import JOBS
from twinstack.api.times import parse_time
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.jobends import finished


class JobTTLController:
    """Their Pods go first: the deletion is a foreground one."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue("jobttl")
        self._jobs = context.informers.of(JOBS)

    async def run(self) -> None:
        await synced(self._jobs)
        self._jobs.subscribe(self._changed)
        await self._queue.run(self._sync, workers=2)

    def _changed(self, old: Job | None, new: Job | None) -> None:
        if new is not None and expires_at(new) is not None:
            self._queue.add(new.key)

    async def _sync(self, key: str) -> None:
        job = self._jobs.objects.get(key)
        when = expires_at(job) if job is not None else None
        if job is None or when is None or job.metadata.deletion_timestamp is not None:
            return
        left = when - time.time()
        if left > 0:
            self._queue.add(key, delay=left)
            return
        meta = job.metadata
        try:
            await self._client.delete(
                JOBS,
                meta.name,
                meta.namespace,
                uid=meta.uid,
                resource_version=meta.resource_version,
                propagation="Foreground",
            )
        except StatusError as error:
            if error.code == 409:  # it has changed, perhaps its time too: the change brings us back
                return
            if error.code != 404:
                raise


def expires_at(job: Job) -> float | None:
    """Unix time at which a Job goes; None for one that stays, or has not ended."""
    end = finished(job)
    if end is None or job.spec.ttl_seconds_after_finished is None or not end.last_transition_time:
        return None
    return parse_time(end.last_transition_time) + job.spec.ttl_seconds_after_finished
