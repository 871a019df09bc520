"""A Service and its EndpointSlices → what a node must do for it, one family at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from twinstack.dataplane.endpoints import Carriers, Endpoint, Endpoints, choose, choose_plain, gather
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
from twinstack.dataplane.views import Exposure, PortView, ServiceView, SliceView
from twinstack.ip import CIDR, Address, IPFamily

_NOBODY: frozenset[Target] = frozenset()


def state_of(service: ServiceView, slices: Collection[SliceView], family: IPFamily, node: NodeView) -> ServiceState:
    """All front ends of `service` in `family`. `slices` are its own, of that family."""
    address = service.cluster_ip(family)
    if address is None:
        return NOTHING
    plain = _only_plain(slices)
    watched = service.exposure.health_port
    endpoints = gather(slices, node.name) if plain is None or watched else {}
    front_ends: list[FrontEnd] = []
    hairpins: list[Hairpin] = []
    for port in service.ports:
        if plain is not None:
            carriers = choose_plain(plain, port.name, port.protocol, node.name)
            serving = frozenset(carriers.cluster) if port.protocol is Protocol.UDP else _NOBODY
        else:
            behind = endpoints.get((port.name, port.protocol), {}).values()
            carriers, serving = choose(behind, node), _serving(port.protocol, behind)
        front_ends += _front_ends(service, port, address, carriers, serving, node)
        hairpins += [Hairpin(target, port.protocol) for target in carriers.local]
    health = _health_check(watched, endpoints) if watched else None
    return ServiceState(address, tuple(front_ends), tuple(sorted(set(hairpins))) if hairpins else (), health)


def _only_plain(slices: Collection[SliceView]) -> SliceView | None:
    if len(slices) != 1:
        return None
    (view,) = slices
    return view if view.plain else None


def _health_check(port: int, endpoints: Endpoints) -> HealthCheck:
    ready = (each for found in endpoints.values() for each in found.values() if each.local and each.ready)
    return HealthCheck(port, len({each.target.address for each in ready}))


def _serving(protocol: Protocol, endpoints: Iterable[Endpoint]) -> frozenset[Target]:
    """Whom established flows may stay with, whatever the traffic policy: only UDP flows are ever cut."""
    if protocol is not Protocol.UDP:
        return _NOBODY
    return frozenset(endpoint.target for endpoint in endpoints if endpoint.serving)


def _front_ends(
    service: ServiceView,
    port: PortView,
    address: Address,
    carriers: Carriers,
    serving: frozenset[Target],
    node: NodeView,
) -> list[FrontEnd]:
    protocol, family, affinity = port.protocol, address.family, service.affinity
    name = ServicePortName(service.namespace, service.name, port.name, protocol)
    bound = service.inside_local
    inside = carriers.local if bound else carriers.cluster
    slot = Slot(address, port.port, protocol)
    action = Action.FORWARD if inside else _action(inside, carriers)
    found = [FrontEnd(slot, Via.CLUSTER_IP, name, action, inside, serving, bound, None, affinity)]
    bound, exposure = service.outside_local, service.exposure
    if not port.node_port and not exposure.balanced and not exposure.external:
        return found
    outside = carriers.local if bound else carriers.cluster
    near = carriers.cluster if bound and carriers.usable else None
    behind = (name, _action(outside, carriers), outside, serving, bound, near, affinity)
    if port.node_port:
        found.append(FrontEnd(Slot(None, port.node_port, protocol), Via.NODE_PORT, *behind))
    balanced = _of_family(exposure.balanced, family)
    sources = source_ranges(exposure, family, node) if balanced else None
    found += [FrontEnd(Slot(each, port.port, protocol), Via.LOAD_BALANCER, *behind, sources) for each in balanced]
    others = _of_family(exposure.external, family)
    return found + [FrontEnd(Slot(each, port.port, protocol), Via.EXTERNAL_IP, *behind) for each in others]


def _of_family(addresses: Iterable[Address], family: IPFamily) -> list[Address]:
    return [address for address in addresses if address.family is family]


def source_ranges(exposure: Exposure, family: IPFamily, node: NodeView) -> tuple[CIDR, ...] | None:
    """Who may use the load balancer's addresses, or None for everybody.

    Ranges of one family leave the other one open. If they let this node in they let in the addresses
    themselves, too: a flow of the node may have one as its source. Ranges that nobody can read let in nobody else.
    """
    mine = {block for block in exposure.sources if block.family is family}
    if (not mine and not exposure.unreadable) or any(block.prefix == 0 for block in mine):
        return None
    if not mine or any(block.contains(address) for block in mine for address in node.addresses):
        mine |= {CIDR(family, each.value, family.bits) for each in _of_family(exposure.balanced, family)}
    return tuple(sorted(mine))


def open_family(exposure: Exposure, families: Iterable[IPFamily]) -> IPFamily | None:
    """A family in which load-balancer addresses are open to everybody though the Service has source ranges."""
    for family in families:
        if (
            exposure.sources
            and not exposure.unreadable
            and _of_family(exposure.balanced, family)
            and all(block.family is not family for block in exposure.sources)
        ):
            return family
    return None


def _action(targets: tuple[Target, ...], carriers: Carriers) -> Action:
    if targets:
        return Action.FORWARD
    return Action.DROP if carriers.usable else Action.REJECT
