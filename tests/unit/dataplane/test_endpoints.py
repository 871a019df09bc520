"""Which endpoints carry traffic, for every state of two endpoints and every kind of hint."""

from __future__ import annotations

import itertools

import pytest
from tests.unit.dataplane.objects import endpoint, slice_, slice_view

from twinstack.api.discovery import EndpointHints, EndpointPort, ForNode, ForZone
from twinstack.dataplane.endpoints import Endpoint, choose, gather
from twinstack.dataplane.model import NodeView, Protocol, Target
from twinstack.ip import Address, IPFamily

HERE = NodeView("here", "zone-a")
A, B = (Target(Address.parse(f"10.0.0.{n}"), 80) for n in (1, 2))
STATES = list(itertools.product((True, False), repeat=4))  # local, ready, serving, terminating


@pytest.mark.parametrize("first", STATES)
@pytest.mark.parametrize("second", STATES)
def test_readiness_and_the_fallback_to_terminating_endpoints(
    first: tuple[bool, bool, bool, bool], second: tuple[bool, bool, bool, bool]
) -> None:
    endpoints = [Endpoint(A, *first), Endpoint(B, *second)]
    carriers = choose(endpoints, HERE)

    def carrying(candidates: list[Endpoint]) -> tuple[Target, ...]:
        ready = [e.target for e in candidates if e.ready]
        return tuple(ready or [e.target for e in candidates if e.serving and e.terminating])

    assert carriers.cluster == carrying(endpoints)
    assert carriers.local == carrying([e for e in endpoints if e.local])
    assert carriers.usable == bool(carriers.cluster)


def hinted(target: Target, *, zones: tuple[str, ...] = (), nodes: tuple[str, ...] = (), ready: bool = True) -> Endpoint:
    return Endpoint(target, False, ready, True, not ready, frozenset(zones), frozenset(nodes))


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([hinted(A, zones=("zone-a",)), hinted(B, zones=("zone-b",))], (A,)),
        ([hinted(A, zones=("zone-a",)), hinted(B)], (A, B)),  # one without a hint turns them off
        ([hinted(A, zones=("zone-b",)), hinted(B, zones=("zone-c",))], (A, B)),  # nobody for this zone
        ([hinted(A, zones=("zone-a", "zone-b")), hinted(B, zones=("zone-a",))], (A, B)),
        ([hinted(A, nodes=("here",)), hinted(B, nodes=("there",))], (A,)),
        ([hinted(A, nodes=("here",), zones=("zone-b",)), hinted(B, nodes=("there",), zones=("zone-a",))], (A,)),
        ([hinted(A, nodes=("there",), zones=("zone-a",)), hinted(B, nodes=("there",), zones=("zone-b",))], (A,)),
        ([hinted(A, zones=("zone-a",)), hinted(B, ready=False)], (A,)),  # only ready ones are asked
        ([hinted(A, zones=("zone-b",), ready=False)], (A,)),  # the fallback looks at no hint
    ],
)
def test_hints(endpoints: list[Endpoint], expected: tuple[Target, ...]) -> None:
    assert choose(endpoints, HERE).cluster == expected


def test_zone_hints_mean_nothing_on_a_node_without_zone() -> None:
    assert choose([hinted(A, zones=("",)), hinted(B, zones=("zone-a",))], NodeView("here")).cluster == (A, B)


def test_slices_of_a_service_are_merged() -> None:
    first = slice_("web", IPFamily.IPV4, [endpoint("10.0.0.1", node="here"), endpoint("10.0.0.2")])
    second = slice_("web", IPFamily.IPV4, [endpoint("10.0.0.2"), endpoint("10.0.0.3")], suffix="b")
    found = gather(map(slice_view, [first, second]), "here")
    assert found.keys() == {("http", Protocol.TCP)}
    merged = found["http", Protocol.TCP]
    assert [str(target) for target in merged] == ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]
    assert [e.local for e in merged.values()] == [True, False, False]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_endpoints_with_one_address_the_one_that_stays_wins(order: int) -> None:
    leaving = slice_("web", IPFamily.IPV6, [endpoint("fd00::1", ready=False, terminating=True)])
    staying = slice_("web", IPFamily.IPV6, [endpoint("fd00::1")], suffix="b")
    merged = gather(map(slice_view, [leaving, staying][::order]), "here")["http", Protocol.TCP]
    assert [e.terminating for e in merged.values()] == [False]


def test_ports_join_by_name_and_protocol() -> None:
    ports = [
        EndpointPort(name="http", port=80),
        EndpointPort(name="http", protocol="UDP", port=81),
        EndpointPort(name=None, protocol="SCTP", port=82),
        EndpointPort(name="none", protocol="TCP", port=None),
        EndpointPort(name="zero", protocol="TCP", port=0),
    ]
    found = gather([slice_view(slice_("web", IPFamily.IPV4, [endpoint("10.0.0.1")], ports=ports))], "here")
    assert {key: [target.port for target in behind] for key, behind in found.items()} == {
        ("http", Protocol.TCP): [80],
        ("http", Protocol.UDP): [81],
        ("", Protocol.SCTP): [82],
    }


def test_absent_conditions_mean_ready_and_only_the_first_address_counts() -> None:
    bare = endpoint("10.0.0.1")
    bare.conditions.ready = bare.conditions.serving = bare.conditions.terminating = None
    bare.addresses.append("10.0.0.9")
    bare.hints = EndpointHints(for_zones=[ForZone(name="z")], for_nodes=[ForNode(name="n")])
    nameless = endpoint("10.0.0.2")
    nameless.addresses = []
    found = gather([slice_view(slice_("web", IPFamily.IPV4, [bare, nameless]))], "here")["http", Protocol.TCP]
    (only,) = found.values()
    assert only == Endpoint(
        Target(Address.parse("10.0.0.1"), 8080), False, True, True, False, frozenset("z"), frozenset("n")
    )


def test_the_order_of_slices_never_matters() -> None:
    kinds = [
        endpoint("10.0.0.1", ready=False, terminating=True),
        endpoint("10.0.0.1", ready=False, serving=False),
        endpoint("10.0.0.1"),
        endpoint("10.0.0.1", node="here"),
    ]
    hinted_ = endpoint("10.0.0.1", node="here")
    hinted_.hints = EndpointHints(for_zones=[ForZone(name="z")])
    views = [slice_view(slice_("web", IPFamily.IPV4, [each])) for each in (*kinds, hinted_)]
    for pair in itertools.combinations(views, 2):
        assert gather(pair, "here") == gather(pair[::-1], "here")
    best = gather(views, "here")["http", Protocol.TCP]
    assert [(each.local, each.ready, each.zones) for each in best.values()] == [(True, True, frozenset("z"))]
