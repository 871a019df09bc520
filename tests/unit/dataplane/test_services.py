"""One Service and its slices, in one family."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.dataplane.objects import computed, endpoint, service, slice_, view

from twinstack.api.core import ClientIPConfig, LoadBalancerIngress, Service, ServicePort, SessionAffinityConfig
from twinstack.api.discovery import EndpointPort
from twinstack.dataplane.model import NOTHING, Action, HealthCheck, NodeView, Protocol, Slot, Via
from twinstack.dataplane.services import open_family
from twinstack.dataplane.views import Complaints, read_service
from twinstack.ip import Address, IPFamily

V4, V6 = IPFamily
HERE = NodeView("here")
PORTS = [
    ServicePort(name="http", protocol="TCP", port=80, node_port=30080),
    ServicePort(name="dns", protocol="UDP", port=53, node_port=30053),
]
SLICE_PORTS = [EndpointPort(name="http", port=8080), EndpointPort(name="dns", protocol="UDP", port=5353)]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (("10.96.0.1",), ("10.96.0.1", None)),
        (("fd00::1",), (None, "fd00::1")),
        (("10.96.0.1", "fd00::1"), ("10.96.0.1", "fd00::1")),
        (("fd00::1", "10.96.0.1"), ("10.96.0.1", "fd00::1")),
        ((), (None, None)),
    ],
)
def test_each_family_has_its_own_address(addresses: tuple[str, ...], expected: tuple[str | None, str | None]) -> None:
    read = read_service(service("web", *addresses), Complaints())
    found = [read.cluster_ip(family) if read is not None else None for family in (V4, V6)]
    assert [str(a) if a is not None else None for a in found] == list(expected)


def test_a_service_of_old_data_has_one_address() -> None:
    assert view(service("web", "10.96.0.1", cluster_ips=[])).cluster_ip(V4) == Address.parse("10.96.0.1")


@pytest.mark.parametrize(
    "idle",
    [
        service("web"),
        service("web", cluster_ip="", cluster_ips=[]),
        service("web", "10.96.0.1", type="ExternalName"),
        service("web", "fd00::1"),
    ],
)
def test_headless_external_and_other_family_services_ask_for_nothing(idle: Service) -> None:
    assert computed(idle, [slice_("web", V4, [endpoint("10.0.0.1")])], V4, HERE) == NOTHING


def test_cluster_ip_and_node_port_front_ends() -> None:
    web = service("web", "10.96.0.1", ports=PORTS, type="NodePort")
    state = computed(web, [slice_("web", V4, [endpoint("10.0.0.1", node="here")], ports=SLICE_PORTS)], V4, HERE)
    assert state.cluster_ip == Address.parse("10.96.0.1")
    assert {(str(f.slot), f.via, f.action, *map(str, f.targets)) for f in state.front_ends} == {
        ("10.96.0.1:80/TCP", Via.CLUSTER_IP, Action.FORWARD, "10.0.0.1:8080"),
        ("10.96.0.1:53/UDP", Via.CLUSTER_IP, Action.FORWARD, "10.0.0.1:5353"),
        ("*:30080/TCP", Via.NODE_PORT, Action.FORWARD, "10.0.0.1:8080"),
        ("*:30053/UDP", Via.NODE_PORT, Action.FORWARD, "10.0.0.1:5353"),
    }
    assert {(str(h.target), h.protocol) for h in state.hairpins} == {
        ("10.0.0.1:8080", Protocol.TCP),
        ("10.0.0.1:5353", Protocol.UDP),
    }
    assert {str(f.name) for f in state.front_ends} == {"default/web:http/TCP", "default/web:dns/UDP"}


def test_node_ports_left_over_from_another_type_do_not_answer() -> None:
    state = computed(service("web", "10.96.0.1", ports=PORTS), [], V4, HERE)
    assert {f.via for f in state.front_ends} == {Via.CLUSTER_IP}


def test_without_endpoints_both_front_ends_reject() -> None:
    state = computed(service("web", "10.96.0.1", ports=PORTS, type="LoadBalancer"), [], V4, HERE)
    assert {f.action for f in state.front_ends} == {Action.REJECT}
    assert len(state.front_ends) == 4


@pytest.mark.parametrize(
    ("nodes", "inside", "outside"),
    [
        (("here", "there"), (Action.FORWARD, 1), (Action.FORWARD, 2)),
        (("there",), (Action.DROP, 0), (Action.FORWARD, 1)),
        ((), (Action.REJECT, 0), (Action.REJECT, 0)),
    ],
)
def test_internal_traffic_policy_local(
    nodes: tuple[str, ...], inside: tuple[Action, int], outside: tuple[Action, int]
) -> None:
    web = service("web", "10.96.0.1", ports=PORTS[:1], type="NodePort", internal_traffic_policy="Local")
    behind = [endpoint(f"10.0.0.{n}", node=node) for n, node in enumerate(nodes, 1)]
    state = computed(web, [slice_("web", V4, behind)], V4, HERE)
    found = {f.via: (f.action, len(f.targets)) for f in state.front_ends}
    assert found == {Via.CLUSTER_IP: inside, Via.NODE_PORT: outside}


def test_established_udp_flows_may_stay_with_whoever_serves() -> None:
    web = service("web", "10.96.0.1", ports=PORTS)
    behind = [
        endpoint("10.0.0.1"),
        endpoint("10.0.0.2", ready=False, serving=True, terminating=True),
        endpoint("10.0.0.3", ready=False, serving=False, terminating=True),
    ]
    state = computed(web, [slice_("web", V4, behind, ports=SLICE_PORTS)], V4, HERE)
    serving = {f.slot.protocol: {str(target) for target in f.serving} for f in state.front_ends}
    assert serving == {Protocol.TCP: set(), Protocol.UDP: {"10.0.0.1:5353", "10.0.0.2:5353"}}


@pytest.mark.parametrize(
    ("nodes", "action", "targets", "near"),
    [
        (("here", "there"), Action.FORWARD, 1, 2),
        (("there",), Action.DROP, 0, 1),
        ((), Action.REJECT, 0, None),
    ],
)
def test_external_traffic_policy_local(nodes: tuple[str, ...], action: Action, targets: int, near: int | None) -> None:
    web = service("web", "10.96.0.1", ports=PORTS[:1], type="NodePort", external_traffic_policy="Local")
    behind = [endpoint(f"10.0.0.{n}", node=node) for n, node in enumerate(nodes, 1)]
    inside, outside = computed(web, [slice_("web", V4, behind)], V4, HERE).front_ends
    assert (inside.near, inside.local, len(inside.targets)) == (None, False, len(nodes))
    assert (outside.action, len(outside.targets), outside.local) == (action, targets, True)
    assert (len(outside.near) if outside.near is not None else None) == near


def test_external_and_load_balancer_addresses_of_the_family() -> None:
    web = service("web", "fd00::1", external_ips=["192.0.2.1", "2001:db8::1", "2001:DB8::1"], type="LoadBalancer")
    web.status.load_balancer.ingress = [
        LoadBalancerIngress(ip="192.0.2.7"),
        LoadBalancerIngress(ip="2001:db8::7"),
        LoadBalancerIngress(ip="2001:db8::8", ip_mode="VIP"),
        LoadBalancerIngress(ip="2001:db8::9", ip_mode="Proxy"),
        LoadBalancerIngress(hostname="lb.example"),
    ]
    found = computed(web, [], V6, HERE).front_ends
    assert [(str(f.slot), str(f.via)) for f in found] == [
        ("[fd00::1]:80/TCP", "ClusterIP"),
        ("[2001:db8::7]:80/TCP", "LoadBalancer"),
        ("[2001:db8::8]:80/TCP", "LoadBalancer"),
        ("[2001:db8::1]:80/TCP", "ExternalIP"),
    ]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], None),
        (["10.0.0.0/8"], None),  # none of this family
        (["fd00::/8", "::/0"], None),
        ([" fd00::/8 ", "10.0.0.0/8", "2001:db8:5::/48"], ["2001:db8:5::/48", "fd00::/8"]),
        (["2001:db8:1::/48"], ["2001:db8::7/128", "2001:db8:1::/48"]),  # lets the node in, and so the address
    ],
)
def test_source_ranges(ranges: list[str], expected: list[str] | None) -> None:
    web = service("web", "fd00::1", load_balancer_source_ranges=ranges, type="LoadBalancer")
    web.status.load_balancer.ingress = [LoadBalancerIngress(ip="2001:db8::7"), LoadBalancerIngress(ip="192.0.2.7")]
    node = msgspec.structs.replace(
        HERE, addresses=frozenset([Address.parse("2001:db8:1::1"), Address.parse("10.1.1.1")])
    )
    found = {f.via: f.sources for f in computed(web, [], V6, node).front_ends}
    assert found[Via.CLUSTER_IP] is None
    sources = found[Via.LOAD_BALANCER]
    assert (list(map(str, sources)) if sources is not None else None) == expected
    assert open_family(view(web).exposure, [V4, V6]) is (
        V6 if ranges == ["10.0.0.0/8"] else V4 if "10.0.0.0/8" not in ranges and ranges else None
    )


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 0),
        ({"session_affinity": "None"}, 0),
        ({"session_affinity": "ClientIP"}, 10800),
        ({"session_affinity": "ClientIP", "session_affinity_config": SessionAffinityConfig(ClientIPConfig(60))}, 60),
    ],
)
def test_affinity_holds_at_every_front_end(spec: dict[str, object], seconds: int) -> None:
    web = service("web", "10.96.0.1", ports=PORTS, type="NodePort", external_ips=["192.0.2.1"], **spec)
    assert {f.affinity for f in computed(web, [], V4, HERE).front_ends} == {seconds}


def test_a_health_check_counts_addresses_of_ready_endpoints_here() -> None:
    behind = [
        endpoint("10.0.0.1", node="here"),
        endpoint("10.0.0.2", node="here"),
        endpoint("10.0.0.3", node="here", ready=False, terminating=True),
        endpoint("10.0.0.4"),
    ]
    balanced: dict[str, Any] = {
        "type": "LoadBalancer",
        "external_traffic_policy": "Local",
        "health_check_node_port": 30999,
    }
    slices = [slice_("web", V4, behind, ports=SLICE_PORTS)]
    assert computed(service("web", "10.96.0.1", **balanced), slices, V4, HERE).health == HealthCheck(30999, 2)
    for other in ({"type": "NodePort"}, {"external_traffic_policy": "Cluster"}, {"health_check_node_port": 0}):
        assert computed(service("web", "10.96.0.1", **(balanced | other)), slices, V4, HERE).health is None


def test_slots_and_names_are_readable() -> None:
    assert str(Slot(Address.parse("fd00::1"), 53, Protocol.UDP)) == "[fd00::1]:53/UDP"
    assert str(Slot(None, 30053, Protocol.SCTP)) == "*:30053/SCTP"
