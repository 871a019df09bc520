"""Defaults, normalisation, what is carried over and what is wiped."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from twinstack.api.core import ServicePort, ServiceSpec
from twinstack.ip import IPFamily
from twinstack.server.strategy import service_defaults as defaults


def read(fields: dict[str, Any]) -> ServiceSpec:
    return msgspec.convert(fields, ServiceSpec)


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({}, {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}),
        ({"type": "NodePort"}, {"externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster"}),
        ({"type": "LoadBalancer"}, {"externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": True}),
        ({"externalIPs": ["192.0.2.1"]}, {"externalTrafficPolicy": "Cluster"}),
        ({"sessionAffinity": "ClientIP"}, {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}},
            {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
        ),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}),
        (
            {"ports": [{"port": 80, "targetPort": "", "protocol": "UDP"}]},
            {"ports": [{"port": 80, "protocol": "UDP", "targetPort": 80}]},
        ),
    ],
)
def test_versioned_defaults(given: dict[str, Any], added: dict[str, Any]) -> None:
    spec = read(given)
    defaults.apply_defaults(spec)
    shown = msgspec.to_builtins(spec)
    assert {key: shown.get(key) for key in added} == added


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        ({"type": "ExternalName"}, "internalTrafficPolicy"),
        ({"type": "ExternalName", "externalIPs": ["192.0.2.1"]}, "externalTrafficPolicy"),
        ({}, "externalTrafficPolicy"),
        ({}, "ipFamilyPolicy"),
        ({"type": "NodePort"}, "allocateLoadBalancerNodePorts"),
        ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, "sessionAffinityConfig"),
        ({"selector": {}}, "selector"),
    ],
)
def test_what_gets_no_default(given: dict[str, Any], absent: str) -> None:
    spec = read(given)
    defaults.apply_defaults(spec)
    assert absent not in msgspec.to_builtins(spec)


def test_defaults_are_idempotent() -> None:
    for type_ in ("", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        spec = ServiceSpec(type=type_, ports=[ServicePort(port=80)], session_affinity="ClientIP")
        defaults.apply_defaults(spec)
        again = read(msgspec.to_builtins(spec))
        defaults.apply_defaults(again)
        assert again == spec


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["a", "b"], ("a", []), ["a", "b"]),  # an old client that knows only the singular
        (["a", "b"], ("c", ["a", "b"]), ["c"]),  # it changes it
        (["a", "b"], ("", ["a", "b"]), []),  # or clears it
        (["a", "b"], ("a", ["a"]), ["a"]),
        (["a"], ("c", ["d"]), ["d"]),  # left for validation
    ],
)
def test_cluster_ips_follow_cluster_ip(old: list[str], new: tuple[str, list[str]], expected: list[str]) -> None:
    spec = ServiceSpec(cluster_ip=new[0], cluster_ips=new[1])
    defaults.normalise_update(spec, ServiceSpec(cluster_ip=old[0], cluster_ips=old))
    assert spec.cluster_ips == expected


@pytest.mark.parametrize(
    ("stored", "policy", "families"),
    [
        ({"clusterIP": "10.0.0.1"}, "SingleStack", ["IPv4"]),
        ({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.0.0.1"]}, "RequireDualStack", ["IPv6", "IPv4"]),
        ({"clusterIP": "None"}, "RequireDualStack", ["IPv6", "IPv4"]),
        ({"clusterIP": "None", "selector": {"a": "b"}}, "SingleStack", ["IPv6"]),
        ({"clusterIP": "010.0.0.1", "selector": {"a": "b"}}, "SingleStack", ["IPv4"]),
    ],
)
def test_services_of_older_servers_get_their_families(stored: dict[str, Any], policy: str, families: list[str]) -> None:
    spec = read({"type": "ClusterIP"} | stored)
    defaults.decorate(spec, IPFamily.IPV6)
    assert (spec.ip_family_policy, spec.ip_families) == (policy, families)


def ports(*numbers: tuple[str, int]) -> list[ServicePort]:
    return [
        ServicePort(name=name, port=80 + index, node_port=node_port) for index, (name, node_port) in enumerate(numbers)
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([("a", 30001), ("b", 30002)], [("b", 0), ("a", 0)], [30002, 30001]),
        ([("a", 30001)], [("c", 0)], [0]),
        ([("a", 30001), ("b", 30002)], [("a", 0), ("b", 30001)], [0, 30001]),  # its number has moved
        ([("", 30001)], [("", 30005)], [30005]),
    ],
)
def test_node_ports_are_kept_by_name(
    old: list[tuple[str, int]], new: list[tuple[str, int]], expected: list[int]
) -> None:
    after = ServiceSpec(type="NodePort", ports=ports(*new))
    defaults.keep_allocated(after, ServiceSpec(type="NodePort", ports=ports(*old)))
    assert [port.node_port for port in after.ports] == expected


def test_allocations_are_kept_between_types_that_have_them() -> None:
    old = ServiceSpec(
        type="LoadBalancer",
        cluster_ip="10.0.0.1",
        cluster_ips=["10.0.0.1"],
        external_traffic_policy="Local",
        health_check_node_port=30010,
    )
    same = ServiceSpec(type="LoadBalancer", external_traffic_policy="Local")
    defaults.keep_allocated(same, old)
    assert (same.cluster_ip, same.cluster_ips, same.health_check_node_port) == ("10.0.0.1", ["10.0.0.1"], 30010)
    external = ServiceSpec(type="ExternalName")
    defaults.keep_allocated(external, old)
    assert external == ServiceSpec(type="ExternalName")


STORED = {
    "type": "LoadBalancer",
    "clusterIP": "10.0.0.1",
    "clusterIPs": ["10.0.0.1"],
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
    "ports": [{"name": "a", "port": 80, "nodePort": 30001}],
    "externalTrafficPolicy": "Local",
    "healthCheckNodePort": 30010,
    "allocateLoadBalancerNodePorts": True,
    "loadBalancerClass": "example.com/lb",
    "loadBalancerSourceRanges": ["10.0.0.0/8"],
}


@pytest.mark.parametrize(
    ("type_", "kept"),
    [
        ("ClusterIP", {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}),
        ("NodePort", {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "externalTrafficPolicy", "nodePort"}),
        ("ExternalName", set()),
        ("LoadBalancer", set(STORED) | {"nodePort"}),
    ],
)
def test_what_a_change_of_type_wipes(type_: str, kept: set[str]) -> None:
    """Everything that depends on the type goes, if it was sent back as it was."""
    new = read(STORED | {"type": type_})
    defaults.wipe_dependent(new, read(STORED))
    fields = set(msgspec.to_builtins(new)) - {"type", "ports", "loadBalancerSourceRanges"}
    if new.ports[0].node_port:
        fields.add("nodePort")
    assert fields == kept - {"type", "ports", "loadBalancerSourceRanges"}
    assert new.load_balancer_source_ranges == ["10.0.0.0/8"]  # never wiped


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clusterIPs", ["10.0.0.2"]),
        ("ipFamilies", ["IPv6"]),
        ("ipFamilyPolicy", "PreferDualStack"),
        ("healthCheckNodePort", 30011),
        ("allocateLoadBalancerNodePorts", False),
        ("loadBalancerClass", "example.com/other"),
        ("externalTrafficPolicy", "Cluster"),
        ("ports", [{"name": "a", "port": 80, "nodePort": 30002}]),
    ],
)
def test_what_the_client_changed_is_not_wiped(field: str, value: object) -> None:
    new = read(STORED | {"type": "ExternalName", field: value})
    defaults.wipe_dependent(new, read(STORED))
    assert msgspec.to_builtins(new)[field] == value
