"""A Service and its EndpointSlices → what a node must do for it, one family at a time."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.api.core import Service, ServicePort
from twinstack.api.discovery import EndpointSlice
from twinstack.dataplane.endpoints import Carriers, Endpoint, choose, gather
from twinstack.dataplane.model import (
    NOTHING,
    Action,
    FrontEnd,
    Hairpin,
    NodeView,
    Protocol,
    ServicePortName,
    ServiceState,
    Slot,
    Target,
    Via,
)
from twinstack.ip import Address, IPFamily

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
        front_ends += _front_ends(service, port, address, name, carriers, _serving(protocol, behind.values()))
        hairpins |= {Hairpin(t, protocol) for t in (*carriers.cluster, *carriers.local) if behind[t].local}
    return ServiceState(address, tuple(front_ends), tuple(sorted(hairpins)))


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
) -> list[FrontEnd]:
    spec, protocol = service.spec, name.protocol
    inside = carriers.local if spec.internal_traffic_policy == "Local" else carriers.cluster
    action = _action(inside, carriers)
    slot = Slot(address, port.port, protocol)
    bound = spec.internal_traffic_policy == "Local"
    found = [FrontEnd(slot, Via.CLUSTER_IP, name, action, inside, serving, bound)]
    if port.node_port and spec.type in ("NodePort", "LoadBalancer"):
        action = _action(carriers.cluster, carriers)
        slot = Slot(None, port.node_port, protocol)
        found.append(FrontEnd(slot, Via.NODE_PORT, name, action, carriers.cluster, serving))
    return found


def _action(targets: tuple[Target, ...], carriers: Carriers) -> Action:
    if targets:
        return Action.FORWARD
    return Action.DROP if carriers.usable else Action.REJECT


def not_acted_on(service: Service) -> list[str]:
    """What the Service asks for and this proxy does not do yet, a sentence each."""
    spec = service.spec
    if spec.type == "ExternalName" or spec.cluster_ip in ("", NO_ADDRESS):
        return []
    found: list[str] = []
    if spec.session_affinity == "ClientIP":
        found.append("sessionAffinity ClientIP: every new connection may reach another endpoint")
    if spec.type in ("NodePort", "LoadBalancer") and spec.external_traffic_policy == "Local":
        found.append("externalTrafficPolicy Local: node ports use endpoints of all nodes and hide the client's address")
    if spec.external_ips:
        found.append("externalIPs: nothing answers on " + ", ".join(spec.external_ips))
    addresses = [
        ingress.ip for ingress in service.status.load_balancer.ingress if ingress.ip and ingress.ip_mode != "Proxy"
    ]
    if addresses:
        found.append("load-balancer addresses: nothing answers on " + ", ".join(addresses))
    return found
