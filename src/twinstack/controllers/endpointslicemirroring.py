"""Mirrors Endpoints that people and older programs write into EndpointSlices, which alone the proxies read."""

from __future__ import annotations

import asyncio

from twinstack.api.core import Service
from twinstack.api.discovery import EndpointSlice
from twinstack.api.endpoints import Endpoints
from twinstack.api.errors import StatusError
from twinstack.api.kinds import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.mirroring import MANAGER, Mirror, is_mirrored, mirror, plan
from twinstack.controllers.packing import Plan
from twinstack.controllers.slices import MANAGED_BY, SERVICE_NAME
from twinstack.controllers.slicewriting import SliceWriting

FOREIGN_CHANGE_DELAY = 1.0  # seconds before a change that is not ours is looked at


class EndpointSliceMirroringController:
    """Works on Endpoints by their key, which is also that of their Service."""

    def __init__(self, context: Context, *, per_subset: int = 1000, batch_period: float = 0.0) -> None:
        """At most `per_subset` addresses of a subset; changes wait `batch_period` seconds for others to come."""
        self._events = context.recorder("endpoint-slice-mirroring-controller")
        self._per_subset = per_subset
        self._batch_period = batch_period
        self._queue = WorkQueue("endpointslicemirroring")
        self._services = context.informers.of(SERVICES)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._slices = context.informers.of(ENDPOINT_SLICES)
        self._slices_by_service = self._slices.index(_mirrored_service)
        self._writing = SliceWriting(context.client, self._slices)

    async def run(self) -> None:
        await synced(self._services, self._endpoints, self._slices)
        self._services.subscribe(self._service_changed)
        self._endpoints.subscribe(self._endpoints_changed)
        self._slices.subscribe(self._slice_changed)
        await self._queue.run(self._sync)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        """Nothing of a Service counts but that it is there and has no selector."""
        if (old is not None and not old.spec.selector) == (new is not None and not new.spec.selector):
            return
        service = new or old
        if service is not None:
            self._queue.add(service.key)

    def _endpoints_changed(self, old: Endpoints | None, new: Endpoints | None) -> None:
        endpoints = new or old
        if endpoints is not None and self._concerns_us(endpoints.key):
            self._queue.add(endpoints.key, delay=self._batch_period)

    def _concerns_us(self, key: str) -> bool:
        """Most Endpoints are written for a Service with a selector: they cost nothing here."""
        service = self._services.objects.get(key)
        return bool(self._slices_by_service[key]) or (service is not None and not service.spec.selector)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        if self._writing.own_write:
            return
        for slice_ in (old, new):
            if slice_ is not None:
                for key in _mirrored_service(slice_):
                    self._queue.add(key, delay=FOREIGN_CHANGE_DELAY)

    async def _sync(self, key: str) -> None:
        endpoints, existing = self._endpoints.objects.get(key), self._slices_by_service[key].values()
        if endpoints is None or not is_mirrored(endpoints, self._services.objects.get(key)):
            await self._apply(endpoints, Plan([], [], list(existing)))
            return
        wanted = mirror(endpoints, self._per_subset)
        self._tell(endpoints, wanted)
        await self._apply(endpoints, plan(endpoints, wanted.families, existing))

    def _tell(self, endpoints: Endpoints, wanted: Mirror) -> None:
        if wanted.invalid:
            message = f"Skipped {wanted.invalid} invalid IP addresses when mirroring to EndpointSlices"
            self._events.event(endpoints, "Warning", "InvalidIPAddress", message)
        if wanted.skipped > wanted.invalid:
            message = (
                f"A max of {self._per_subset} addresses can be mirrored to EndpointSlices per Endpoints subset. "
                f"{wanted.skipped} addresses were skipped"
            )
            self._events.event(endpoints, "Warning", "TooManyAddressesToMirror", message)

    async def _apply(self, endpoints: Endpoints | None, todo: Plan) -> None:
        if not todo:
            return
        lives = endpoints is not None and endpoints.metadata.deletion_timestamp is None
        failure = await self._writing.apply(todo, create=lives)
        if failure is None:
            return
        passing = isinstance(failure, StatusError) and failure.reason == "Conflict"
        if endpoints is not None and not passing and not isinstance(failure, asyncio.CancelledError):
            message = f"Error updating EndpointSlices for Endpoints {endpoints.key}: {failure}"
            self._events.event(endpoints, "Warning", "FailedToUpdateEndpointSlices", message)
        raise failure


def _mirrored_service(slice_: EndpointSlice) -> list[str]:
    labels = slice_.metadata.labels
    name = labels.get(SERVICE_NAME)
    return [f"{slice_.metadata.namespace}/{name}"] if name and labels.get(MANAGED_BY) == MANAGER else []
