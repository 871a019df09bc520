"""What every cluster has from its first second: the default Service ranges and the Service `kubernetes`.

The server keeps the ServiceCIDR `kubernetes` (its flags, as an object), the Service `kubernetes` in `default`,
the EndpointSlices and the Endpoints with the addresses of the servers that live, and two PriorityClasses. Each is
made when it is missing and otherwise changed as little as upstream changes it; users may edit the first two.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.ip import Address, IPFamily
from twinstack.server import flow_control, local_services, priority_classes, published
from twinstack.server.identity import Identity
from twinstack.server.messages import Route, UserInfo
from twinstack.server.options import WriteOptions
from twinstack.server.registry import Registry
from twinstack.server.serverleases import ServerLeases
from twinstack.server.strategy.base import ServerConfig
from twinstack.store import StoreError

JSON = dict[str, Any]

NAME = "kubernetes"
NAMESPACE = "default"
INTERVAL = 10.0  # seconds between two looks

_SERVICE_CIDRS = resource("networking.k8s.io", "servicecidrs")
_SERVICES = resource("", "services")
_ENDPOINT_SLICES = resource("discovery.k8s.io", "endpointslices")
_ENDPOINTS = resource("", "endpoints")
_EVENTS = resource("", "events")
_SELF = UserInfo("system:apiserver", ("system:masters",))
_RANGES_MANAGER = "kubernetes-service-cidr-controller"
_READY = "Kubernetes default Service CIDR is ready"

_log = logging.getLogger(__name__)


async def run(registry: Registry, config: ServerConfig, client_ca_file: str, endpoints: ServerEndpoints) -> None:
    """Look at once, then every ten seconds; cancel to stop. A look that fails is logged and repeated."""
    looks = (
        DefaultRanges(registry, config).ensure,
        partial(ensure_service, registry, config),
        endpoints.ensure,
        partial(priority_classes.ensure, registry),
        partial(published.ensure, registry, client_ca_file),
        Identity(registry).ensure,
        partial(local_services.ensure, registry),
        partial(flow_control.ensure, registry),
    )
    while True:
        for look in looks:
            try:
                await look()
            except (OSError, StatusError, StoreError) as error:
                _log.warning("the cluster's own objects: %s", error)
        await asyncio.sleep(INTERVAL)


class DefaultRanges:
    """The ServiceCIDR `kubernetes` and what has been said about it already."""

    def __init__(self, registry: Registry, config: ServerConfig) -> None:
        self._registry = registry
        self._cidrs = [str(block) for block in config.service_ranges]
        self._reported: set[str] = set()

    async def ensure(self) -> None:
        """Make it, let it grow from one family to two, set its Ready condition. Raises StatusError, StoreError."""
        stored = self._registry.reader.get(_SERVICE_CIDRS, "", NAME)
        if stored is None:
            body = {"metadata": {"name": NAME}, "spec": {"cidrs": self._cidrs}}
            stored = (await self._registry.create(Route(_SERVICE_CIDRS), body, _SELF)).object
        elif len(self._cidrs) == 2 and stored["spec"]["cidrs"] == self._cidrs[:1]:
            stored = await self._grow(stored)
        await self._judge(stored)

    async def _grow(self, stored: JSON) -> JSON:
        def add_family(obj: JSON) -> tuple[JSON, list[str]]:
            obj["spec"]["cidrs"] = self._cidrs
            return obj, []

        try:
            written = await self._registry.change(Route(_SERVICE_CIDRS, name=NAME), add_family, _SELF)
        except StatusError as error:
            reason = "KubernetesDefaultServiceCIDRError"
            await self._report(stored, reason, f"The default ServiceCIDR can not be updated to dual stack {error}")
            return stored
        return written.object

    async def _judge(self, stored: JSON) -> None:
        if stored["spec"]["cidrs"] != self._cidrs:
            shown, flags = " ".join(stored["spec"]["cidrs"]), ",".join(self._cidrs)
            note = f"The default ServiceCIDR [{shown}] does not match the controller flag configurations {flags}"
            await self._report(stored, "KubernetesDefaultServiceCIDRInconsistent", note)
            return
        conditions = (stored.get("status") or {}).get("conditions") or []
        ready = next((item for item in conditions if item["type"] == "Ready"), None)
        if ready is None:
            await self._set_ready()
        elif ready["status"] == "False":
            note = f"Configuration matches, but {ready.get('message', '')}"
            await self._report(stored, ready.get("reason") or "NotReady", note)

    async def _set_ready(self) -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": times.now(), "message": _READY}
        config = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": NAME},
            "status": {"conditions": [condition]},
        }
        options = WriteOptions(field_manager=_RANGES_MANAGER, force=True)
        route = Route(_SERVICE_CIDRS, name=NAME, subresource="status")
        await self._registry.apply(route, msgspec.json.encode(config), _SELF, options)

    async def _report(self, stored: JSON, reason: str, note: str) -> None:
        """A Warning event, once per process and text."""
        if note in self._reported:
            return
        self._reported.add(note)
        _log.warning("%s", note)
        now = times.now()
        about = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "name": NAME,
            "uid": stored["metadata"]["uid"],
        }
        event = {
            "metadata": {"name": f"{NAME}.{secrets.token_hex(8)}"},
            "involvedObject": about,
            "type": "Warning",
            "reason": reason,
            "message": note,
            "source": {"component": _RANGES_MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._registry.create(Route(_EVENTS, NAMESPACE), event, _SELF)


async def ensure_service(registry: Registry, config: ServerConfig) -> None:
    """The Service of the API server: the first address of the first range. Raises StatusError, StoreError."""
    if registry.reader.get(_SERVICES, NAMESPACE, NAME) is not None:
        return
    body = {
        "metadata": {"name": NAME, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": str(config.service_ranges[0].address(1)),
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.secure_port}],
        },
    }
    await registry.create(Route(_SERVICES, NAMESPACE), body, _SELF)


class ServerEndpoints:
    """The endpoints of the Service `kubernetes`: this server's addresses, or with `leases` those of all that live."""

    def __init__(self, registry: Registry, config: ServerConfig, *, kept: bool = True, shared: bool = False) -> None:
        self._registry = registry
        self._config = config
        self._kept = kept
        self._leases = ServerLeases(registry, own_addresses(config)) if shared else None

    async def ensure(self) -> None:
        """Raises StatusError, StoreError."""
        if self._kept:
            await self._write(await self._leases.renew() if self._leases else own_addresses(self._config))

    async def leave(self) -> None:
        """The server ends: the others' endpoints stay. The last one leaves its own, so that there are some."""
        if self._kept and self._leases:
            await self._write(await self._leases.end())

    async def _write(self, addresses: Sequence[Address]) -> None:
        await ensure_endpoints(self._registry, self._config, addresses)
        await ensure_legacy_endpoints(self._registry, self._config, addresses)


