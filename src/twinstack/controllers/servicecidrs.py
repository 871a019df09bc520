"""Looks after ServiceCIDRs: ready ones say so, and none goes while Services have addresses of it (KEP-1880)."""

from __future__ import annotations

import logging
import time
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.core import Service
from twinstack.api.errors import StatusError
from twinstack.api.kinds import IP_ADDRESSES, SERVICE_CIDRS, SERVICES
from twinstack.api.networking import ServiceCIDR
from twinstack.client.rest import METADATA_LIST
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.podstate import condition
from twinstack.controllers.serviceranges import is_covered, stranded
from twinstack.ip import Address

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
READY_MESSAGE = "Kubernetes Service CIDR is ready"
IN_USE = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
GRACE = 10.0  # seconds after the deletion in which a server may yet allocate from the range
RECHECK = 30.0  # seconds until one that is in use is looked at again, if no Service goes
_ALLOCATED = "ipaddress.kubernetes.io/managed-by=ipallocator.k8s.io"

log = logging.getLogger(__name__)


class _Meta(msgspec.Struct):
    name: str


class _Item(msgspec.Struct):
    metadata: _Meta


class _Items(msgspec.Struct):
    items: list[_Item]


class ServiceCIDRController:
    """Addresses are listed only while a range is being deleted: they are as many as Services."""

    def __init__(self, context: Context, *, grace: float = GRACE) -> None:
        self._client = context.client
        self._events = context.recorder("service-cidr-controller")
        self._grace = grace
        self._queue = WorkQueue("servicecidrs")
        self._cidrs = context.informers.of(SERVICE_CIDRS)
        self._services = context.informers.of(SERVICES)
        self._going: set[str] = set()  # names of those that are being deleted

    async def run(self) -> None:
        await synced(self._cidrs)
        self._cidrs.subscribe(self._cidr_changed)
        self._services.subscribe(self._service_changed)
        await self._queue.run(self._sync, workers=1)

    def _cidr_changed(self, old: ServiceCIDR | None, new: ServiceCIDR | None) -> None:
        for name in self._going:
            self._queue.add(name)  # what comes or goes may set it free, or hold it
        if new is None:
            if old is not None:
                self._going.discard(old.metadata.name)
            return
        if new.metadata.deletion_timestamp is not None:
            self._going.add(new.metadata.name)
        self._queue.add(new.metadata.name)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        if old is not None and (new is None or old.spec.cluster_ips != new.spec.cluster_ips):
            for name in self._going:
                self._queue.add(name)

    async def _sync(self, name: str) -> None:
        cidr = self._cidrs.objects.get(name)
        if cidr is None:
            return
        try:
            if cidr.metadata.deletion_timestamp is None:
                await self._establish(cidr)
            elif FINALIZER in cidr.metadata.finalizers:
                await self._release(cidr, times.parse_time(cidr.metadata.deletion_timestamp))
        except StatusError as error:
            if error.code != 404:
                raise

    async def _establish(self, cidr: ServiceCIDR) -> None:
        if FINALIZER not in cidr.metadata.finalizers:
            cidr = await self._patch(cidr, {"metadata": {"finalizers": [FINALIZER]}})
        try:
            await self._say(cidr, "True", "", READY_MESSAGE)
        except StatusError as error:
            if error.code not in (404, 409):
                message = "The ServiceCIDR Status can not be set to Ready=True"
                self._events.event(cidr, "Warning", "KubernetesServiceCIDRError", message)
            raise

    async def _release(self, cidr: ServiceCIDR, since: float) -> None:
        """Let it go when that strands nobody; after the grace it is asked again, for what was allocated meanwhile."""
        others = list(self._cidrs.objects.values())
        if not is_covered(cidr, others) and stranded(cidr, others, await self._addresses()):
            await self._say(cidr, "False", "Terminating", IN_USE)
            self._queue.add(cidr.metadata.name, delay=RECHECK)
            return
        left = since + self._grace - time.time()
        if left > 0:
            self._queue.add(cidr.metadata.name, delay=left)
            return
        await self._patch(cidr, {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}})
        log.info("service CIDR %s is released", cidr.metadata.name)

    async def _addresses(self) -> list[Address]:
        """The cluster IPs that Services have."""
        path = f"{IP_ADDRESSES.resource.path()}?labelSelector={_ALLOCATED}"
        answer = msgspec.json.decode(await self._client.request("GET", path, accept=METADATA_LIST), type=_Items)
        return [Address.parse(item.metadata.name) for item in answer.items]

    async def _say(self, cidr: ServiceCIDR, status: str, reason: str, message: str) -> None:
        """Write the condition Ready, unless it is as it should be."""
        known = condition(cidr.status.conditions, "Ready")
        if known is not None and (known.status, known.reason, known.message) == (status, reason, message):
            return
        turned = times.now() if known is None or known.status != status else known.last_transition_time
        change: dict[str, Any] = {
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": turned,
        }
        await self._patch(cidr, {"status": {"conditions": [change]}}, subresource="status")

    async def _patch(self, cidr: ServiceCIDR, patch: dict[str, Any], *, subresource: str = "") -> ServiceCIDR:
        answer = await self._client.patch(SERVICE_CIDRS, cidr.metadata.name, "", patch, subresource=subresource)
        self._cidrs.wrote(answer)
        return answer
