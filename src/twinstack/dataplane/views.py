"""What the computation takes from Services and EndpointSlices: addresses parsed, everything else left behind.

An API server lets no malformed address, no port out of range and no unknown protocol pass. If one comes all the
same, the part that nobody can read is left out, and the rest of the object works: each reader returns its complaints.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from sys import intern
from typing import TypeVar

from twinstack.api.core import Service
from twinstack.api.discovery import Endpoint as SliceEndpoint
from twinstack.api.discovery import EndpointSlice
from twinstack.dataplane.model import Protocol, Value
from twinstack.ip import CIDR, Address, IPFamily

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
DEFAULT_AFFINITY = 10_800  # seconds, as the API server defaults it
NO_ADDRESS = "None"  # clusterIP of a headless Service

_TYPES = frozenset(("", "ClusterIP", "NodePort", "LoadBalancer"))
_MOST_PORTS = 1 << 16

T = TypeVar("T")


class PortView(Value, frozen=True):
    name: str
    protocol: Protocol
    port: int
    node_port: int  # 0: none


class Exposure(Value, frozen=True):
    """How a Service is reached from outside, but for its node ports."""

    external: tuple[Address, ...] = ()  # spec.externalIPs, each once
    balanced: tuple[
        Address, ...
    ] = ()  # load-balancer addresses that the node answers on: ipMode VIP, or none (KEP-1860)
    sources: tuple[CIDR, ...] = ()  # loadBalancerSourceRanges
    unreadable: bool = False  # there are ranges that nobody can read: whom they were for is not let in
    health_port: int = 0  # healthCheckNodePort, when it is to be answered on


class ServiceView(Value, frozen=True):
    """A Service that has an address."""

    namespace: str
    name: str
    cluster_ips: tuple[Address, ...]
    ports: tuple[PortView, ...]
    inside_local: bool = False  # internalTrafficPolicy
    outside_local: bool = False  # externalTrafficPolicy
    affinity: int = 0  # seconds for which a client stays with its endpoint after its last connection; 0: not at all
    exposure: Exposure = Exposure()

    def cluster_ip(self, family: IPFamily) -> Address | None:
        for address in self.cluster_ips:
            if address.family is family:
                return address
        return None


class EndpointView(Value, frozen=True):
    address: Address
    node: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: frozenset[str] = frozenset()  # hints: which zones, which nodes it is meant for
    nodes: frozenset[str] = frozenset()


SlicePort = tuple[str, Protocol, int]  # name, protocol, number


class SliceView(Value, frozen=True):
    """An EndpointSlice of one family."""

    owner: str  # namespace/name of the Service
    family: IPFamily
    ports: tuple[SlicePort, ...]
    endpoints: tuple[EndpointView, ...]
    plain: bool = False  # every endpoint is well and meant for every node, as most often


class Complaints(list[str]):
    """What could not be read of one object, in phrases."""

    def parsed(self, parse: Callable[[str], T], texts: Iterable[str]) -> list[T]:
        """Those of the texts that can be parsed."""
        found = []
        for text in texts:
            try:
                found.append(parse(text))
            except ValueError as error:
                self.append(str(error))
        return found

    def __str__(self) -> str:
        more = f" (and {len(self) - 1} more)" if len(self) > 1 else ""
        return f"{self[0]}{more}" if self else ""


_FAMILIES = {str(family): family for family in IPFamily}
_MAPPED = bytes(10) + b"\xff\xff"
_HIDDEN = Exposure()


def read_service(service: Service, complaints: Complaints) -> ServiceView | None:
    """None for a Service that the proxy has nothing to do for: headless, ExternalName, without an address."""
    spec = service.spec
    if spec.type == "ExternalName" or spec.cluster_ip in ("", NO_ADDRESS):
        return None
    if spec.type not in _TYPES:
        complaints.append(f"type {spec.type} is unknown, and taken for ClusterIP")
    addresses = complaints.parsed(Address.parse, spec.cluster_ips or [spec.cluster_ip])
    return ServiceView(
        service.metadata.namespace,
        service.metadata.name,
        tuple(addresses),
        _ports(service, complaints),
        spec.internal_traffic_policy == "Local",
        spec.external_traffic_policy == "Local",
        _affinity(service),
        _exposure(service, complaints),
    )


def _ports(service: Service, complaints: Complaints) -> tuple[PortView, ...]:
    with_node_ports = service.spec.type in ("NodePort", "LoadBalancer")  # of other types they are left over
    found = []
    for port in service.spec.ports:
        protocol = Protocol.parse(port.protocol)
        node_port = port.node_port if with_node_ports else 0
        if protocol is None:
            complaints.append(f"port {port.name!r} has the unknown protocol {port.protocol}")
        elif not 0 < port.port < _MOST_PORTS or not 0 <= node_port < _MOST_PORTS:
            complaints.append(f"port {port.name!r} is out of range: {port.port}, node port {port.node_port}")
        else:
            found.append(PortView(port.name, protocol, port.port, node_port))
    return tuple(found)


def _affinity(service: Service) -> int:
    spec = service.spec
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    client = config.client_ip if config is not None else None
    return (client.timeout_seconds if client is not None else None) or DEFAULT_AFFINITY


def _exposure(service: Service, complaints: Complaints) -> Exposure:
    spec, ingress = service.spec, service.status.load_balancer.ingress
    health = (
        spec.health_check_node_port if spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local" else 0
    )
    if not (ingress or spec.external_ips or health):
        return _HIDDEN
    balanced = [entry.ip for entry in ingress if entry.ip and entry.ip_mode in (None, "VIP")]
    ranges = spec.load_balancer_source_ranges
    sources = complaints.parsed(lambda text: CIDR.parse(text.strip()), ranges)
    return Exposure(
        tuple(dict.fromkeys(complaints.parsed(Address.parse, spec.external_ips))),
        tuple(dict.fromkeys(complaints.parsed(Address.parse, balanced))),
        tuple(sources),
        len(sources) < len(ranges),
        health if 0 < health < _MOST_PORTS else 0,
    )


def owner_of(slice_: EndpointSlice) -> str:
    """`namespace/name` of the Service a slice belongs to, or nothing."""
    name = slice_.metadata.labels.get(SERVICE_NAME_LABEL, "")
    return f"{slice_.metadata.namespace}/{name}" if name else ""


def read_slice(slice_: EndpointSlice, complaints: Complaints) -> SliceView | None:
    """None for a slice of names, or of no Service. Of an endpoint's addresses only the first one counts."""
    owner, family = owner_of(slice_), _FAMILIES.get(slice_.address_type)
    if not owner or family is None:
        return None
    ports = _shared(tuple(_slice_ports(slice_, complaints)))
    endpoints, plain = [], True
    for endpoint in slice_.endpoints or ():
        address = _address(endpoint.addresses[0], family, complaints) if endpoint.addresses else None
        if address is not None:
            view = _endpoint(endpoint, address)
            endpoints.append(view)
            plain = plain and view.ready and view.serving and not (view.terminating or view.zones or view.nodes)
    return SliceView(owner, family, ports, tuple(endpoints), plain)


