"""Watches over Nodes: what is said of one that has fallen silent, and the taints that follow (KEP-589, KEP-382)."""

from __future__ import annotations

import asyncio
import logging
import math

import msgspec

from twinstack.api import times
from twinstack.api.coordination import Lease
from twinstack.api.core import Node, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import LEASES, NODES, PODS
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.disruption import Pace, Rates, Zone, zone_of, zone_rates
from twinstack.controllers.podstate import condition, is_ready
from twinstack.controllers.taints import desired_taints, is_evicting, readiness

LEASE_NAMESPACE = "kube-node-lease"
_REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")

log = logging.getLogger(__name__)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds."""

    grace: float = 50.0  # without a sign of life of a Node that has told its state (--node-monitor-grace-period)
    startup: float = 60.0  # of one that never has (--node-startup-grace-period)
    period: float = 5.0  # that a Node may be not ready before Pods leave it (--node-monitor-period)


class NodeLifecycleController:
    """A sign of life is a renewed lease or a heartbeat in the status, timed by our own clock."""

    def __init__(self, context: Context, *, patience: Patience | None = None, rates: Rates | None = None) -> None:
        self._client = context.client
        self._events = context.recorder("node-controller")
        self._patience = patience or Patience()
        self._rates = rates or Rates()
        self._queue = WorkQueue("nodelifecycle")
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._leases = context.informers.of(LEASES)
        self._pods_by_node = self._pods.index(lambda pod: [pod.spec.node_name])
        self._alive: dict[str, float] = {}  # node → time of its last sign of life, loop clock
        self._unready: dict[str, float] = {}  # node → time since which it is known not to be ready
        self._paces: dict[Zone, Pace] = {}
        self._ready: set[str] = set()  # names; when there are none, it is us who are cut off

    async def run(self) -> None:
        await synced(self._nodes, self._pods, self._leases)
        self._nodes.subscribe(self._node_changed)
        self._leases.subscribe(self._lease_changed)
        await self._queue.run(self._sync)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        now = asyncio.get_running_loop().time()
        if new is None:
            if old is not None:
                self._forget(old, now)
            return
        name = new.metadata.name
        if old is None:
            self._events.event(new, "Normal", "RegisteredNode", _told(name, "Registered", "in"))
        if old is None or _has_spoken(old, new):
            self._alive[name] = now
        if readiness(new) == "True":
            self._unready.pop(name, None)
        else:
            self._unready.setdefault(name, now)
        self._count(name, readiness(new) == "True", now)
        self._queue.add(name)

    def _forget(self, node: Node, now: float) -> None:
        name = node.metadata.name
        self._alive.pop(name, None)
        self._unready.pop(name, None)
        self._count(name, False, now)
        self._events.event(node, "Normal", "RemovingNode", _told(name, "Removing", "from"))

    def _count(self, name: str, ready: bool, now: float) -> None:
        """When the last ready node goes, or the first one comes back, it is another matter for all of them."""
        connected = bool(self._ready)
        (self._ready.add if ready else self._ready.discard)(name)
        if bool(self._ready) == connected:
            return
        for other in self._alive:
            if not connected:  # nobody could be heard: all of them get their time anew
                self._alive[other] = now
                if other in self._unready:
                    self._unready[other] = now
            self._queue.add(other)

    def _lease_changed(self, old: Lease | None, new: Lease | None) -> None:
        if new is not None and new.metadata.namespace == LEASE_NAMESPACE and new.metadata.name in self._alive:
            self._alive[new.metadata.name] = asyncio.get_running_loop().time()

    async def _sync(self, name: str) -> None:
        node = self._nodes.objects.get(name)
        if node is None:
            return
        now = asyncio.get_running_loop().time()
        grace = self._patience.startup if readiness(node) is None else self._patience.grace
        left = self._alive.get(name, 0.0) + grace - now
        if left <= 0 and readiness(node) != "Unknown":
            node = await self._declare_unknown(node)
            await self._unready_pods(name)
        evicts, again = self._may_evict(node, now)
        taints = desired_taints(node, times.now(), evicts=evicts)
        if taints != node.spec.taints:
            patch = {
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"taints": msgspec.to_builtins(taints)},
            }
            self._nodes.wrote(await self._client.patch(NODES, name, "", patch))
        # One timer a node and grace period; a node that is known to be silent wakes us itself.
        self._queue.add(name, delay=min(left if left > 0 else grace, again))

    def _may_evict(self, node: Node, now: float) -> tuple[bool, float]:
        """Whether a Node may send its Pods away, and in how many seconds to ask again."""
        if readiness(node) == "True" or not self._ready:
            return False, math.inf
        if is_evicting(node):
            return True, math.inf
        wait = self._unready.get(node.metadata.name, now) + self._patience.period - now
        if wait > 0:
            return False, wait
        zone = zone_of(node)
        rate = zone_rates(self._nodes.objects.values(), self._rates).get(zone, 0.0)
        wait = self._paces.setdefault(zone, Pace()).take(now, rate)
        return wait == 0.0, wait or math.inf

    async def _declare_unknown(self, node: Node) -> Node:
        name = node.metadata.name
        log.warning("node %s has given no sign of life for %.0f s", name, self._patience.grace)
        if readiness(node) == "True":
            self._events.event(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
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
        answer = await self._client.patch(NODES, name, "", patch, subresource="status")
        self._nodes.wrote(answer)
        return answer

    async def _unready_pods(self, name: str) -> None:
        """Take the Pods of a silent node out of service: their own node cannot say it."""
        for pod in list(self._pods_by_node[name].values()):
            if is_ready(pod):
                await self._unready_pod(pod)

    async def _unready_pod(self, pod: Pod) -> None:
        meta = pod.metadata
        change = {"type": "Ready", "status": "False", "lastTransitionTime": times.now()}
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [change]}}
        try:
            self._pods.wrote(await self._client.patch(PODS, meta.name, meta.namespace, patch, subresource="status"))
        except StatusError as error:
            if error.code not in (404, 409):
                raise
        else:
            self._events.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def _has_spoken(old: Node, new: Node) -> bool:
    """Whether somebody other than this controller has said something of a Node's readiness."""
    turned = readiness(old) != readiness(new) and readiness(new) != "Unknown"
    return turned or _heartbeat(old) != _heartbeat(new)


def _heartbeat(node: Node) -> str | None:
    ready = condition(node.status.conditions, "Ready")
    return ready.last_heartbeat_time if ready is not None else None


def _told(name: str, what: str, where: str) -> str:
    return f"Node {name} event: {what} Node {name} {where} Controller"
