"""Removes Pods that no kubelet will: of Nodes that are gone or given up, never placed, and finished in masses."""

from __future__ import annotations

import asyncio
import logging

from twinstack.api.core import Node, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NODES, PODS
from twinstack.client.disruptions import disrupted
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.podgarbage import Reason, is_out_of_service, reason_to_remove, surplus_finished
from twinstack.controllers.podstate import is_finished

QUARANTINE = 40.0  # seconds that a Node may be away: it is often only made anew
THRESHOLD = 12500  # finished Pods that stay (--terminated-pod-gc-threshold)
_FINISHED = "finished Pods"  # a key that is no Pod's

log = logging.getLogger(__name__)


class PodGarbageController:
    """Works on Pods; a Node that disappears brings its Pods after the quarantine."""

    def __init__(self, context: Context, *, quarantine: float = QUARANTINE, threshold: int = THRESHOLD) -> None:
        self._client = context.client
        self._quarantine = quarantine
        self._threshold = threshold
        self._queue = WorkQueue("podgc")
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods_by_node = self._pods.index(lambda pod: [pod.spec.node_name])
        self._finished = self._pods.index(lambda pod: [_FINISHED] if is_finished(pod) else [])

    async def run(self) -> None:
        await synced(self._nodes, self._pods)
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)
        await self._queue.run(self._sync, workers=2)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is None:
            for key in self._pods_by_node[old.metadata.name]:
                self._queue.add(key, delay=self._quarantine)
        elif new is not None and is_out_of_service(new):
            for key, pod in self._pods_by_node[new.metadata.name].items():
                if pod.metadata.deletion_timestamp is not None:
                    self._queue.add(key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            return
        if 0 < self._threshold < len(self._finished[_FINISHED]):
            self._queue.add(_FINISHED)
        node = self._nodes.objects.get(new.spec.node_name)
        if reason_to_remove(new, node) is Reason.ORPHANED:
            if old is None or old.spec.node_name != new.spec.node_name:
                self._queue.add(new.key, delay=self._quarantine)
        elif new.metadata.deletion_timestamp is not None and reason_to_remove(new, node) is not None:
            self._queue.add(new.key)

    async def _sync(self, key: str) -> None:
        if key == _FINISHED:
            surplus = surplus_finished(self._finished[_FINISHED].values(), self._threshold)
            await asyncio.gather(*(self._delete(pod) for pod in surplus))
            return
        pod = self._pods.objects.get(key)
        if pod is None:
            return
        reason = reason_to_remove(pod, self._nodes.objects.get(pod.spec.node_name))
        if reason is None or (reason is Reason.ORPHANED and not await self._is_gone(pod.spec.node_name)):
            return
        log.info("deleting pod %s: %s", key, reason.value)
        if not is_finished(pod):
            await self._fail(pod, reason)
        await self._delete(pod)

    async def _is_gone(self, node: str) -> bool:
        try:
            await self._client.get(NODES, node)
        except StatusError as error:
            if error.code == 404:
                return True
            raise
        return False

    async def _fail(self, pod: Pod, reason: Reason) -> None:
        """Whoever counts finished Pods must not take this one for a success."""
        status: dict[str, object] = {"phase": "Failed"}
        if reason is Reason.ORPHANED:
            status["conditions"] = [disrupted("DeletionByPodGC", "PodGC: node no longer exists")]
        meta = pod.metadata
        patch = {"metadata": {"uid": meta.uid}, "status": status}
        try:
            await self._client.patch(PODS, meta.name, meta.namespace, patch, subresource="status")
        except StatusError as error:
            if error.code not in (404, 409):
                raise

    async def _delete(self, pod: Pod) -> None:
        meta = pod.metadata
        try:
            await self._client.delete(PODS, meta.name, meta.namespace, uid=meta.uid, grace_period=0)
        except StatusError as error:
            if error.code not in (404, 409):
                raise
