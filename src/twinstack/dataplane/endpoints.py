"""Which endpoints of a Service port carry its traffic (KEP-1669 terminating, KEP-2086 local, KEP-4444 hints)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from twinstack.api.discovery import Endpoint as SliceEndpoint
from twinstack.api.discovery import EndpointSlice
from twinstack.dataplane.model import NodeView, Protocol, Target
from twinstack.ip import Address


class Endpoint(NamedTuple):
    """One address and port behind a Service port."""

    target: Target
    local: bool  # on this node
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str] = frozenset()  # hints: which zones, which nodes it is meant for
    nodes: frozenset[str] = frozenset()


class Carriers(NamedTuple):
    """The endpoints that new flows may go to, each list sorted."""

    cluster: tuple[Target, ...]
    local: tuple[Target, ...]  # when a traffic policy is Local
    usable: bool  # an endpoint exists somewhere in the cluster


Endpoints = dict[tuple[str, Protocol], dict[Target, Endpoint]]


def gather(slices: Iterable[EndpointSlice], node: str) -> Endpoints:
    """Merge the slices of one Service and family: endpoints by port name and protocol.

    When an address and port occurs twice, one that is not terminating wins: a new pod may have the address
    of one that is still going away. Of an endpoint's addresses only the first counts, as the API says.
    """
    merged: Endpoints = {}
    for slice_ in slices:
        ports = [
            (port.port or 0, merged.setdefault((port.name or "", protocol), {}))
            for port in slice_.ports or ()
            if 0 < (port.port or 0) < 1 << 16 and (protocol := Protocol.parse(port.protocol)) is not None
        ]
        for endpoint in slice_.endpoints or ():
            if not endpoint.addresses:
                continue
            address = Address.parse(endpoint.addresses[0])
            for number, found in ports:
                target = Target(address, number)
                known = found.get(target)
                if known is None or (known.terminating and not endpoint.conditions.terminating):
                    found[target] = _endpoint(target, endpoint, node)
    return merged


def _endpoint(target: Target, endpoint: SliceEndpoint, node: str) -> Endpoint:
    conditions, hints = endpoint.conditions, endpoint.hints
    ready = conditions.ready is not False
    state = (endpoint.node_name == node, ready, conditions.serving is not False, conditions.terminating is True)
    if hints is None:
        return Endpoint(target, *state)
    zones = frozenset(zone.name for zone in hints.for_zones)
    return Endpoint(target, *state, zones, frozenset(hinted.name for hinted in hints.for_nodes))


def choose(endpoints: Collection[Endpoint], node: NodeView) -> Carriers:
    """Apply readiness, the fallback to terminating endpoints, and topology hints."""
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    leaving = [endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating and not endpoint.ready]
    cluster = _near(ready, node) if ready else leaving
    local = [endpoint for endpoint in ready if endpoint.local] or [e for e in leaving if e.local]
    return Carriers(_targets(cluster), _targets(local), bool(cluster))


def _targets(endpoints: Iterable[Endpoint]) -> tuple[Target, ...]:
    return tuple(sorted(endpoint.target for endpoint in endpoints))


def _near(ready: list[Endpoint], node: NodeView) -> list[Endpoint]:
    """The ready endpoints meant for this node, or else for its zone, or else all.

    Hints count only when every ready endpoint has one: an endpoint without a hint would otherwise get nothing.
    """
    if all(endpoint.nodes for endpoint in ready):
        mine = [endpoint for endpoint in ready if node.name in endpoint.nodes]
        if mine:
            return mine
    if node.zone and all(endpoint.zones for endpoint in ready):
        mine = [endpoint for endpoint in ready if node.zone in endpoint.zones]
        if mine:
            return mine
    return ready
