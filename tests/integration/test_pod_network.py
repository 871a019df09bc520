"""The pod network on real kernels: two nodes joined by a cable, pods on each, both families."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from twinstack.api.core import Node, NodeAddress, NodeSpec, NodeStatus
from twinstack.api.meta import ObjectMeta
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import addresses, links, namespaces, netlink, sysctl
from twinstack.linux.nftables import dump
from twinstack.node import masquerade
from twinstack.node.network import INTERFACE_INDEX, PodNetwork
from twinstack.node.podaddresses import PodAddresses
from twinstack.node.routes import PROTOCOL, NodeRoutes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PREFIX = f"tt-F-{os.getpid()}"
PODS = {1: ("10.244.1.0/24", "fd00:10:244:1::/64"), 2: ("10.244.2.0/24", "fd00:10:244:2::/64")}
NODES = {1: ("172.30.0.11", "fd00:30::11"), 2: ("172.30.0.12", "fd00:30::12")}
MTU = 1400  # of the cable between the nodes
CLUSTER = [CIDR.parse("10.244.0.0/16"), CIDR.parse("fd00:10:244::/56")]


def node_object(number: int) -> Node:
    return Node(
        metadata=ObjectMeta(name=f"n{number}"),
        spec=NodeSpec(pod_cidrs=list(PODS[number])),
        status=NodeStatus(addresses=[NodeAddress(type="InternalIP", address=text) for text in NODES[number]]),
    )


class FakeNode:
    """One namespace with an uplink and the node's part of the pod network."""

    def __init__(self, number: int, root: Path, families: int = 2) -> None:
        self.number = number
        self.path = namespaces.RUN_DIRECTORY / f"{PREFIX}-n{number}"
        self.root = root / str(number)
        self.cidrs = [CIDR.parse(text) for text in PODS[number][:families]]
        self.ips = [Address.parse(text) for text in NODES[number]]
        namespaces.create(self.path, lambda: sysctl.write({"net/ipv6/conf/default/accept_dad": "0"}))

    def plug(self) -> None:
        def setup() -> None:
            route = netlink.NetlinkSocket(netlink.ROUTE)
            route.request([links.link_up(1), links.link_up(2)])
            route.request([links.add_address(2, ip, 24 if ip.family is IPFamily.IPV4 else 64) for ip in self.ips])
            addresses.settle(route, self.ips)
            route.close()

        namespaces.inside(self.path, setup)

    def settle(self) -> None:
        """Both ends of the cable are up: let the kernel notice now (see links.link)."""

        def look() -> None:
            route = netlink.NetlinkSocket(netlink.ROUTE)
            route.get(*links.link(2))
            route.close()

        namespaces.inside(self.path, look)

    def open(self) -> PodNetwork:
        network = PodNetwork(PodAddresses(self.root / "leases"), f"{PREFIX}-p{self.number}")
        namespaces.inside(self.path, lambda: network.open(self.cidrs, self.ips))
        return network

    def close(self, network: PodNetwork) -> None:
        for uid in network.pods():
            network.detach(uid)
        network.close()
        namespaces.remove(self.path)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[FakeNode]]:
    made: list[FakeNode] = []
    try:
        made = [FakeNode(1, tmp_path), FakeNode(2, tmp_path)]
        with made[1].path.open() as far:

            def cable() -> None:
                route = netlink.NetlinkSocket(netlink.ROUTE)
                peer, segment = links.Peer(far.fileno(), "eth0", 2), links.LONGEST_SEGMENT
                route.request([links.veth("eth0", peer, index=2, mtu=MTU, segment=segment)])
                route.close()

            namespaces.inside(made[0].path, cable)
        for node in made:
            node.plug()
        for node in made:
            node.settle()
        yield made
    finally:
        for node in made:
            network = PodNetwork(PodAddresses(node.root / "leases"), f"{PREFIX}-p{node.number}")
            node.close(network)
        left = [name for name in os.listdir(namespaces.RUN_DIRECTORY) if name.startswith(PREFIX)]
        assert left == []


@contextmanager
def serving(path: Path, address: Address, words: bytes = b"hello") -> Iterator[list[str]]:
    """A TCP server in a namespace; gives the addresses of its clients."""
    seen: list[str] = []

    def listen() -> socket.socket:
        return socket.create_server((str(address), 80), family=address.family.af)

    server = namespaces.inside(path, listen)

    def run() -> None:
        while True:
            try:
                connection, peer = server.accept()
            except OSError:
                return
            seen.append(peer[0])
            connection.sendall(words)
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown(socket.SHUT_RDWR)  # ends accept
        thread.join()
        server.close()


