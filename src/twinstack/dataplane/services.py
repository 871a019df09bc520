"""A Service and its EndpointSlices → what a node must do for it, one family at a time."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.api.core import Service, ServicePort
from twinstack.api.discovery import EndpointSlice
from twinstack.dataplane.endpoints import Carriers, Endpoint, Endpoints, choose, gather
from twinstack.dataplane.model import (
    NOTHING,
    Action,
    FrontEnd,
    Hairpin,
    HealthCheck,
    NodeView,
    Protocol,
    ServicePortName,
    ServiceState,
    Slot,
    Target,
    Via,
)
from twinstack.ip import CIDR, Address, IPFamily

DEFAULT_AFFINITY = 10_800  # seconds, as the API server defaults it
NO_ADDRESS = "None"  # clusterIP of a headless Service


def cluster_ip(service: Service, family: IPFamily) -> Address | None:
    """The Service's address of the family, or None when the proxy has nothing to do for it there."""
    spec = service.spec
    if spec.type == "ExternalName" or spec.cluster_ip in ("", NO_ADDRESS):
        return None
    for text in spec.cluster_ips or [spec.cluster_ip]:
        address = Address.parse(text)
        if address.family is family:
            return address
    return None


def state_of(service: Service, slices: Iterable[EndpointSlice], family: IPFamily, node: NodeView) -> ServiceState:
    """All front ends of `service` in `family`. `slices` are its own, of that address type."""
    address = cluster_ip(service, family)
    if address is None:
        return NOTHING
    endpoints = gather(slices, node.name)
    front_ends: list[FrontEnd] = []
    hairpins: set[Hairpin] = set()
    for port in service.spec.ports:
        protocol = Protocol.parse(port.protocol)
        if protocol is None:
            continue
        behind = endpoints.get((port.name, protocol), {})
        carriers = choose(behind.values(), node)
        name = ServicePortName(service.metadata.namespace, service.metadata.name, port.name, protocol)
        front_ends += _front_ends(service, port, address, name, carriers, _serving(protocol, behind.values()), node)
        hairpins |= {Hairpin(t, protocol) for t in (*carriers.cluster, *carriers.local) if behind[t].local}
    return ServiceState(address, tuple(front_ends), tuple(sorted(hairpins)), _health_check(service, endpoints))


def _health_check(service: Service, endpoints: Endpoints) -> HealthCheck | None:
    spec = service.spec
    if spec.type != "LoadBalancer" or spec.external_traffic_policy != "Local" or not spec.health_check_node_port:
        return None
    ready = (each for found in endpoints.values() for each in found.values() if each.local and each.ready)
    return HealthCheck(spec.health_check_node_port, len({each.target.address for each in ready}))


def _serving(protocol: Protocol, endpoints: Iterable[Endpoint]) -> frozenset[Target]:
    """Whom established flows may stay with, whatever the traffic policy: only UDP flows are ever cut."""
    if protocol is not Protocol.UDP:
        return frozenset()
    return frozenset(endpoint.target for endpoint in endpoints if endpoint.serving)


def _front_ends(
    service: Service,
    port: ServicePort,
    address: Address,
    name: ServicePortName,
    carriers: Carriers,
    serving: frozenset[Target],
    node: NodeView,
) -> list[FrontEnd]:
    spec, protocol, family = service.spec, name.protocol, address.family
    affinity = _affinity(service)
    bound = spec.internal_traffic_policy == "Local"
    inside = carriers.local if bound else carriers.cluster
    slot = Slot(address, port.port, protocol)
    found = [FrontEnd(slot, Via.CLUSTER_IP, name, _action(inside, carriers), inside, serving, bound, affinity=affinity)]
    bound = spec.external_traffic_policy == "Local"
    outside = carriers.local if bound else carriers.cluster
    near = carriers.cluster if bound and carriers.usable else None
    behind = (name, _action(outside, carriers), outside, serving, bound, near, affinity)
    if port.node_port and spec.type in ("NodePort", "LoadBalancer"):
        found.append(FrontEnd(Slot(None, port.node_port, protocol), Via.NODE_PORT, *behind))
    if not service.status.load_balancer.ingress and not spec.external_ips:
        return found
    balanced = load_balancer_addresses(service, family)
    sources = source_ranges(service, family, balanced, node) if balanced else None
    found += [FrontEnd(Slot(each, port.port, protocol), Via.LOAD_BALANCER, *behind, sources) for each in balanced]
    others = external_addresses(service, family)
    return found + [FrontEnd(Slot(each, port.port, protocol), Via.EXTERNAL_IP, *behind) for each in others]


def _affinity(service: Service) -> int:
    """Seconds for which a client stays with its endpoint after its last connection; 0: not at all."""
    spec = service.spec
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    client = config.client_ip if config is not None else None
    return (client.timeout_seconds if client is not None else None) or DEFAULT_AFFINITY


def external_addresses(service: Service, family: IPFamily) -> list[Address]:
    """`spec.externalIPs` of the family, each once."""
    return _of_family(service.spec.external_ips, family)


def load_balancer_addresses(service: Service, family: IPFamily) -> list[Address]:
    """Ingress addresses of the family that the node itself must answer on: ipMode VIP, or none (KEP-1860)."""
    entries = service.status.load_balancer.ingress
    return _of_family([entry.ip for entry in entries if entry.ip and entry.ip_mode in (None, "VIP")], family)


def _of_family(texts: Iterable[str], family: IPFamily) -> list[Address]:
    addresses = dict.fromkeys(Address.parse(text) for text in texts)
    return [address for address in addresses if address.family is family]


def source_ranges(
    service: Service, family: IPFamily, balanced: list[Address], node: NodeView
) -> tuple[CIDR, ...] | None:
    """Who may use the load balancer's addresses, or None for everybody.

    Ranges of one family leave the other one open. If they let this node in they let in the addresses
    themselves, too: a flow of the node may have one as its source.
    """
    ranges = {CIDR.parse(text.strip()) for text in service.spec.load_balancer_source_ranges}
    mine = {block for block in ranges if block.family is family}
    if not mine or any(block.prefix == 0 for block in mine):
        return None
    if any(block.contains(address) for block in mine for address in node.addresses):
        mine |= {CIDR(family, address.value, family.bits) for address in balanced}
    return tuple(sorted(mine))


def open_family(service: Service, families: Iterable[IPFamily]) -> IPFamily | None:
    """A family in which load-balancer addresses are open to everybody though the Service has source ranges."""
    ranges = [CIDR.parse(text.strip()) for text in service.spec.load_balancer_source_ranges]
    for family in families:
        if ranges and load_balancer_addresses(service, family) and all(block.family is not family for block in ranges):
            return family
    return None


def _action(targets: tuple[Target, ...], carriers: Carriers) -> Action:
    if targets:
        return Action.FORWARD
    return Action.DROP if carriers.usable else Action.REJECT
