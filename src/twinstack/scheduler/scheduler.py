"""Gives every Pod without a node one, by binding it (core/v1 pods/binding), and says why when it cannot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.core import Namespace, Node, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NAMESPACES, NODES, PODS
from twinstack.client.events import EventRecorder
from twinstack.client.informers import SharedInformers
from twinstack.client.rest import Client
from twinstack.client.workqueue import WorkQueue
from twinstack.scheduler import claims
from twinstack.scheduler.decision import Decision, decide, refused_everywhere
from twinstack.scheduler.loads import Loads
from twinstack.scheduler.requests import footprint
from twinstack.scheduler.terms import Labels, required_terms

NAME = "default-scheduler"
CLAIM_PAUSE = 15.0  # seconds until the claims of a Pod that waits for them are read again
UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"

log = logging.getLogger(__name__)


class Scheduler:
    """Decides one Pod at a time, on what it has decided before; the bindings are then written side by side.

    A Pod that fits nowhere is tried again when a node changes or a Pod leaves one.
    """

    def __init__(self, client: Client, *, name: str = NAME) -> None:
        self._client = client
        self._name = name
        self._events = EventRecorder(client, name)
        self._informers = SharedInformers(client)
        self._pods = self._informers.of(PODS, field_selector=UNFINISHED)
        self._nodes = self._informers.of(NODES)
        self._namespaces = self._informers.of(NAMESPACES)
        self._queue = WorkQueue("schedule")
        self._loads = Loads()
        self._unschedulable: dict[str, bool] = {}  # Pods that fit nowhere → whether others that come may help them

    async def run(self) -> None:
        """Schedule for ever; cancel to stop."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informers.run())
            group.create_task(self._events.run())
            await asyncio.gather(self._pods.synced(), self._nodes.synced(), self._namespaces.synced())
            log.info("scheduling for %d nodes", len(self._nodes.objects))
            self._pods.subscribe(self._pod_changed)
            self._nodes.subscribe(self._node_changed)
            self._namespaces.subscribe(self._namespace_changed)
            group.create_task(self._queue.run(self._schedule, workers=16))

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old is not None:
                self._unschedulable.pop(old.key, None)
                if self._loads.remove(old.metadata.uid):
                    self._retry()
            return
        uid = new.metadata.uid
        if new.spec.node_name:
            self._unschedulable.pop(new.key, None)
            if self._loads.node_of(uid) != new.spec.node_name or old is None or _counts_anew(old, new):
                self._loads.place(uid, new.spec.node_name, footprint(new))
                self._retry()
        elif self._is_mine(new) and self._loads.node_of(uid) is None and (old is None or _asks_anew(old, new)):
            self._queue.add(new.key)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is not None and (old is None or _offers_anew(old, new)):
            self._retry()

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        """Affinity may ask for the labels of a namespace."""
        if old is not None and new is not None and old.metadata.labels != new.metadata.labels:
            self._retry()

    def _namespace_labels(self, name: str) -> Labels:
        namespace = self._namespaces.objects.get(name)
        return namespace.metadata.labels if namespace is not None else {}

    def _retry(self, *, sociable: bool = False) -> None:
        """Try those that wait again; `sociable`: only those that may have waited for a Pod to come."""
        for key, awaits_pods in list(self._unschedulable.items()):
            if awaits_pods or not sociable:
                del self._unschedulable[key]
                self._queue.add(key)

    def _is_mine(self, pod: Pod) -> bool:
        return pod.spec.scheduler_name in ("", self._name) and pod.metadata.deletion_timestamp is None

    async def _schedule(self, key: str) -> None:
        pod = self._pods.objects.get(key)
        if pod is None or pod.spec.node_name or not self._is_mine(pod):
            return
        if self._loads.node_of(pod.metadata.uid) is not None:
            return  # bound already, the watch has yet to say so
        if pod.spec.scheduling_gates:
            message = "Scheduling is blocked due to non-empty scheduling gates"
            await self._refuse(pod, "SchedulingGated", message)
            return
        taken = footprint(pod)
        missing = await claims.refusal(self._client, pod) if pod.spec.volumes else None
        if missing is not None and self._nodes.objects:
            message = refused_everywhere(pod, taken, self._nodes.objects, self._loads, missing)
            decision = Decision(None, message)
            self._queue.add(key, delay=CLAIM_PAUSE)
        else:
            decision = decide(pod, taken, self._nodes.objects, self._loads, self._namespace_labels)
        if decision.node is None:
            self._unschedulable[key] = _is_sociable(pod)
            self._events.event(pod, "Warning", "FailedScheduling", decision.message)
            await self._refuse(pod, "Unschedulable", decision.message)
            return
        self._loads.place(pod.metadata.uid, decision.node, taken)
        self._retry(sociable=True)
        await self._bind(pod, decision.node)

    async def _bind(self, pod: Pod, node: str) -> None:
        meta = pod.metadata
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = PODS.resource.path(meta.namespace, meta.name, "binding")
        try:
            await self._client.request("POST", path, msgspec.json.encode(binding))
        except BaseException as error:
            self._loads.remove(meta.uid)
            if isinstance(error, StatusError) and error.code in (404, 409):
                log.debug("pod %s was not bound: %s", pod.key, error)  # deleted, or bound by somebody else
                return
            raise
        self._events.event(pod, "Normal", "Scheduled", f"Successfully assigned {pod.key} to {node}")

    async def _refuse(self, pod: Pod, reason: str, message: str) -> None:
        """Write condition PodScheduled=False, unless it says so already."""
        for known in pod.status.conditions:
            if known.type == "PodScheduled" and (known.status, known.reason, known.message) == (
                "False",
                reason,
                message,
            ):
                return
        meta = pod.metadata
        change: dict[str, Any] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": times.now(),
        }
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [change]}}
        try:
            self._pods.wrote(await self._client.patch(PODS, meta.name, meta.namespace, patch, subresource="status"))
        except StatusError as error:
            if error.code not in (404, 409):
                raise


def _is_sociable(pod: Pod) -> bool:
    """Whether a Pod that comes somewhere may make this one fit."""
    return bool(pod.spec.topology_spread_constraints or required_terms(pod, "podAffinity"))


def _counts_anew(old: Pod, new: Pod) -> bool:
    """Whether a placed Pod changed in what others ask of it."""
    return old.metadata.labels != new.metadata.labels or (old.metadata.deletion_timestamp is None) != (
        new.metadata.deletion_timestamp is None
    )


def _asks_anew(old: Pod, new: Pod) -> bool:
    """Whether a waiting Pod changed in what decides its place: labels of its own and conditions do not."""
    fields: tuple[Callable[[Pod], Any], ...] = (
        lambda pod: pod.spec.scheduling_gates,
        lambda pod: pod.spec.tolerations,
        lambda pod: pod.spec.node_selector,
        lambda pod: pod.spec.affinity,
        lambda pod: pod.spec.topology_spread_constraints,
        lambda pod: pod.spec.containers,
        lambda pod: pod.metadata.uid,
    )
    return any(field(old) != field(new) for field in fields)


def _offers_anew(old: Node, new: Node) -> bool:
    """Whether a node changed in what can make a Pod fit. Heartbeats do not."""
    return (
        old.spec != new.spec
        or old.metadata.labels != new.metadata.labels
        or old.status.allocatable != new.status.allocatable
    )
