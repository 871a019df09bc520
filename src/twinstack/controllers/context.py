"""What every controller is given, and the form it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from twinstack.api.errors import StatusError
from twinstack.api.kinds import PODS, SERVICES
from twinstack.client.discovery import Discovery, discover
from twinstack.client.events import EventRecorder
from twinstack.client.informer import Informer
from twinstack.client.informers import SharedInformers
from twinstack.client.rest import Client
from twinstack.controllers.servicepods import ServicePods

DISCOVERED = 30.0  # seconds for which it is believed that the server serves what it served


class Context:
    """One client and its informers, shared by all controllers of a process."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.informers = SharedInformers(client)
        self.recorders: list[EventRecorder] = []
        self._service_pods: ServicePods | None = None
        self._served: Discovery | None = None
        self._served_at = 0.0  # loop time

    def recorder(self, component: str) -> EventRecorder:
        """Where a controller tells its events, under the name that upstream's has."""
        recorder = EventRecorder(self.client, component)
        self.recorders.append(recorder)
        return recorder

    def service_pods(self) -> ServicePods:
        """Who selects whom, shared by the controllers of endpoints."""
        if self._service_pods is None:
            self._service_pods = ServicePods(self.informers.of(SERVICES), self.informers.of(PODS))
        return self._service_pods

    async def served(self, *, newer_than: float = DISCOVERED) -> Discovery:
        """What the server serves, as of at most `newer_than` seconds ago."""
        now = asyncio.get_running_loop().time()
        if self._served is None or self._served.failures or now - self._served_at > newer_than:
            self._served, self._served_at = await discover(self.client), now
        return self._served


class Controller(Protocol):
    """Takes its informers when made; works for ever when run."""

    async def run(self) -> None: ...


def namespace_ends(error: StatusError) -> bool:
    """Whether a creation was refused because its namespace is being deleted: then nothing is lacking."""
    causes = (error.details or {}).get("causes") or []
    return error.code == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


async def synced(*informers: Informer[Any]) -> None:
    """Wait until all of them have their first whole state: nothing is decided before."""
    await asyncio.gather(*(informer.synced() for informer in informers))


async def run_all(controllers: Sequence[Controller], context: Context) -> None:
    """Run controllers, informers and events until cancelled, or until one fails."""
    async with asyncio.TaskGroup() as group:
        for controller in controllers:
            group.create_task(controller.run(), name=type(controller).__name__)
        group.create_task(context.informers.run(), name="informers")
        for recorder in context.recorders:
            group.create_task(recorder.run(), name="events")
