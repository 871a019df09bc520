"""Sends Pods away from Nodes with NoExecute taints, each when its toleration ends (KEP-1237, KEP-3902)."""

from __future__ import annotations

import logging
import math
import time
from functools import partial

from twinstack.api import times
from twinstack.api.core import Node, Pod, Taint
from twinstack.api.kinds import NODES, PODS
from twinstack.client import disruptions
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.evictions import evicting_taints, leaves_at
from twinstack.controllers.podstate import is_finished

log = logging.getLogger(__name__)


class TaintEvictionController:
    """Works on Pods; a Node without such taints costs nothing. The time runs from when the taint was put there."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._events = context.recorder("taint-eviction-controller")
        self._queue = WorkQueue("tainteviction")
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods_by_node = self._pods.index(lambda pod: [pod.spec.node_name])
        self._seen: dict[str, dict[tuple[str, str], float]] = {}  # node → key and value of a taint → first seen
        self._leaving: dict[str, str] = {}  # Pods with a set time → their uid

    async def run(self) -> None:
        await synced(self._nodes, self._pods)
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)
        await self._queue.run(self._sync, workers=8)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self._seen.pop(old.metadata.name, None)
            return
        before, after = evicting_taints(old) if old is not None else [], evicting_taints(new)
        if before == after:
            return
        name, now = new.metadata.name, time.time()
        known = self._seen.pop(name, {})
        if after:
            self._seen[name] = {_identity(taint): known.get(_identity(taint), now) for taint in after}
        for key in self._pods_by_node[name]:
            self._queue.add(key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old is not None:
                self._leaving.pop(old.key, None)
        elif new.spec.node_name in self._seen or new.key in self._leaving:
            settled = old is not None and (old.spec.node_name, old.spec.tolerations, old.metadata.uid) == (
                new.spec.node_name,
                new.spec.tolerations,
                new.metadata.uid,
            )
            if not settled or new.metadata.deletion_timestamp is not None:
                self._queue.add(new.key)

    async def _sync(self, key: str) -> None:
        pod = self._pods.objects.get(key)
        if pod is None or pod.metadata.deletion_timestamp is not None or is_finished(pod):
            self._leaving.pop(key, None)
            return
        node = self._nodes.objects.get(pod.spec.node_name)
        taints = evicting_taints(node) if node is not None else []
        when = leaves_at(pod.spec.tolerations, taints, partial(self._since, pod.spec.node_name))
        if when == math.inf:
            if self._leaving.pop(key, None) == pod.metadata.uid:
                self._events.event(pod, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {key}")
            return
        wait = when - time.time()
        if wait > 0:
            self._leaving[key] = pod.metadata.uid
            self._queue.add(key, delay=wait)
            return
        await self._evict(pod)
        self._leaving.pop(key, None)

    def _since(self, node: str, taint: Taint) -> float:
        if taint.time_added:
            return times.parse_time(taint.time_added)
        return self._seen.get(node, {}).get(_identity(taint), time.time())

    async def _evict(self, pod: Pod) -> None:
        log.info("evicting pod %s from node %s", pod.key, pod.spec.node_name)
        self._events.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {pod.key}")
        message = "Taint manager: deleting due to NoExecute taint"
        await disruptions.send_away(self._client, pod, "DeletionByTaintManager", message)


def _identity(taint: Taint) -> tuple[str, str]:
    return taint.key, taint.value
