"""Keeps as many Pods as every ReplicaSet (apps/v1), or ReplicationController (core/v1), asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from twinstack.api import times
from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import PODS, REPLICA_SETS, Kind
from twinstack.api.meta import Condition
from twinstack.client.informer import Informer
from twinstack.client.rest import MERGE
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.claims import Claims
from twinstack.controllers.context import Context, namespace_ends, synced
from twinstack.controllers.owners import controller_of, orphan_namespace, owner_uid
from twinstack.controllers.podstate import condition, is_active
from twinstack.controllers.replicas import (
    BURST,
    Replicated,
    next_available,
    pod_body,
    selector,
    status_of,
    status_patch,
    surplus,
    wanted,
)

FIRST_BATCH = 4  # creations at once; doubled while they succeed, so that a quota costs few refusals
UNCERTAIN_DELAY = 1.0  # seconds after a creation without an answer: the watch may show that it was done


class ReplicaSetController:
    """Creates and deletes Pods, adopts and releases them, and reports their state.

    It never acts twice on one observation: what it has created is in the informer at once, what it has
    deleted counts as gone from then on.
    """

    def __init__(
        self, context: Context, kind: Kind[Any] = REPLICA_SETS, component: str = "replicaset-controller"
    ) -> None:
        """For one of the two kinds; `component` is where its events come from."""
        self._client = context.client
        self._events = context.recorder(component)
        self._queue = WorkQueue(kind.resource.plural)
        self._sets: Informer[Replicated] = context.informers.of(kind)
        self._pods = context.informers.of(PODS)
        self._sets_by_namespace = self._sets.index(lambda replica_set: [replica_set.metadata.namespace])
        self._pods_by_owner = self._pods.index(owner_uid)
        self._orphans = self._pods.index(orphan_namespace)
        self._doomed: set[str] = set()  # uids of Pods deleted here whose deletion the watch has not shown yet

    async def run(self) -> None:
        await synced(self._sets, self._pods)
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(self._pod_changed)
        await self._queue.run(self._sync, workers=8)

    def _set_changed(self, old: Replicated | None, new: Replicated | None) -> None:
        if new is not None:
            self._queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or new.metadata.deletion_timestamp is not None):
            self._doomed.discard(old.metadata.uid)
        for pod in (old, new):
            if pod is None:
                continue
            owner = controller_of(pod)
            if owner is not None and owner.kind == self._sets.kind.resource.kind:
                self._queue.add(f"{pod.metadata.namespace}/{owner.name}")
            elif owner is None and pod is new:
                for replica_set in self._sets_by_namespace[pod.metadata.namespace].values():
                    if selector(replica_set).matches(pod.metadata.labels):
                        self._queue.add(replica_set.key)

    async def _sync(self, key: str) -> None:
        replica_set = self._sets.objects.get(key)
        if replica_set is None:
            return
        failure: Exception | None = None
        if replica_set.metadata.deletion_timestamp is None:
            await self._claim(replica_set)
            try:
                await self._scale(replica_set)
            except (StatusError, OSError) as error:
                failure = error
        await self._report(replica_set, failure)
        if isinstance(failure, StatusError):
            raise failure
        if failure is not None:
            self._queue.add(key, delay=UNCERTAIN_DELAY)

    async def _claim(self, replica_set: Replicated) -> None:
        wanted_labels = selector(replica_set)
        claims = Claims(self._client, self._sets.kind, replica_set)
        for pod in list(self._orphans[replica_set.metadata.namespace].values()):
            if is_active(pod) and wanted_labels.matches(pod.metadata.labels):
                await claims.adopt(self._pods, pod)
        for pod in list(self._pods_by_owner[replica_set.metadata.uid].values()):
            if not wanted_labels.matches(pod.metadata.labels):
                await claims.release(self._pods, pod)

    async def _scale(self, replica_set: Replicated) -> None:
        owned = self._pods_by_owner[replica_set.metadata.uid].values()
        active = [pod for pod in owned if is_active(pod) and pod.metadata.uid not in self._doomed]
        missing = wanted(replica_set) - len(active)
        if missing > 0:
            await self._create(replica_set, min(missing, BURST))
        elif missing < 0:
            victims = surplus(active, min(-missing, BURST), time.time())
            await _all_of([self._delete(replica_set, pod) for pod in victims])

    async def _create(self, replica_set: Replicated, count: int) -> None:
        body = pod_body(replica_set)
        batch = FIRST_BATCH
        while count > 0:
            size = min(batch, count)
            await _all_of([self._create_one(replica_set, body) for _ in range(size)])
            count -= size
            batch *= 2

    async def _create_one(self, replica_set: Replicated, body: dict[str, Any]) -> None:
        try:
            pod = await self._client.create(PODS, body)
        except StatusError as error:
            if namespace_ends(error):
                return
            self._events.event(replica_set, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._pods.wrote(pod)
        self._events.event(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

    async def _delete(self, replica_set: Replicated, pod: Pod) -> None:
        meta = pod.metadata
        self._doomed.add(meta.uid)
        try:
            await self._client.delete(PODS, meta.name, meta.namespace, uid=meta.uid)
        except (StatusError, OSError) as error:
            self._doomed.discard(meta.uid)
            if isinstance(error, StatusError) and error.code == 404:
                return
            self._events.event(replica_set, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise
        self._events.event(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name}")

    async def _report(self, replica_set: Replicated, failure: Exception | None) -> None:
        now = time.time()
        pods = self._pods_by_owner[replica_set.metadata.uid].values()
        status = status_of(replica_set, pods, _failure_condition(replica_set, failure), now)
        if status != replica_set.status:
            meta = replica_set.metadata
            patch = {"metadata": {"uid": meta.uid}, "status": status_patch(status)}
            try:
                answer = await self._client.patch(
                    self._sets.kind, meta.name, meta.namespace, patch, subresource="status", content_type=MERGE
                )
            except StatusError as error:
                if error.code not in (404, 409):
                    raise
            else:
                self._sets.wrote(answer)
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


async def _all_of(work: list[Coroutine[Any, Any, None]]) -> None:
    """Run all to their end, then raise the first failure."""
    failures = [result for result in await asyncio.gather(*work, return_exceptions=True) if result is not None]
    if failures:
        raise failures[0]
