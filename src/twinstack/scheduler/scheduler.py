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
from twinstack.api.kinds import NAMESPACES, NODES, POD_DISRUPTION_BUDGETS, PODS
from twinstack.api.selectors import LabelSelector
from twinstack.client import disruptions
from twinstack.client.events import EventRecorder
from twinstack.client.informers import SharedInformers
from twinstack.client.rest import Client
from twinstack.client.workqueue import WorkQueue
from twinstack.scheduler import claims
from twinstack.scheduler.decision import Decision, decide, refused_everywhere
from twinstack.scheduler.loads import Loads
from twinstack.scheduler.nominations import Nominations
from twinstack.scheduler.preemption import Budget, Room
from twinstack.scheduler.requests import Footprint, footprint
from twinstack.scheduler.terms import Labels, required_terms

NAME = "default-scheduler"
CLAIM_PAUSE = 15.0  # seconds until the claims of a Pod that waits for them are read again
_SCHEDULED = "PodScheduled"
UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"

log = logging.getLogger(__name__)


class Scheduler:
    """Decides one Pod at a time, on what it has decided before; the bindings are then written side by side.

    A Pod that fits nowhere is tried again when a node changes or a Pod leaves one. If Pods of lower priority are in its
    way, as few of them as suffice are deleted, and their room is kept for it.
    """

    def __init__(self, client: Client, *, name: str = NAME) -> None:
        self._client = client
        self._name = name
        self._events = EventRecorder(client, name)
        self._informers = SharedInformers(client)
        self._pods = self._informers.of(PODS, field_selector=UNFINISHED)
        self._nodes = self._informers.of(NODES)
        self._namespaces = self._informers.of(NAMESPACES)
        self._budgets = self._informers.of(POD_DISRUPTION_BUDGETS)
        self._queue = WorkQueue("schedule")
        self._loads = Loads()
        self._nominations = Nominations()
        self._unschedulable: dict[str, bool] = {}  # Pods that fit nowhere → whether others that come may help them

    async def run(self) -> None:
        """Schedule for ever; cancel to stop."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informers.run())
            group.create_task(self._events.run())
            await asyncio.gather(
                *(each.synced() for each in (self._pods, self._nodes, self._namespaces, self._budgets))
            )
            log.info("scheduling for %d nodes", len(self._nodes.objects))
            self._pods.subscribe(self._pod_changed)
            self._nodes.subscribe(self._node_changed)
            self._namespaces.subscribe(self._namespace_changed)
            group.create_task(self._queue.run(self._schedule, workers=16))

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old is not None:
                self._unschedulable.pop(old.key, None)
                room = self._nominations.remove(old.metadata.uid)
                if self._loads.remove(old.metadata.uid) or room:
                    self._retry()
            return
        uid = new.metadata.uid
        if new.spec.node_name:
            self._unschedulable.pop(new.key, None)
            self._nominations.remove(uid)
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
            message = refused_everywhere(pod, self._nodes.objects, missing)
            decision = Decision(None, message)
            self._queue.add(key, delay=CLAIM_PAUSE)
        else:
            decision = self._decide(pod, taken)
        if decision.node is None:
            self._unschedulable[key] = _is_sociable(pod)
            self._events.event(pod, "Warning", "FailedScheduling", decision.message)
            if decision.room is not None:
                self._nominations.add(pod.metadata.uid, decision.room, taken)
                await self._refuse(pod, "Unschedulable", decision.message, nominated=decision.room.node)
                await self._send_away(pod, decision.room)
                return
            uid = pod.metadata.uid
            if not self._nominations.awaits_victims(uid, self._loads) and self._nominations.remove(uid):
                self._retry()  # the room that was kept does not suffice any more: others may have it
            await self._refuse(pod, "Unschedulable", decision.message)
            return
        self._nominations.remove(pod.metadata.uid)
        self._loads.place(pod.metadata.uid, decision.node, taken)
        self._retry(sociable=True)
        await self._bind(pod, decision.node)

    def _decide(self, pod: Pod, taken: Footprint) -> Decision:
        uid = pod.metadata.uid
        ineligible = ""
        if self._nominations.awaits_victims(uid, self._loads):
            ineligible = "not eligible due to a terminating pod on the nominated node."
        with self._nominations.reserved(uid, taken.priority, self._loads):
            nodes = self._nodes.objects
            return decide(
                pod,
                taken,
                nodes,
                self._loads,
                self._namespace_labels,
                budgets=self._read_budgets,
                ineligible=ineligible,
            )

    def _read_budgets(self) -> list[Budget]:
        return [
            Budget(
                each.metadata.namespace, LabelSelector.from_object(each.spec.selector), each.status.disruptions_allowed
            )
            for each in self._budgets.objects.values()
        ]

    async def _send_away(self, pod: Pod, room: Room) -> None:
        """Delete the victims, gracefully; each is told why, in a condition and an event."""
        why = f"{self._name}: preempting to accommodate a higher priority pod"
        for victim in [each for each in self._pods.objects.values() if each.metadata.uid in room.victims]:
            try:
                if not await disruptions.send_away(self._client, victim, "PreemptionByScheduler", why):
                    continue  # gone already
            except StatusError:
                self._nominations.remove(pod.metadata.uid)  # to be chosen anew
                raise
            told = f"Preempted by pod {pod.metadata.uid} on node {room.node}"
            self._events.event(victim, "Normal", "Preempted", told)
            log.info("pod %s has to make room for %s on %s", victim.key, pod.key, room.node)

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

    async def _refuse(self, pod: Pod, reason: str, message: str, *, nominated: str = "") -> None:
        """Write condition PodScheduled=False, unless it says so already, and the node that it is to have."""
        said = [(each.status, each.reason, each.message) for each in pod.status.conditions if each.type == _SCHEDULED]
        if said == [("False", reason, message)] and not nominated:
            return
        meta = pod.metadata
        change: dict[str, Any] = {
            "type": _SCHEDULED,
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": times.now(),
        }
        status: dict[str, Any] = {"conditions": [change]}
        if nominated:
            status["nominatedNodeName"] = nominated
        patch = {"metadata": {"uid": meta.uid}, "status": status}
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