async def ensure_endpoints(registry: Registry, config: ServerConfig, addresses: Sequence[Address]) -> None:
    """The EndpointSlices of the Service: the one of the primary family has its name, as upstream.

    Servers that advertise addresses of both families have a second one beside it, which upstream has not. Without an
    address of the primary family the Service leads nowhere. Raises StatusError, StoreError.
    """
    primary = config.service_ranges[0].family
    for family in (primary, primary.other):
        wanted = _endpoint_slice(config, family, [address for address in addresses if address.family is family])
        if wanted["endpoints"]:
            await _ensure_slice(registry, wanted)
        elif family is not primary and registry.reader.get(_ENDPOINT_SLICES, NAMESPACE, wanted["metadata"]["name"]):
            await registry.delete(Route(_ENDPOINT_SLICES, NAMESPACE, wanted["metadata"]["name"]), _SELF)


async def _ensure_slice(registry: Registry, wanted: JSON) -> None:
    name = wanted["metadata"]["name"]
    stored = registry.reader.get(_ENDPOINT_SLICES, NAMESPACE, name)
    if stored is not None and stored["addressType"] != wanted["addressType"]:  # cannot be changed
        await registry.delete(Route(_ENDPOINT_SLICES, NAMESPACE, name), _SELF)
        stored = None
    if stored is None:
        await registry.create(Route(_ENDPOINT_SLICES, NAMESPACE), wanted, _SELF)
    elif any(stored.get(field) != wanted[field] for field in ("endpoints", "ports")):

        def replace(obj: JSON) -> tuple[JSON, list[str]]:
            return obj | {"endpoints": wanted["endpoints"], "ports": wanted["ports"]}, []

        await registry.change(Route(_ENDPOINT_SLICES, NAMESPACE, name), replace, _SELF)


async def ensure_legacy_endpoints(registry: Registry, config: ServerConfig, addresses: Sequence[Address]) -> None:
    """The same as Endpoints, for clients that know no slices: the primary family. Raises StatusError, StoreError."""
    listed = [{"ip": str(address)} for address in addresses if address.family is config.service_ranges[0].family]
    if not listed:
        return
    subsets = [{"addresses": listed, "ports": [{"name": "https", "port": config.secure_port, "protocol": "TCP"}]}]
    stored = registry.reader.get(_ENDPOINTS, NAMESPACE, NAME)
    if stored is None:
        meta = {"name": NAME, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}
        await registry.create(Route(_ENDPOINTS, NAMESPACE), {"metadata": meta, "subsets": subsets}, _SELF)
    elif stored.get("subsets") != subsets:

        def replace(obj: JSON) -> tuple[JSON, list[str]]:
            return obj | {"subsets": subsets}, []

        await registry.change(Route(_ENDPOINTS, NAMESPACE, NAME), replace, _SELF)


def own_addresses(config: ServerConfig) -> list[Address]:
    """Where this server says it is reached."""
    return sorted(config.advertise_addresses)


def _endpoint_slice(config: ServerConfig, family: IPFamily, addresses: Sequence[Address]) -> JSON:
    name = NAME if family is config.service_ranges[0].family else f"{NAME}-{family.lower()}"
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": str(family),
        "endpoints": [{"addresses": [str(address)], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "https", "protocol": "TCP", "port": config.secure_port}],
    }