@lru_cache(4096)
def _shared(ports: tuple[SlicePort, ...]) -> tuple[SlicePort, ...]:
    """One value for all that are equal: most slices have the ports of many others."""
    return ports


def _slice_ports(slice_: EndpointSlice, complaints: Complaints) -> Iterator[SlicePort]:
    for port in slice_.ports or ():
        protocol = Protocol.parse(port.protocol)
        if protocol is None:
            complaints.append(f"port {port.name!r} has the unknown protocol {port.protocol}")
        elif port.port and not 0 < port.port < _MOST_PORTS:
            complaints.append(f"port {port.name!r} is out of range: {port.port}")
        elif port.port:
            yield port.name or "", protocol, port.port


def _address(text: str, family: IPFamily, complaints: Complaints) -> Address | None:
    try:
        packed = socket.inet_pton(family.af, text)
    except (OSError, ValueError):
        packed = _MAPPED
    if not packed.startswith(_MAPPED):
        return Address(family, int.from_bytes(packed, "big"))
    if complaints.parsed(Address.parse, [text]):
        complaints.append(f"{text} is no address of {family}")
    return None


def _endpoint(endpoint: SliceEndpoint, address: Address) -> EndpointView:
    conditions, hints, node = endpoint.conditions, endpoint.hints, intern(endpoint.node_name or "")
    ready, serving = conditions.ready is not False, conditions.serving is not False
    terminating = conditions.terminating is True
    if hints is None:
        return EndpointView(address, node, ready, serving, terminating)
    zones, nodes = (frozenset(each.name for each in some) for some in (hints.for_zones, hints.for_nodes))
    return EndpointView(address, node, ready, serving, terminating, zones, nodes)
