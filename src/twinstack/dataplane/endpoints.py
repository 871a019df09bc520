"""Which endpoints of a Service port carry its traffic (KEP-1669 terminating, KEP-2086 local, KEP-4444 hints)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from twinstack.dataplane.model import NodeView, Protocol, Target, Value
from twinstack.dataplane.views import SliceView


class Endpoint(Value, frozen=True):
    """One address and port behind a Service port."""

    target: Target
    local: bool  # on this node
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str] = frozenset()  # hints: which zones, which nodes it is meant for
    nodes: frozenset[str] = frozenset()


class Carriers(Value, frozen=True):
    """The endpoints that new flows may go to, each list sorted."""

    cluster: tuple[Target, ...]
    local: tuple[Target, ...]  # when a traffic policy is Local; none of this node is in `cluster` but these
    usable: bool  # an endpoint exists somewhere in the cluster


Endpoints = dict[tuple[str, Protocol], dict[Target, Endpoint]]


def gather(slices: Iterable[SliceView], node: str) -> Endpoints:
    """Merge the slices of one Service and family: endpoints by port name and protocol.

    When an address and port occurs twice, one that is not terminating wins: a new pod may have the address
    of one that is still going away. Of those the readiest; the order of the slices never matters.
    """
    merged: Endpoints = {}
    for view in slices:
        for name, protocol, number in view.ports:
            found = merged.setdefault((name, protocol), {})
            for each in view.endpoints:
                target = Target(each.address, number)
                states = (each.node == node, each.ready, each.serving, each.terminating)
                new = Endpoint(target, *states, each.zones, each.nodes)
                known = found.setdefault(target, new)
                if known is not new and _rank(new) > _rank(known):
                    found[target] = new
    return merged


def _rank(endpoint: Endpoint) -> tuple[bool, bool, bool, bool, list[str], list[str]]:
    states = (not endpoint.terminating, endpoint.ready, endpoint.serving, endpoint.local)
    return *states, sorted(endpoint.zones), sorted(endpoint.nodes)


def choose(endpoints: Collection[Endpoint], node: NodeView) -> Carriers:
    """Apply readiness, the fallback to terminating endpoints, and topology hints."""
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    leaving: list[Endpoint] = []
    if len(ready) < len(endpoints):
        leaving = [e for e in endpoints if e.serving and e.terminating and not e.ready]
    cluster = _near(ready, node) if ready else leaving
    local = [endpoint for endpoint in ready if endpoint.local] or [e for e in leaving if e.local]
    return Carriers(_targets(cluster), _targets(local), bool(cluster))


def choose_plain(view: SliceView, name: str, protocol: Protocol, node: str) -> Carriers:
    """What `choose` finds for a port when all endpoints are of one plain slice: most often they are."""
    found: dict[Target, None] = {}
    local: list[Target] = []
    for port_name, port_protocol, number in view.ports:
        if port_protocol is protocol and port_name == name:
            for endpoint in view.endpoints:
                target = Target(endpoint.address, number)
                found[target] = None
                if endpoint.node == node:
                    local.append(target)
    return Carriers(tuple(sorted(found)), tuple(sorted(set(local))) if local else (), bool(found))


def _targets(endpoints: list[Endpoint]) -> tuple[Target, ...]:
    return tuple(sorted([endpoint.target for endpoint in endpoints]))


def _near(ready: list[Endpoint], node: NodeView) -> list[Endpoint]:
    """The ready endpoints meant for this node, or else for its zone, or else all.

    Hints count only when every ready endpoint has one: an endpoint without a hint would otherwise get nothing.
    """
    if ready[0].nodes and all(endpoint.nodes for endpoint in ready):
        mine = [endpoint for endpoint in ready if node.name in endpoint.nodes]
        if mine:
            return mine
    if node.zone and ready[0].zones and all(endpoint.zones for endpoint in ready):
        mine = [endpoint for endpoint in ready if node.zone in endpoint.zones]
        if mine:
            return mine
    return ready
