"""Watches over Nodes: their taints, and what is said of one that has fallen silent (KEP-589 node leases)."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from twinstack.api import times
from twinstack.api.coordination import Lease
from twinstack.api.core import Node, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import LEASES, NODES, PODS
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.podstate import condition, is_ready
from twinstack.controllers.taints import desired_taints

LEASE_NAMESPACE = "kube-node-lease"
GRACE = 40.0  # seconds without a sign of life (--node-monitor-grace-period)
_REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")

log = logging.getLogger(__name__)


class NodeLifecycleController:
    """A sign of life is a renewed lease or a heartbeat in the status, timed by our own clock."""

    def __init__(self, context: Context, *, grace: float = GRACE) -> None:
        self._client = context.client
        self._grace = grace
        self._queue = WorkQueue("nodelifecycle")
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._leases = context.informers.of(LEASES)
        self._pods_by_node = self._pods.index(lambda pod: [pod.spec.node_name])
        self._alive: dict[str, float] = {}  # node → time of its last sign of life, loop clock

    async def run(self) -> None:
        await synced(self._nodes, self._pods, self._leases)
        self._nodes.subscribe(self._node_changed)
        self._leases.subscribe(self._lease_changed)
        await self._queue.run(self._sync)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self._alive.pop(old.metadata.name, None)
            return
        if old is None or _heartbeat(old) != _heartbeat(new):
            self._alive[new.metadata.name] = asyncio.get_running_loop().time()
        self._queue.add(new.metadata.name)

    def _lease_changed(self, old: Lease | None, new: Lease | None) -> None:
        if new is not None and new.metadata.namespace == LEASE_NAMESPACE and new.metadata.name in self._alive:
            self._alive[new.metadata.name] = asyncio.get_running_loop().time()

    async def _sync(self, name: str) -> None:
        node = self._nodes.objects.get(name)
        if node is None:
            return
        left = self._alive.get(name, 0.0) + self._grace - asyncio.get_running_loop().time()
        if left <= 0 and _is_told_alive(node):
            node = await self._declare_unknown(node)
            await self._unready_pods(name)
        taints = desired_taints(node, times.now())
        if taints != node.spec.taints:
            patch = {
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"taints": msgspec.to_builtins(taints)},
            }
            self._nodes.wrote(await self._client.patch(NODES, name, "", patch))
        # One timer a node and grace period; a node that is known to be silent wakes us itself.
        self._queue.add(name, delay=left if left > 0 else self._grace)

    async def _declare_unknown(self, node: Node) -> Node:
        log.warning("node %s has given no sign of life for %.0f s", node.metadata.name, self._grace)
        now = times.now()
        changes = []
        for type_ in _REPORTED:
            known = condition(node.status.conditions, type_)
            never = known is None
            changes.append(
                {
                    "type": type_,
                    "status": "Unknown",
                    "reason": "NodeStatusNeverUpdated" if never else "NodeStatusUnknown",
                    "message": "Kubelet never posted node status." if never else "Kubelet stopped posting node status.",
                    "lastTransitionTime": now,
                }
            )
        patch = {"metadata": {"resourceVersion": node.metadata.resource_version}, "status": {"conditions": changes}}
        answer = await self._client.patch(NODES, node.metadata.name, "", patch, subresource="status")
        self._nodes.wrote(answer)
        return answer

    async def _unready_pods(self, name: str) -> None:
        """Take the Pods of a silent node out of service: their own node cannot say it."""
        for pod in list(self._pods_by_node[name].values()):
            if is_ready(pod):
                await self._unready(pod)

    async def _unready(self, pod: Pod) -> None:
        meta = pod.metadata
        change = {"type": "Ready", "status": "False", "lastTransitionTime": times.now()}
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [change]}}
        try:
            self._pods.wrote(await self._client.patch(PODS, meta.name, meta.namespace, patch, subresource="status"))
        except StatusError as error:
            if error.code not in (404, 409):
                raise


def _heartbeat(node: Node) -> str | None:
    ready = condition(node.status.conditions, "Ready")
    return ready.last_heartbeat_time if ready is not None else None


def _is_told_alive(node: Node) -> bool:
    ready = condition(node.status.conditions, "Ready")
    return ready is None or ready.status != "Unknown"
