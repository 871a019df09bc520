"""Keeps as many Pods as every ReplicaSet (apps/v1), or ReplicationController (core/v1), asks for."""

from __future__ import annotations

import time
from typing import Any

from twinstack.api import times
from twinstack.api.errors import StatusError
from twinstack.api.kinds import REPLICA_SETS, Kind
from twinstack.api.meta import Condition
from twinstack.client.informer import Informer
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context
from twinstack.controllers.ownedpods import OwnedPods
from twinstack.controllers.podstate import condition, is_active
from twinstack.controllers.replicas import (
    Replicated,
    next_available,
    pod_body,
    selector,
    status_of,
    surplus,
    wanted,
)
from twinstack.controllers.statuswriting import write_status

UNCERTAIN_DELAY = 1.0  # seconds after a creation without an answer: the watch may show that it was done


class ReplicaSetController:
    """Creates and deletes Pods, adopts and releases them, and reports their state."""

    def __init__(
        self, context: Context, kind: Kind[Any] = REPLICA_SETS, component: str = "replicaset-controller"
    ) -> None:
        """For one of the two kinds; `component` is where its events come from."""
        self._client = context.client
        self._events = context.recorder(component)
        self._queue = WorkQueue(kind.resource.plural)
        self._sets: Informer[Replicated] = context.informers.of(kind)
        self._pods = OwnedPods(context, self._sets, self._events, selector)

    async def run(self) -> None:
        await self._pods.synced()
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(self._queue.add)
        await self._queue.run(self._sync, workers=8)

    def _set_changed(self, old: Replicated | None, new: Replicated | None) -> None:
        if new is not None:
            self._queue.add(new.key)

    async def _sync(self, key: str) -> None:
        replica_set = self._sets.objects.get(key)
        if replica_set is None:
            return
        failure: Exception | None = None
        if replica_set.metadata.deletion_timestamp is None:
            await self._pods.claim(replica_set)
            try:
                await self._scale(replica_set)
            except (StatusError, OSError) as error:
                failure = error
        await self._report(replica_set, failure)
        if isinstance(failure, StatusError):
            raise failure
        if failure is not None:
            self._queue.add(key, delay=UNCERTAIN_DELAY)

    async def _scale(self, replica_set: Replicated) -> None:
        owned = self._pods.of(replica_set)
        active = [pod for pod in owned if is_active(pod) and not self._pods.is_doomed(pod)]
        missing = wanted(replica_set) - len(active)
        if missing > 0:
            await self._pods.create(replica_set, [pod_body(replica_set)] * missing)
        elif missing < 0:
            await self._pods.delete(replica_set, surplus(active, -missing, time.time()))

    async def _report(self, replica_set: Replicated, failure: Exception | None) -> None:
        now = time.time()
        pods = self._pods.of(replica_set)
        status = status_of(replica_set, pods, _failure_condition(replica_set, failure), now)
        if status != replica_set.status:
            await write_status(self._client, self._sets, replica_set, status)
        wait = next_available(replica_set, pods, now)
        if wait is not None:
            self._queue.add(replica_set.key, delay=wait)


def _failure_condition(replica_set: Replicated, failure: Exception | None) -> Condition | None:
    if failure is None:
        return None
    before = condition(replica_set.status.conditions, "ReplicaFailure")
    reason = "FailedCreate" if wanted(replica_set) > replica_set.status.replicas else "FailedDelete"
    since = before.last_transition_time if before is not None else times.now()
    return Condition(
        type="ReplicaFailure", status="True", reason=reason, message=str(failure), last_transition_time=since
    )
