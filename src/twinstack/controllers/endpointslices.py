"""Keeps EndpointSlices of every Service with a selector: one set a family (KEP-752, KEP-563)."""

from __future__ import annotations

from twinstack.api.core import Node, Pod, Service
from twinstack.api.discovery import EndpointSlice
from twinstack.api.errors import StatusError
from twinstack.api.kinds import ENDPOINT_SLICES, NODES, PODS, SERVICES
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.endpoints import ZONE, desired_endpoints
from twinstack.controllers.packing import Plan
from twinstack.controllers.servicepods import is_served
from twinstack.controllers.slices import MANAGED_BY, MANAGER, SERVICE_NAME, plan
from twinstack.controllers.slicewriting import SliceWriting
from twinstack.controllers.triggers import TriggerTimes

FOREIGN_CHANGE_DELAY = 1.0  # seconds before a change that is not ours is looked at


class EndpointSliceController:
    """Follows Services, Pods and Nodes; each change costs the Services it touches."""

    def __init__(self, context: Context, *, maximum: int = 100, batch_period: float = 0.0) -> None:
        """At most `maximum` endpoints a slice; Pod changes wait `batch_period` seconds for others to come."""
        self._events = context.recorder("endpoint-slice-controller")
        self._maximum = maximum
        self._batch_period = batch_period
        self._queue = WorkQueue("endpointslices")
        self._triggers = TriggerTimes()
        self._services = context.informers.of(SERVICES)
        self._pods = context.informers.of(PODS)
        self._nodes = context.informers.of(NODES)
        self._slices = context.informers.of(ENDPOINT_SLICES)
        self._selected = context.service_pods()
        self._pods_by_node = self._pods.index(lambda pod: [pod.spec.node_name])
        self._slices_by_service = self._slices.index(_managed_service)
        self._writing = SliceWriting(context.client, self._slices)

    async def run(self) -> None:
        await synced(self._services, self._pods, self._nodes, self._slices)
        self._services.subscribe(self._service_changed)
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)
        self._slices.subscribe(self._slice_changed)
        await self._queue.run(self._sync)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        if new is not None:
            self._queue.add(new.key)
        elif old is not None:
            self._triggers.forget(old.key)  # the slices go with their owner

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for key in self._selected.touched(old, new):
            self._queue.add(key, delay=self._batch_period)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        """Pods on an absent node are left out, and the zone of a node is written with its endpoints."""
        if old is not None and new is not None and old.metadata.labels.get(ZONE) == new.metadata.labels.get(ZONE):
            return
        node = new or old
        if node is not None:
            for pod in self._pods_by_node[node.metadata.name].values():
                for key in self._selected.services_of(pod):
                    self._queue.add(key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        if self._writing.own_write:
            return
        for slice_ in (old, new):
            if slice_ is not None:
                for key in _managed_service(slice_):
                    self._queue.add(key, delay=FOREIGN_CHANGE_DELAY)

    async def _sync(self, key: str) -> None:
        service = self._services.objects.get(key)
        if service is None or not is_served(service):
            return
        pods = self._selected.pods_of(service)
        desired = desired_endpoints(service, pods, self._nodes.objects)
        existing = self._slices_by_service[key].values()
        trigger_time = self._triggers.observe(service, pods)
        todo = plan(service, desired, existing, self._maximum, trigger_time)
        if todo:
            await self._apply(service, todo)

    async def _apply(self, service: Service, todo: Plan) -> None:
        failure = await self._writing.apply(todo, create=service.metadata.deletion_timestamp is None)
        if failure is None:
            return
        if not (isinstance(failure, StatusError) and failure.reason == "Conflict"):
            message = f"Error updating Endpoint Slices for Service {service.key}: {failure}"
            self._events.event(service, "Warning", "FailedToUpdateEndpointSlices", message)
        raise failure


def _managed_service(slice_: EndpointSlice) -> list[str]:
    labels = slice_.metadata.labels
    name = labels.get(SERVICE_NAME)
    return [f"{slice_.metadata.namespace}/{name}"] if name and labels.get(MANAGED_BY) == MANAGER else []
