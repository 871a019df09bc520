"""Keeps EndpointSlices of every Service with a selector: one set a family (KEP-752, KEP-563)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from twinstack.api.core import Node, Pod, Service
from twinstack.api.discovery import EndpointSlice
from twinstack.api.errors import StatusError
from twinstack.api.kinds import ENDPOINT_SLICES, NODES, PODS, SERVICES
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, namespace_ends, synced
from twinstack.controllers.endpoints import ZONE, desired_endpoints, is_served
from twinstack.controllers.podstate import is_ready
from twinstack.controllers.slices import MANAGED_BY, MANAGER, SERVICE_NAME, Plan, plan
from twinstack.controllers.triggers import TriggerTimes

FOREIGN_CHANGE_DELAY = 1.0  # seconds before a change that is not ours is looked at


class EndpointSliceController:
    """Follows Services, Pods and Nodes; each change costs the Services it touches."""

    def __init__(self, context: Context, *, maximum: int = 100, batch_period: float = 0.0) -> None:
        """At most `maximum` endpoints a slice; Pod changes wait `batch_period` seconds for others to come."""
        self._client = context.client
        self._events = context.recorder("endpoint-slice-controller")
        self._maximum = maximum
        self._batch_period = batch_period
        self._queue = WorkQueue("endpointslices")
        self._triggers = TriggerTimes()
        self._own_write = False  # while the informer is told of a write of ours
        self._services = context.informers.of(SERVICES)
        self._pods = context.informers.of(PODS)
        self._nodes = context.informers.of(NODES)
        self._slices = context.informers.of(ENDPOINT_SLICES)
        self._pods_by_label = self._pods.index(_labels)
        self._pods_by_node = self._pods.index(lambda pod: [pod.spec.node_name])
        self._services_by_label = self._services.index(_first_selector)
        self._slices_by_service = self._slices.index(_managed_service)

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
        if old is not None and new is not None and _same_endpoint(old, new):
            return
        keys: set[str] = set()
        for pod in (old, new):
            if pod is not None:
                keys.update(self._services_of(pod))
        for key in keys:
            self._queue.add(key, delay=self._batch_period)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        """Pods on an absent node are left out, and the zone of a node is written with its endpoints."""
        if old is not None and new is not None and old.metadata.labels.get(ZONE) == new.metadata.labels.get(ZONE):
            return
        node = new or old
        if node is not None:
            for pod in self._pods_by_node[node.metadata.name].values():
                for key in self._services_of(pod):
                    self._queue.add(key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        if self._own_write:
            return
        for slice_ in (old, new):
            if slice_ is not None:
                for key in _managed_service(slice_):
                    self._queue.add(key, delay=FOREIGN_CHANGE_DELAY)

    def _services_of(self, pod: Pod) -> Iterator[str]:
        for label in _labels(pod):
            for service in self._services_by_label[label].values():
                if is_served(service) and _selects(service, pod):
                    yield service.key

    async def _sync(self, key: str) -> None:
        service = self._services.objects.get(key)
        if service is None or not is_served(service):
            return
        pods = self._pods_of(service)
        desired = desired_endpoints(service, pods, self._nodes.objects)
        existing = self._slices_by_service[key].values()
        trigger_time = self._triggers.observe(service, pods)
        todo = plan(service, desired, existing, self._maximum, trigger_time)
        if todo:
            await self._apply(service, todo)

    def _pods_of(self, service: Service) -> list[Pod]:
        namespace, selector = service.metadata.namespace, service.spec.selector or {}
        fewest = min((self._pods_by_label[_label(namespace, name, value)] for name, value in selector.items()), key=len)
        return [pod for pod in fewest.values() if _selects(service, pod)]

    async def _apply(self, service: Service, todo: Plan) -> None:
        """Every write stands for itself: a failed one leaves the others done, and the whole is tried again."""
        work = [self._delete(slice_) for slice_ in todo.deletes]
        work += [self._update(slice_) for slice_ in todo.updates]
        if service.metadata.deletion_timestamp is None:
            work += [self._create(slice_) for slice_ in todo.creates]
        failures = [result for result in await asyncio.gather(*work, return_exceptions=True) if result is not None]
        if not failures:
            return
        failure = failures[0]
        if not (isinstance(failure, StatusError) and failure.reason == "Conflict"):
            message = f"Error updating Endpoint Slices for Service {service.key}: {failure}"
            self._events.event(service, "Warning", "FailedToUpdateEndpointSlices", message)
        raise failure

    async def _create(self, slice_: EndpointSlice) -> None:
        try:
            self._wrote(await self._client.create(ENDPOINT_SLICES, slice_))
        except StatusError as error:
            if not namespace_ends(error):
                raise

    async def _update(self, slice_: EndpointSlice) -> None:
        self._wrote(await self._client.update(ENDPOINT_SLICES, slice_))

    def _wrote(self, slice_: EndpointSlice) -> None:
        self._own_write = True
        self._slices.wrote(slice_)
        self._own_write = False

    async def _delete(self, slice_: EndpointSlice) -> None:
        meta = slice_.metadata
        try:
            await self._client.delete(ENDPOINT_SLICES, meta.name, meta.namespace, uid=meta.uid)
        except StatusError as error:
            if error.code != 404:
                raise
        self._own_write = True
        self._slices.removed(slice_)
        self._own_write = False


def _label(namespace: str, name: str, value: str) -> str:
    return f"{namespace}/{name}={value}"


def _labels(pod: Pod) -> list[str]:
    meta = pod.metadata
    return [_label(meta.namespace, name, value) for name, value in meta.labels.items()]


def _first_selector(service: Service) -> list[str]:
    """One label that every selected Pod carries: enough to find the Services that may select a Pod."""
    selector = service.spec.selector
    return [_label(service.metadata.namespace, *next(iter(selector.items())))] if selector else []


def _selects(service: Service, pod: Pod) -> bool:
    labels = pod.metadata.labels
    return all(labels.get(name) == value for name, value in (service.spec.selector or {}).items())


def _managed_service(slice_: EndpointSlice) -> list[str]:
    labels = slice_.metadata.labels
    name = labels.get(SERVICE_NAME)
    return [f"{slice_.metadata.namespace}/{name}"] if name and labels.get(MANAGED_BY) == MANAGER else []


def _same_endpoint(old: Pod, new: Pod) -> bool:
    """Whether nothing changed that an endpoint is made of. A Pod's spec is fixed once it runs."""
    return (
        old.metadata.labels == new.metadata.labels
        and old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        and old.spec.node_name == new.spec.node_name
        and old.status.phase == new.status.phase
        and old.status.pod_ips == new.status.pod_ips
        and is_ready(old) == is_ready(new)
    )
