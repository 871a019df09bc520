"""Keeps the Endpoints object of every Service with a selector, for clients that know no EndpointSlices (core/v1)."""

from __future__ import annotations

from twinstack.api.core import Pod, Service
from twinstack.api.endpoints import Endpoints
from twinstack.api.errors import StatusError
from twinstack.api.kinds import ENDPOINTS, PODS, SERVICES
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, namespace_ends, synced
from twinstack.controllers.mirroring import LEADER
from twinstack.controllers.servicepods import is_served
from twinstack.controllers.subsets import plan, subsets_of
from twinstack.controllers.triggers import TriggerTimes

FOREIGN_CHANGE_DELAY = 1.0  # seconds before a change that is not ours is looked at


class EndpointsController:
    """Follows Services and Pods; an object whose Service goes, or went before the start, goes too.

    One that somebody makes before its Service stays.
    """

    def __init__(self, context: Context, *, batch_period: float = 0.0) -> None:
        """Pod changes wait `batch_period` seconds for others to come."""
        self._client = context.client
        self._events = context.recorder("endpoint-controller")
        self._batch_period = batch_period
        self._queue = WorkQueue("endpoints")
        self._triggers = TriggerTimes()
        self._own_write = False  # while the informer is told of a write of ours
        self._starting = False  # while the objects that are there already are told
        self._services = context.informers.of(SERVICES)
        self._pods = context.informers.of(PODS)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._selected = context.service_pods()

    async def run(self) -> None:
        await synced(self._services, self._pods, self._endpoints)
        self._services.subscribe(self._service_changed)
        self._pods.subscribe(self._pod_changed)
        self._starting = True
        self._endpoints.subscribe(self._endpoints_changed)
        self._starting = False
        await self._queue.run(self._sync)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        if new is None and old is not None:
            self._triggers.forget(old.key)
        service = new or old
        if service is not None:
            self._queue.add(service.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for key in self._selected.touched(old, new):
            self._queue.add(key, delay=self._batch_period)

    def _endpoints_changed(self, old: Endpoints | None, new: Endpoints | None) -> None:
        endpoints = new or old
        if endpoints is None or self._own_write:
            return
        if endpoints.key in self._services.objects:
            self._queue.add(endpoints.key, delay=FOREIGN_CHANGE_DELAY)
        elif self._starting:
            self._queue.add(endpoints.key)

    async def _sync(self, key: str) -> None:
        service, existing = self._services.objects.get(key), self._endpoints.objects.get(key)
        if service is None:
            if existing is not None and LEADER not in existing.metadata.annotations:
                await self._delete(existing)
            return
        if not is_served(service):
            return
        pods = self._selected.pods_of(service)
        trigger_time = self._triggers.observe(service, pods)
        wanted = plan(service, subsets_of(service, pods), existing, trigger_time)
        if wanted is not None:
            await self._write(service, wanted, new=existing is None)

    async def _write(self, service: Service, wanted: Endpoints, *, new: bool) -> None:
        try:
            answer = await (self._client.create if new else self._client.update)(ENDPOINTS, wanted)
        except StatusError as error:
            if namespace_ends(error):
                return
            if new and error.reason != "AlreadyExists":
                message = f"Failed to create endpoint for service {service.key}: {error}"
                self._events.event(service, "Warning", "FailedToCreateEndpoint", message)
            elif not new and error.reason != "Conflict":
                message = f"Failed to update endpoint {service.key}: {error}"
                self._events.event(wanted, "Warning", "FailedToUpdateEndpoint", message)
            raise
        self._own_write = True
        self._endpoints.wrote(answer)
        self._own_write = False

    async def _delete(self, endpoints: Endpoints) -> None:
        meta = endpoints.metadata
        try:
            await self._client.delete(ENDPOINTS, meta.name, meta.namespace, uid=meta.uid)
        except StatusError as error:
            if error.code not in (404, 409):
                raise
