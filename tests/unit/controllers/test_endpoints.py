from __future__ import annotations

import itertools
from typing import Any

import pytest

from twinstack.api.core import (
    Container,
    ContainerPort,
    Node,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from twinstack.api.discovery import EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone
from twinstack.api.meta import Condition, ObjectMeta
from twinstack.controllers.endpoints import (
    desired_endpoints,
    families_of,
    port_key,
    resolve_ports,
)
from twinstack.controllers.servicepods import is_served
from twinstack.ip import IPFamily

V4, V6 = IPFamily.IPV4, IPFamily.IPV6


def service(**spec: Any) -> Service:
    spec = {"ip_families": ["IPv4", "IPv6"], "selector": {"app": "web"}, "type": "ClusterIP"} | spec
    spec.setdefault("ports", [ServicePort(name="http", protocol="TCP", port=80, target_port=8080)])
    return Service(metadata=ObjectMeta(name="web", namespace="shop", uid="s1"), spec=ServiceSpec(**spec))


def pod(name: str = "a", ips: tuple[str, ...] = ("10.0.0.1", "fd00::1"), ready: bool = True, **more: Any) -> Pod:
    deleted = more.pop("deleted", None)
    phase = more.pop("phase", "Running")
    spec = {"node_name": "n1"} | more
    return Pod(
        metadata=ObjectMeta(
            name=name, namespace="shop", uid=f"u-{name}", labels={"app": "web"}, deletion_timestamp=deleted
        ),
        spec=PodSpec(**spec),
        status=PodStatus(
            phase=phase,
            pod_ips=[PodIP(ip=ip) for ip in ips],
            conditions=[Condition(type="Ready", status="True" if ready else "False")],
        ),
    )


def node(zone: str | None = None) -> dict[str, Node]:
    labels = {"topology.kubernetes.io/zone": zone} if zone is not None else {}
    return {"n1": Node(metadata=ObjectMeta(name="n1", labels=labels))}


@pytest.mark.parametrize(
    ("spec", "served"),
    [
        ({}, True),
        ({"selector": {}}, False),
        ({"selector": None}, False),
        ({"type": "ExternalName"}, False),
        ({"type": "LoadBalancer"}, True),
    ],
)
def test_which_services_have_slices(spec: dict[str, Any], served: bool) -> None:
    assert is_served(service(**spec)) is served


@pytest.mark.parametrize(
    ("families", "cluster_ip", "expected"),
    [
        (["IPv6"], "10.0.0.1", [V6]),
        (["IPv6", "IPv4"], "", [V6, V4]),
        ([], "10.0.0.1", [V4]),
        ([], "fd00::1", [V6]),
        ([], "None", [V4, V6]),
        ([], "", [V4, V6]),
    ],
)
def test_families(families: list[str], cluster_ip: str, expected: list[IPFamily]) -> None:
    assert families_of(service(ip_families=families, cluster_ip=cluster_ip)) == expected


@pytest.mark.parametrize(
    ("ready", "deleted", "publish"),
    list(itertools.product([True, False], [None, "2026-01-01T00:00:00Z"], [True, False])),
)
def test_conditions(ready: bool, deleted: str | None, publish: bool) -> None:
    desired = desired_endpoints(
        service(publish_not_ready_addresses=publish), [pod(ready=ready, deleted=deleted)], node()
    )
    for family, address in ((V4, "10.0.0.1"), (V6, "fd00::1")):
        [group] = desired.families[family].values()
        [endpoint] = group.endpoints
        assert endpoint.addresses == [address]
        terminating = deleted is not None
        assert endpoint.conditions == EndpointConditions(
            ready=publish or (ready and not terminating), serving=ready, terminating=terminating
        )
        assert endpoint.target_ref is not None
        assert (endpoint.target_ref.kind, endpoint.target_ref.name, endpoint.target_ref.uid) == ("Pod", "a", "u-a")
        assert endpoint.node_name == "n1"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_finished_pods_and_pods_without_address_are_left_out(phase: str) -> None:
    desired = desired_endpoints(service(), [pod(phase=phase), pod("b", ips=())], node())
    assert desired.families == {V4: {}, V6: {}}


def test_a_pod_of_one_family_makes_an_empty_group_in_the_other() -> None:
    desired = desired_endpoints(service(), [pod(ips=("10.0.0.1",))], node())
    [group4], [group6] = desired.families[V4].values(), desired.families[V6].values()
    assert (len(group4.endpoints), len(group6.endpoints)) == (1, 0)
    assert group6.ports == [EndpointPort(name="http", protocol="TCP", port=8080)]


def test_addresses_are_canonical_and_unusable_ones_skipped() -> None:
    desired = desired_endpoints(service(), [pod(ips=("010.0.0.1", "FD00:0:0::01"))], node())
    [group4], [group6] = desired.families[V4].values(), desired.families[V6].values()
    assert group4.endpoints == []
    assert group6.endpoints[0].addresses == ["fd00::1"]


def test_an_absent_node_leaves_its_pods_out_unless_they_are_published_anyway() -> None:
    desired = desired_endpoints(service(), [pod()], {})
    assert desired.absent_nodes == {"n1"}
    assert desired.families == {V4: {}, V6: {}}
    desired = desired_endpoints(service(publish_not_ready_addresses=True), [pod()], {})
    assert desired.absent_nodes == set()
    assert len(desired.families[V4]) == 1


def test_a_pod_without_a_node_has_no_node_name() -> None:
    [group] = desired_endpoints(service(), [pod(node_name="")], {}).families[V4].values()
    assert group.endpoints[0].node_name is None


@pytest.mark.parametrize(
    ("hostname", "subdomain", "expected"), [("h", "web", "h"), ("h", "db", None), ("", "web", None), ("h", "", None)]
)
def test_hostname(hostname: str, subdomain: str, expected: str | None) -> None:
    [group] = desired_endpoints(service(), [pod(hostname=hostname, subdomain=subdomain)], node()).families[V4].values()
    assert group.endpoints[0].hostname == expected


@pytest.mark.parametrize(
    ("distribution", "zone", "ready", "expected"),
    [
        (None, "z", True, None),
        ("PreferClose", "z", True, EndpointHints(for_zones=[ForZone(name="z")])),
        ("PreferSameZone", "z", True, EndpointHints(for_zones=[ForZone(name="z")])),
        ("PreferSameZone", None, True, None),
        ("PreferSameZone", "", True, None),
        ("PreferSameZone", "z", False, None),
        ("PreferSameNode", "z", True, EndpointHints(for_zones=[ForZone(name="z")], for_nodes=[ForNode(name="n1")])),
        ("PreferSameNode", None, True, EndpointHints(for_nodes=[ForNode(name="n1")])),
        ("PreferSameNode", "z", False, None),
    ],
)
def test_zone_and_hints(
    distribution: str | None, zone: str | None, ready: bool, expected: EndpointHints | None
) -> None:
    desired = desired_endpoints(service(traffic_distribution=distribution), [pod(ready=ready)], node(zone))
    [group] = desired.families[V6].values()
    assert group.endpoints[0].zone == (zone or None)
    assert group.endpoints[0].hints == expected


def _container(name: str, number: int, protocol: str = "TCP", **more: Any) -> Container:
    return Container(name="c", ports=[ContainerPort(name=name, container_port=number, protocol=protocol)], **more)


@pytest.mark.parametrize(
    ("port", "containers", "init", "expected"),
    [
        (ServicePort(port=80), [], [], 80),
        (ServicePort(port=80, target_port=81), [], [], 81),
        (ServicePort(port=80, target_port="x", protocol="TCP"), [_container("x", 1)], [], 1),
        (ServicePort(port=80, target_port="x", protocol="UDP"), [_container("x", 1)], [], None),
        (ServicePort(port=80, target_port="y"), [_container("x", 1)], [], None),
        (ServicePort(port=80, target_port="x"), [_container("y", 1)], [_container("x", 2)], None),
        (ServicePort(port=80, target_port="x"), [], [_container("x", 2, restart_policy="Always")], 2),
        (
            ServicePort(port=80, target_port="x"),
            [_container("x", 1)],
            [_container("x", 2, restart_policy="Always")],
            1,
        ),
    ],
)
def test_target_ports(
    port: ServicePort, containers: list[Container], init: list[Container], expected: int | None
) -> None:
    resolved = resolve_ports(service(ports=[port]), pod(containers=containers, init_containers=init))
    assert [entry.port for entry in resolved] == ([] if expected is None else [expected])


def test_pods_are_grouped_by_what_their_ports_resolve_to() -> None:
    named = service(ports=[ServicePort(name="m", protocol="TCP", port=80, target_port="metrics", app_protocol="h2c")])
    pods = [
        pod("a", ("10.0.0.1",), containers=[_container("metrics", 9000)]),
        pod("b", ("10.0.0.2",), containers=[_container("metrics", 9001)]),
        pod("c", ("10.0.0.3",), containers=[_container("metrics", 9000)]),
    ]
    groups = desired_endpoints(named, pods, node()).families[V4]
    assert {
        group.ports[0].port: sorted(address for endpoint in group.endpoints for address in endpoint.addresses)
        for group in groups.values()
    } == {9000: ["10.0.0.1", "10.0.0.3"], 9001: ["10.0.0.2"]}
    assert next(iter(groups.values())).ports[0].app_protocol == "h2c"


def test_a_port_key_does_not_know_order_nor_how_defaults_are_written() -> None:
    a = EndpointPort(name="a", protocol="TCP", port=1)
    b = EndpointPort(name="b", protocol="TCP", port=2, app_protocol="x")
    assert port_key([a, b]) == port_key([b, a]) != port_key([a])
    assert port_key([EndpointPort(port=1)]) == port_key([EndpointPort(name="", protocol="TCP", port=1)])
    assert port_key(None) == port_key([]) == ()
