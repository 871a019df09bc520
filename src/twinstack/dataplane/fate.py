"""The fate of the first packet of a flow on a node: which front end it meets, where it may go, or why it goes nowhere.

The rules in the kernel and these lines say the same thing twice; the traffic tests hold one against the other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from twinstack.dataplane.claims import Claims
from twinstack.dataplane.endpoints import Endpoint
from twinstack.dataplane.model import Action, FrontEnd, NodeView, Protocol, Slot, Surroundings, Target, Via
from twinstack.ip import Address


class Origin(enum.Enum):
    """Where a packet comes from, as far as it matters."""

    LOCAL_POD = "a local pod"
    NODE = "this node itself"
    ELSEWHERE = "elsewhere"


class Packet(NamedTuple):
    """The first one of a flow. A source may be left out; then what depends on it alone is not told."""

    origin: Origin
    destination: Address
    port: int
    protocol: Protocol
    source: Address | None = None


class Outcome(enum.Enum):
    FORWARD = "forward"
    REJECT = "reject"
    DROP = "drop"
    PASS = "pass"  # not a matter of Services: the packet goes on as it is


class Fate(NamedTuple):
    """What happens, and why, in a sentence."""

    outcome: Outcome
    reason: str
    front_end: FrontEnd | None = None
    targets: tuple[Target, ...] = ()  # one of them, at random, gets the flow
    masquerade: bool = False  # the endpoint sees this node's address instead of the client's
    masquerade_reason: str = ""


def origin_of(source: Address, around: Surroundings, node: NodeView) -> Origin:
    """What the addresses tell. Without known pod ranges a pod looks like anybody else."""
    if source in around.node_ips or source in node.addresses:
        return Origin.NODE
    if any(block.contains(source) for block in around.local_pods or ()):
        return Origin.LOCAL_POD
    return Origin.ELSEWHERE


def fate(packet: Packet, claims: Claims, around: Surroundings, *, masquerade_all: bool = False) -> Fate:
    """`claims` and `around` are those of the destination's family."""
    front_end = claims.get(Slot(packet.destination, packet.port, packet.protocol))
    if front_end is None and packet.destination in around.node_ips:
        front_end = claims.get(Slot(None, packet.port, packet.protocol))
    if front_end is None:
        return _without_front_end(packet, claims, around)
    if not _may_come_in(packet, front_end):
        return Fate(Outcome.DROP, "the source is in none of loadBalancerSourceRanges", front_end)
    if front_end.action is Action.REJECT:
        return Fate(Outcome.REJECT, "no endpoint of this family can serve anywhere in the cluster", front_end)
    packet = packet if _knows_pods(around) or packet.origin is Origin.NODE else packet._replace(origin=Origin.ELSEWHERE)
    short_cut = front_end.near is not None and packet.origin is not Origin.ELSEWHERE
    targets = front_end.near if short_cut and front_end.near is not None else front_end.targets
    if not targets:
        policy = "internalTrafficPolicy" if front_end.via is Via.CLUSTER_IP else "externalTrafficPolicy"
        return Fate(Outcome.DROP, f"{policy} is Local and no endpoint is on this node", front_end)
    reason = "externalTrafficPolicy Local does not bind this node and its pods" if short_cut else "endpoints are there"
    return Fate(Outcome.FORWARD, reason, front_end, targets, *_masquerade(packet, front_end, around, masquerade_all))


def _without_front_end(packet: Packet, claims: Claims, around: Surroundings) -> Fate:
    if packet.destination in claims.cluster_ips:
        return Fate(Outcome.REJECT, "the Service at this address has no such port")
    if any(block.contains(packet.destination) for block in around.service_cidrs):
        return Fate(Outcome.DROP, "no Service has this address of the Service range")
    return Fate(Outcome.PASS, "no Service answers here")


def _may_come_in(packet: Packet, front_end: FrontEnd) -> bool:
    if front_end.sources is None or packet.source is None:
        return True
    return any(block.contains(packet.source) for block in front_end.sources)


def _knows_pods(around: Surroundings) -> bool:
    return around.local_pods is not None or around.pods_by_interface


def _masquerade(packet: Packet, front_end: FrontEnd, around: Surroundings, masquerade_all: bool) -> tuple[bool, str]:
    if front_end.via is Via.CLUSTER_IP:
        if masquerade_all:
            return True, "--masquerade-all"
        if not _knows_pods(around):
            return False, "no pod range is known, so that no source counts as foreign"
        if packet.origin is Origin.LOCAL_POD:
            return False, "the source is a local pod"
        return True, "the source is not a local pod"
    if front_end.near is None:
        return True, "externalTrafficPolicy is Cluster"
    if packet.origin is Origin.NODE:
        return True, "the source is this node"
    return False, "externalTrafficPolicy is Local"


def comes_back(packet: Packet, target: Target, endpoint: Endpoint | None) -> bool:
    """Whether the flow would reach its own source: it is masqueraded then, lest the answer pass the Service by."""
    return packet.source == target.address and endpoint is not None and endpoint.local


def left_out(endpoints: Mapping[Target, Endpoint], targets: Iterable[Target], *, local: bool) -> dict[Target, str]:
    """Why endpoints are not among the targets, each in a phrase. `local`: the list is that of a Local policy."""
    chosen = set(targets)
    some_ready = any(endpoint.ready for endpoint in endpoints.values())
    return {
        target: _why_not(endpoint, some_ready, local)
        for target, endpoint in sorted(endpoints.items())
        if target not in chosen
    }


def _why_not(endpoint: Endpoint, some_ready: bool, local: bool) -> str:
    if not endpoint.ready and not endpoint.terminating:
        return "not ready"
    if not endpoint.ready and not endpoint.serving:
        return "terminating, and no longer serving"
    if local and not endpoint.local:
        return "on another node, and the traffic policy is Local"
    if not endpoint.ready:
        return "terminating, and others are ready" if some_ready else "terminating"
    if endpoint.nodes:
        return f"meant for nodes {', '.join(sorted(endpoint.nodes))}"
    return f"meant for zones {', '.join(sorted(endpoint.zones))}"