def fetch(path: Path, address: Address) -> bytes:
    def call() -> bytes:
        with socket.create_connection((str(address), 80), timeout=30) as connection:
            return connection.recv(100)

    return namespaces.inside(path, call)


def count(path: Path, address: Address) -> int:
    """How many bytes a server sends."""

    def call() -> int:
        with socket.create_connection((str(address), 80), timeout=30) as connection:
            return sum(iter(lambda: len(connection.recv(1 << 18)), 0))

    return namespaces.inside(path, call)


def look(path: Path, name: str) -> links.Link:
    def call() -> links.Link:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        try:
            return links.read_link(route.get(*links.link_named(name)))
        finally:
            route.close()

    return namespaces.inside(path, call)


def test_pods_reach_each_other_in_both_families(nodes: list[FakeNode]) -> None:
    first, second = nodes
    networks = {1: first.open(), 2: second.open()}
    routes = {node.number: namespaces.inside(node.path, NodeRoutes) for node in nodes}
    routes[1].put(node_object(2))
    routes[2].put(node_object(1))
    a, b = networks[1].attach("a"), networks[1].attach("b")
    c = networks[2].attach("c")
    assert [str(address) for address in a.addresses] == ["10.244.1.2", "fd00:10:244:1::2"]
    assert [str(address) for address in b.addresses] == ["10.244.1.3", "fd00:10:244:1::3"]
    for family in (0, 1):
        with serving(a.namespace, a.addresses[family]) as seen:
            for client in (b.namespace, c.namespace, first.path):  # the node itself as a probe does
                assert fetch(client, a.addresses[family]) == b"hello"
        assert seen == [str(b.addresses[family]), str(c.addresses[family]), NODES[1][family]]
    uplink = look(first.path, "eth0")
    for link in (look(a.namespace, "eth0"), look(first.path, a.link)):
        assert (link.mtu, link.segment) == (MTU, uplink.segment)
    much = bytes(20_000_000)  # in segments as long as they may be
    for address in a.addresses:
        with serving(a.namespace, address, much):
            assert [count(path, address) for path in (b.namespace, c.namespace)] == [len(much)] * 2
    for route in routes.values():
        route.close()
    for network in networks.values():
        network.close()


def test_leaving_the_cluster_takes_the_nodes_address(nodes: list[FakeNode]) -> None:
    first, second = nodes
    network = first.open()
    pod = network.attach("a")
    namespaces.inside(first.path, lambda: masquerade.apply(first.cidrs, CLUSTER))
    namespaces.inside(first.path, lambda: masquerade.apply(first.cidrs, CLUSTER))  # again changes nothing
    for family in (0, 1):
        with serving(second.path, second.ips[family]) as seen:
            assert fetch(pod.namespace, second.ips[family]) == b"hello"
        assert seen == [NODES[1][family]]

    def tables() -> list[str]:
        connection = netlink.NetlinkSocket(netlink.NETFILTER)
        names = [table.name for family in IPFamily for table in dump.tables(connection, family)]
        connection.close()
        return names

    assert namespaces.inside(first.path, tables) == [masquerade.TABLE] * 2
    namespaces.inside(first.path, lambda: masquerade.apply(first.cidrs[1:], CLUSTER))
    assert namespaces.inside(first.path, tables) == [masquerade.TABLE]  # the other family has no pods any more
    namespaces.inside(first.path, masquerade.remove)
    namespaces.inside(first.path, masquerade.remove)
    assert namespaces.inside(first.path, tables) == []
    network.close()


@pytest.mark.parametrize("family", [0, 1])
def test_one_family(nodes: list[FakeNode], family: int) -> None:
    node = nodes[0]
    node.cidrs = node.cidrs[family : family + 1]
    network = node.open()
    a, b = network.attach("a"), network.attach("b")
    assert len(a.addresses) == 1
    with serving(a.namespace, a.addresses[0]):
        assert fetch(b.namespace, a.addresses[0]) == b"hello"

    def addresses() -> list[IPFamily]:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        rows = [links.read_address(reply) for reply in route.dump(*links.address_list())]
        route.close()
        return [row.address.family for row in rows if row and row.ifindex == INTERFACE_INDEX and row.prefix != 64]

    assert namespaces.inside(a.namespace, addresses) == [a.addresses[0].family]
    network.close()


