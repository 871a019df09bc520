"""Removes Pods that no kubelet will: those of deleted Nodes, and unscheduled ones that are being deleted."""

from __future__ import annotations

import logging

from twinstack.api import times
from twinstack.api.core import Node, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NODES, PODS
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.podstate import is_finished

QUARANTINE = 40.0  # seconds that a Node may be away: it is often only made anew

log = logging.getLogger(__name__)


class PodGarbageController:
    """Works on Pods; a Node that disappears brings its Pods after the quarantine."""

    def __init__(self, context: Context, *, quarantine: float = QUARANTINE) -> None:
        self._client = context.client
        self._quarantine = quarantine
        self._queue = WorkQueue("podgc")
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods_by_node = self._pods.index(lambda pod: [pod.spec.node_name])

    async def run(self) -> None:
        await synced(self._nodes, self._pods)
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)
        await self._queue.run(self._sync, workers=2)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is None:
            for key in self._pods_by_node[old.metadata.name]:
                self._queue.add(key, delay=self._quarantine)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            return
        if not new.spec.node_name:
            if new.metadata.deletion_timestamp is not None:
                self._queue.add(new.key)
        elif old is None and new.spec.node_name not in self._nodes.objects:
            self._queue.add(new.key, delay=self._quarantine)

    async def _sync(self, key: str) -> None:
        pod = self._pods.objects.get(key)
        if pod is None:
            return
        node = pod.spec.node_name
        if node and not await self._is_gone(node):
            return
        if not node and pod.metadata.deletion_timestamp is None:
            return
        meta = pod.metadata
        log.info("deleting pod %s: its node %s is gone", key, node or "was never chosen")
        try:
            if node and not is_finished(pod):
                await self._fail(pod)
            await self._client.delete(PODS, meta.name, meta.namespace, uid=meta.uid, grace_period=0)
        except StatusError as error:
            if error.code not in (404, 409):
                raise

    async def _is_gone(self, node: str) -> bool:
        if node in self._nodes.objects:
            return False
        try:
            await self._client.get(NODES, node)
        except StatusError as error:
            if error.code == 404:
                return True
            raise
        return False

    async def _fail(self, pod: Pod) -> None:
        """Whoever counts finished Pods must not take this one for a success."""
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": times.now(),
        }
        meta = pod.metadata
        patch = {"metadata": {"uid": meta.uid}, "status": {"phase": "Failed", "conditions": [condition]}}
        await self._client.patch(PODS, meta.name, meta.namespace, patch, subresource="status")
