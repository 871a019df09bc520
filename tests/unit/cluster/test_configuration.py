"""The rules of a cluster's configuration: defaults, primary family, and what is refused with which words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.cluster.changes import consequences, differences, refusals
from twinstack.cluster.configuration import (
    MAX_NODES,
    NODE_NETWORK,
    ClusterConfiguration,
)
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.wishes import Wishes, amend, configure
from twinstack.ip import IPFamily

V4, V6 = IPFamily.IPV4, IPFamily.IPV6


def texts(values: tuple[object, ...]) -> list[str]:
    return [str(value) for value in values]


def test_defaults() -> None:
    made = configure(Wishes(), 6443)
    assert (made.name, made.nodes) == ("twinstack", 2)
    assert texts(made.service_cidrs) == ["10.96.0.0/16", "fd00:10:96::/112"]
    assert texts(made.pod_cidrs) == ["10.244.0.0/16", "fd00:10:244::/56"]
    assert texts(made.switch_addresses) == ["172.30.0.1", "fd00:30::1"]
    assert texts(made.node_addresses(1)) == ["172.30.0.11", "fd00:30::11"]
    assert made.node_name(2) == "twinstack-2"
    assert made.description == "dual-stack, IPv4 first"


@pytest.mark.parametrize(
    ("wishes", "services", "pods"),
    [
        (Wishes(ip_family="ipv4"), [V4], [V4]),
        (Wishes(ip_family="ipv6"), [V6], [V6]),
        (Wishes(ip_family="dual"), [V4, V6], [V4, V6]),
        (Wishes(service_cidr="fd00:1::/112,10.1.0.0/16"), [V6, V4], [V6, V4]),
        (Wishes(pod_cidr="fd00:1::/56,10.1.0.0/16"), [V6, V4], [V6, V4]),
        (Wishes(service_cidr="fd00:1::/112"), [V6], [V6]),
        (Wishes(service_cidr="fd00:1::/112,10.1.0.0/16", ip_family="dual"), [V6, V4], [V6, V4]),
        (Wishes(service_cidr="fd00:1::/112,10.1.0.0/16", pod_cidr="10.2.0.0/16,fd00:2::/56"), [V6, V4], [V4, V6]),
    ],
)
def test_the_lists_decide_the_families(wishes: Wishes, services: list[IPFamily], pods: list[IPFamily]) -> None:
    made = configure(wishes, 6443)
    assert list(made.service_families) == services
    assert list(made.pod_families) == pods
    assert [address.family for address in made.switch_addresses] == services
    assert [address.family for address in made.node_addresses(1)] == pods


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (Wishes(name="Big"), "not a cluster name"),
        (Wishes(name="a-"), "not a cluster name"),
        (Wishes(name="a" * 33), "not a cluster name"),
        (Wishes(nodes=0), "1 to 100 nodes"),
        (Wishes(nodes=101), "1 to 100 nodes"),
        (Wishes(service_cidr="10.0.0.0"), "not a CIDR block"),
        (Wishes(service_cidr="10.0.0.0/16,10.1.0.0/16"), "different families"),
        (Wishes(service_cidr="10.0.0.0/16,fd00::/112,fd01::/112"), "at most two"),
        (Wishes(service_cidr="10.1.0.0/16", pod_cidr="fd00:1::/56"), "Services are of IPv4 and pods of IPv6"),
        (Wishes(service_cidr="10.1.0.0/16", ip_family="ipv6"), "contradicts"),
        (Wishes(service_cidr="fd00:1::/60", ip_family="ipv6"), "too large; use /64"),
        (Wishes(service_cidr="10.1.0.1/16"), "10.1.0.1/16 has bits set behind its prefix; write 10.1.0.0/16"),
        (Wishes(pod_cidr="fd00:1::5/56"), "bits set behind its prefix; write fd00:1::/56"),
        (Wishes(service_cidr="10.1.0.0/29"), "too small, it holds 8 addresses; use /28 or larger"),
        (Wishes(service_cidr="fd00:1::/126"), "too small, it holds 4 addresses; use /124 or larger"),
        (Wishes(pod_cidr="10.1.0.0/24"), "no room for 2 nodes"),
        (Wishes(pod_cidr="10.1.0.0/28", nodes=1), "no room for 1 node of"),
        (Wishes(pod_cidr="fd00:1::/40"), "too large"),
        (Wishes(service_cidr="10.244.8.0/24"), "--service-cidr 10.244.8.0/24 overlaps --pod-cidr 10.244.0.0/16"),
        (Wishes(pod_cidr="172.30.0.0/16"), "overlaps the network of the nodes"),
    ],
)
def test_refusals(wishes: Wishes, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        configure(wishes, 6443)


@given(
    st.sampled_from(["dual", "ipv4", "ipv6"]),
    st.integers(1, MAX_NODES),
    st.integers(1, 65535),
    st.booleans(),
)
def test_json_round_trip_and_distinct_addresses(family: str, nodes: int, port: int, reverse: bool) -> None:
    plain = configure(Wishes(nodes=nodes, ip_family=family), port)
    services = ",".join(texts(plain.service_cidrs[::-1] if reverse else plain.service_cidrs))
    made = configure(Wishes(nodes=nodes, service_cidr=services), port)
    assert ClusterConfiguration.from_json(json.loads(json.dumps(made.to_json()))) == made
    addresses = [address for index in range(1, nodes + 1) for address in made.node_addresses(index)]
    assert len({*addresses, *made.switch_addresses}) == (nodes + 1) * len(made.pod_cidrs)
    assert all(NODE_NETWORK[address.family].contains(address) for address in addresses)
    assert amend(Wishes(), made) == made
    assert amend(Wishes(nodes=nodes, service_cidr=services, api_port=port, ip_family=family), made) == made


DUAL, ONLY_V4 = configure(Wishes(), 6443), configure(Wishes(ip_family="ipv4"), 6443)


@pytest.mark.parametrize(
    ("existing", "wishes", "found"),
    [
        (DUAL, Wishes(nodes=3), ["2 nodes become 3"]),
        (DUAL, Wishes(nodes=1), ["2 nodes become 1"]),
        (DUAL, Wishes(pod_cidr="10.244.0.0/16,fd00:10:244::/56"), []),
        (DUAL, Wishes(node_labels=({"a": "b"},)), ["labels of nodes"]),
        (ONLY_V4, Wishes(ip_family="dual"), ["Services also in fd00:10:96::/112", "pods also in fd00:10:244::/56"]),
        (
            ONLY_V4,
            Wishes(service_cidr="10.96.0.0/16,fd00:7::/112"),
            ["Services also in fd00:7::/112", "pods also in fd00:10:244::/56"],
        ),
        (
            ONLY_V4,
            Wishes(pod_cidr="10.244.0.0/16,fd00:7::/56"),
            ["Services also in fd00:10:96::/112", "pods also in fd00:7::/56"],
        ),
    ],
)
def test_changes_in_place(existing: ClusterConfiguration, wishes: Wishes, found: list[str]) -> None:
    wanted = amend(wishes, existing)
    assert refusals(existing, wanted) == []
    assert differences(existing, wanted) == found
    grows = len(wanted.pod_cidrs) > len(existing.pod_cidrs)
    assert any("register anew" in text for text in consequences(existing, wanted)) is grows


@pytest.mark.parametrize(
    ("existing", "wishes", "found"),
    [
        (DUAL, Wishes(ip_family="ipv6"), ["Services in fd00:10:96::/112", "pods in fd00:10:244::/56"]),
        (DUAL, Wishes(api_port=7000), ["the API at port 7000 (it is at 6443)"]),
        (DUAL, Wishes(service_cidr="fd00:10:96::/112,10.96.0.0/16"), ["Services in fd00:10:96::/112,10.96.0.0/16"]),
        (ONLY_V4, Wishes(ip_family="ipv6"), ["Services in fd00:10:96::/112", "pods in fd00:10:244::/56"]),
        (ONLY_V4, Wishes(service_cidr="10.97.0.0/16"), ["Services in 10.97.0.0/16 (they are in 10.96.0.0/16)"]),
        (ONLY_V4, Wishes(service_cidr="10.96.0.0/12"), ["Services in 10.96.0.0/12"]),
        (ONLY_V4, Wishes(pod_cidr="fd00:7::/56,10.244.0.0/16"), ["pods in fd00:7::/56,10.244.0.0/16"]),
        (DUAL, Wishes(proxy=False), ["no Service proxy (it has one)"]),
    ],
)
def test_changes_that_a_running_cluster_refuses(
    existing: ClusterConfiguration, wishes: Wishes, found: list[str]
) -> None:
    refused = refusals(existing, amend(wishes, existing))
    assert len(refused) == len(found)
    assert all(text.startswith(start) for text, start in zip(refused, found, strict=True)), refused


def test_more_nodes_than_the_pods_have_room_for() -> None:
    with pytest.raises(ClusterError, match="has no room for 5 nodes"):
        amend(Wishes(nodes=5), configure(Wishes(pod_cidr="10.1.0.0/22"), 6443))