def test_leases_and_networks_outlive_the_agent(nodes: list[FakeNode]) -> None:
    node = nodes[0]
    network = node.open()
    a = network.attach("a")
    network.close()
    again = node.open()
    assert again.addresses("a") == a.addresses
    b = again.attach("b")
    assert not set(a.addresses) & set(b.addresses)
    with serving(a.namespace, a.addresses[1]):
        assert fetch(b.namespace, a.addresses[1]) == b"hello"
    assert again.attach("a") == a  # replaced, as for a sandbox that has to be made again
    with serving(a.namespace, a.addresses[0]):
        assert fetch(b.namespace, a.addresses[0]) == b"hello"
    again.detach("a")
    again.detach("a")
    assert again.addresses("a") == []
    assert again.pods() == ["b"]
    again.close()


def test_routes_follow_the_nodes_and_spare_others(nodes: list[FakeNode]) -> None:
    node = nodes[0]

    def run() -> None:
        socket_ = netlink.NetlinkSocket(netlink.ROUTE)
        foreign = CIDR.parse("10.244.7.0/24")
        socket_.request([links.add_route(foreign, 2, family=IPFamily.IPV4)])

        def present() -> dict[str, str]:
            rows = [links.read_route(reply) for f in IPFamily for reply in socket_.dump(*links.route_list(f))]
            return {str(r.destination): str(r.via) for r in rows if r is not None and r.protocol == PROTOCOL}

        routes = NodeRoutes()
        other = node_object(2)
        routes.put(other)
        assert present() == dict(zip(PODS[2], NODES[2], strict=True))
        other.spec.pod_cidrs = ["10.244.7.0/24"]  # a route of somebody else leads there
        routes.put(other)
        assert present() == {}
        routes.put(node_object(2))
        routes.close()
        routes = NodeRoutes()  # a restarted agent
        assert len(present()) == 2
        routes.sweep()
        assert present() == {}
        routes.put(node_object(2))
        routes.drop("n2")
        assert present() == {}
        routes.close()
        rows = [links.read_route(reply) for reply in socket_.dump(*links.route_list(IPFamily.IPV4))]
        assert any(row is not None and row.destination == foreign for row in rows)
        socket_.close()

    namespaces.inside(node.path, run)


@pytest.mark.parametrize("first_family", [0, 1])
def test_a_node_that_gains_the_other_family(nodes: list[FakeNode], first_family: int) -> None:
    """In either order: pods from before keep their one address, new ones have both, the primary family first."""
    first, second = nodes
    both = [first.cidrs[first_family], first.cidrs[1 - first_family]]
    first.cidrs = both[:1]
    network = first.open()
    namespaces.inside(first.path, lambda: masquerade.apply(first.cidrs, CLUSTER))
    old = network.attach("old")
    network.close()
    first.cidrs = both
    network = first.open()
    namespaces.inside(first.path, lambda: masquerade.apply(first.cidrs, CLUSTER))
    new = network.attach("new")
    assert network.addresses("old") == old.addresses
    assert [address.family for address in old.addresses] == [both[0].family]
    assert [address.family for address in new.addresses] == [block.family for block in both]
    with serving(old.namespace, old.addresses[0]) as seen:
        assert fetch(new.namespace, old.addresses[0]) == b"hello"
    assert seen == [str(new.addresses[0])]
    for family in (0, 1):
        with serving(second.path, second.ips[family]) as seen:
            assert fetch(new.namespace, second.ips[family]) == b"hello"
        assert seen == [NODES[1][family]]

    # A destination that is spared sees the pod; there must be a way back to it.
    spared = [*CLUSTER, *(CIDR(ip.family, ip.value, ip.family.bits) for ip in second.ips)]
    namespaces.inside(first.path, lambda: masquerade.apply(first.cidrs, spared))
    routes = namespaces.inside(second.path, NodeRoutes)
    routes.put(node_object(1))
    for address in new.addresses:
        target = next(ip for ip in second.ips if ip.family is address.family)
        with serving(second.path, target) as seen:
            assert fetch(new.namespace, target) == b"hello"
        assert seen == [str(address)]
    routes.close()
    network.close()
