"""Ports of pods on the node: a client beyond the node's link, the node itself, pods; both families."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import conntrack, links, namespaces, netlink, sysctl
from twinstack.linux.addresses import settle
from twinstack.linux.nftables import dump
from twinstack.linux.nftables.objects import Table
from twinstack.node import hostports
from twinstack.node.hostports import Forward, HostPorts
from twinstack.node.network import PodNetwork
from twinstack.node.podaddresses import PodAddresses

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PREFIX = f"tt-M-{os.getpid()}"
NODE = [Address.parse(text) for text in ("172.30.0.11", "fd00:30::11", "172.30.0.12")]
CLIENT = [Address.parse(text) for text in ("172.30.0.99", "fd00:30::99")]
PODS = [CIDR.parse("10.244.1.0/24"), CIDR.parse("fd00:10:244:1::/64")]
TCP, UDP = 6, 17
SERVE = """
import socket, sys, threading
def tcp():
    server = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        connection, peer = server.accept()
        connection.sendall((sys.argv[1] + " " + peer[0].removeprefix("::ffff:")).encode())
        connection.close()
def udp():
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind(("::", 53))
    while True:
        _, peer = server.recvfrom(100)
        server.sendto(sys.argv[1].encode(), peer)
threading.Thread(target=udp, daemon=True).start()
tcp()
"""


class Site(NamedTuple):
    """A node with two pods, `a` and `b`, and a client on its link."""

    node: Path
    client: Path
    pods: dict[str, Path]
    addresses: dict[str, list[Address]]
    network: PodNetwork
    ports: HostPorts

    def put(self, name: str, *wanted: tuple[int, str, int, int]) -> None:
        """(protocol, address or nothing, port, port of the pod), for each of the pod's addresses that fits."""
        found = [
            Forward(protocol, Address.parse(text) if text else None, port, target, target_port)
            for protocol, text, port, target_port in wanted
            for target in self.addresses[name]
            if not text or Address.parse(text).family is target.family
        ]
        namespaces.inside(self.node, lambda: self.ports.put(name, found, self.network.link_name(name)))

    def drop(self, name: str) -> None:
        namespaces.inside(self.node, lambda: self.ports.drop(name))

    def tables(self) -> list[IPFamily]:
        def look() -> list[IPFamily]:
            connection = conntrack.open_socket()
            try:
                return [f for f in IPFamily if dump.table(connection, Table(f, hostports.TABLE)) is not None]
            finally:
                connection.close()

        return namespaces.inside(self.node, look)


def join(node: Path, client: Path) -> None:
    """A cable between the node and its client."""

    def addresses(given: list[Address]) -> Callable[[], None]:
        def work() -> None:
            route = netlink.NetlinkSocket(netlink.ROUTE)
            lengths = {IPFamily.IPV4: 24, IPFamily.IPV6: 64}
            added = [links.add_address(10, ip, lengths[ip.family]) for ip in given]
            route.request([links.link_up(1), links.link_up(10), *added])
            settle(route, given)
            route.close()

        return work

    def cable() -> None:
        descriptor = os.open(client, os.O_RDONLY)
        route = netlink.NetlinkSocket(netlink.ROUTE)
        peer = links.Peer(descriptor, "eth0", 10, b"\x0a\x58\0\0\0\2")
        route.request([links.veth("eth0", peer, index=10, mac=b"\x0a\x58\0\0\0\3", mtu=None)])
        route.close()
        os.close(descriptor)

    namespaces.inside(node, cable)
    namespaces.inside(node, addresses(NODE))
    namespaces.inside(client, addresses(CLIENT))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    node, client = (namespaces.RUN_DIRECTORY / f"{PREFIX}-{name}" for name in ("node", "client"))
    network = PodNetwork(PodAddresses(tmp_path_factory.mktemp("leases")), PREFIX)
    servers = []
    try:
        for path in (node, client):
            namespaces.create(path, lambda: sysctl.write({"net/ipv6/conf/default/accept_dad": "0"}))
        join(node, client)
        namespaces.inside(node, lambda: network.open(PODS, NODE))
        attached = {name: network.attach(name) for name in "ab"}
        pods = {name: attachment.namespace for name, attachment in attached.items()}
        for name, path in pods.items():
            command = ["nsenter", f"--net={path}", "python3", "-IS", "-c", SERVE, name]
            servers.append(subprocess.Popen(command))
        addresses = {name: attachment.addresses for name, attachment in attached.items()}
        ports = namespaces.inside(node, lambda: HostPorts(NODE))
        namespaces.inside(node, lambda: ports.start({}))
        made = Site(node, client, pods, addresses, network, ports)
        for name in "ab":
            answered(made.pods[name], "127.0.0.1", 80, name)
        yield made
    finally:
        for server in servers:
            server.kill()
            server.wait()
        for name in "ab":
            network.detach(name)
        network.close()
        for path in (node, client):
            namespaces.remove(path)


def ask(where: Path, host: str, port: int, patience: float = 30) -> str:
    """What the server says: its name, and the address that it sees; empty when nobody answers."""

    def work() -> str:
        try:
            with socket.create_connection((host, port), timeout=patience) as connection:
                return connection.recv(100).decode()
        except OSError:
            return ""

    return namespaces.inside(where, work)


def answered(where: Path, host: str, port: int, text: str) -> None:
    until = time.monotonic() + 60
    while not ask(where, host, port).startswith(text):
        assert time.monotonic() < until, f"{text} does not answer"


def ask_udp(sender: socket.socket, host: str, port: int, patience: float = 30) -> str:
    sender.settimeout(patience)
    sender.sendto(b"?", (host, port))
    try:
        return sender.recv(100).decode()
    except OSError:
        return ""


def test_a_client_reaches_the_pod_and_is_seen(site: Site) -> None:
    site.put("a", (TCP, "", 8080, 80))
    for host, client in (("172.30.0.11", CLIENT[0]), ("172.30.0.12", CLIENT[0]), ("fd00:30::11", CLIENT[1])):
        assert ask(site.client, host, 8080) == f"a {client}"
    assert ask(site.client, "172.30.0.11", 8081) == ""
    site.drop("a")
    assert ask(site.client, "172.30.0.11", 8080) == ""
    assert ask(site.client, "fd00:30::11", 8080) == ""


def test_from_the_node_and_from_pods(site: Site) -> None:
    site.put("a", (TCP, "", 8080, 80))
    assert ask(site.node, "172.30.0.11", 8080).startswith("a ")
    assert ask(site.node, "fd00:30::11", 8080).startswith("a ")
    assert ask(site.node, "127.0.0.1", 8080).startswith("a ")
    assert ask(site.node, "::1", 8080) == ""  # refused at once, not forwarded into nowhere
    for host, other, own in (
        ("172.30.0.11", site.addresses["b"][0], "10.244"),
        ("fd00:30::11", site.addresses["b"][1], "fd00"),
    ):
        assert ask(site.pods["b"], host, 8080) == f"a {other}"
        assert ask(site.pods["a"], host, 8080).startswith("a ")  # itself, by the node
        assert not ask(site.pods["a"], host, 8080).startswith(f"a {own}:10:244:1")
    site.drop("a")


def test_ports_of_one_address(site: Site) -> None:
    site.put("a", (TCP, "172.30.0.11", 8080, 80), (TCP, "fd00:30::11", 8081, 80), (TCP, "127.0.0.1", 8082, 80))
    site.put("b", (TCP, "172.30.0.12", 8080, 80))
    assert ask(site.client, "172.30.0.11", 8080).startswith("a ")
    assert ask(site.client, "172.30.0.12", 8080).startswith("b ")
    assert ask(site.client, "fd00:30::11", 8080) == ""
    assert ask(site.client, "fd00:30::11", 8081).startswith("a ")
    assert ask(site.client, "172.30.0.11", 8081) == ""
    assert ask(site.client, "172.30.0.11", 8082) == ""
    assert ask(site.node, "127.0.0.1", 8082).startswith("a ")
    site.drop("a")
    assert ask(site.client, "172.30.0.12", 8080).startswith("b ")
    site.drop("b")


def test_other_addresses_are_left_alone(site: Site) -> None:
    """A packet that only passes through, to the same port of somebody else."""
    site.put("a", (TCP, "", 80, 80))
    assert ask(site.pods["a"], str(site.addresses["b"][0]), 80).startswith("b ")
    assert ask(site.pods["a"], str(site.addresses["b"][1]), 80).startswith("b ")
    site.drop("a")


def test_udp_follows_at_once(site: Site) -> None:
    for family, host in ((socket.AF_INET, "172.30.0.11"), (socket.AF_INET6, "fd00:30::11")):
        with namespaces.inside(site.client, partial(socket.socket, family, socket.SOCK_DGRAM)) as sender:
            assert ask_udp(sender, host, 5353, 0.3) == ""  # the node remembers this flow as its own
            site.put("a", (UDP, "", 5353, 53))
            assert ask_udp(sender, host, 5353) == "a"
            site.drop("a")
            site.put("b", (UDP, "", 5353, 53))
            assert ask_udp(sender, host, 5353) == "b"
            site.drop("b")


def test_nothing_from_outside_reaches_the_loopback(site: Site) -> None:
    """What lets the node's own 127.0.0.1 out lets nobody else in."""

    def serve() -> socket.socket:
        return socket.create_server(("127.0.0.1", 7777))

    server = namespaces.inside(site.node, serve)
    with server:
        site.put("a", (TCP, "", 8080, 80))

        def route() -> None:
            sysctl.write({"net/ipv4/conf/all/route_localnet": "1"})
            subprocess.run(["ip", "address", "delete", "127.0.0.1/8", "dev", "lo"], check=True)
            request = netlink.NetlinkSocket(netlink.ROUTE)
            loopback, gateway = CIDR.parse("127.0.0.1/32"), Address.parse("fe80::1")
            request.request([links.add_route(loopback, 2, family=IPFamily.IPV4, via=gateway)])
            request.close()

        namespaces.inside(site.pods["b"], route)
        namespaces.inside(site.node, lambda: sysctl.write({"net/ipv4/conf/all/route_localnet": "1"}))
        server.settimeout(0.3)
        assert ask(site.pods["b"], "127.0.0.1", 7777, 0.5) == ""
        with pytest.raises(TimeoutError):
            server.accept()
        site.drop("a")


def test_the_tables_are_there_while_they_are_needed(site: Site) -> None:
    assert site.tables() == []
    site.put("a", (TCP, "", 8080, 80))
    assert site.tables() == list(IPFamily)
    site.put("b", (TCP, "172.30.0.12", 8081, 80))
    site.drop("a")
    assert site.tables() == [IPFamily.IPV4]
    site.drop("b")
    assert site.tables() == []


def test_a_later_agent_takes_the_tables_over(site: Site) -> None:
    site.put("a", (TCP, "", 8080, 80))
    site.put("b", (TCP, "", 8081, 80))
    later = namespaces.inside(site.node, lambda: HostPorts(NODE))
    found = [Forward(TCP, None, 8081, target, 80) for target in site.addresses["b"]]
    namespaces.inside(site.node, lambda: later.start({"b": found}))
    assert ask(site.client, "172.30.0.11", 8081).startswith("b ")
    assert ask(site.client, "172.30.0.11", 8080) == ""
    namespaces.inside(site.node, lambda: later.drop("b"))
    assert site.tables() == []
    site.drop("b")
    site.drop("a")


def test_tables_that_others_deleted_are_laid_anew(site: Site) -> None:
    site.put("a", (TCP, "", 8080, 80))
    namespaces.inside(site.node, hostports.remove)
    namespaces.inside(site.node, hostports.remove)
    site.put("b", (TCP, "", 8081, 80))
    assert ask(site.client, "172.30.0.11", 8080).startswith("a ")
    assert ask(site.client, "fd00:30::11", 8081).startswith("b ")
    site.drop("a")
    site.drop("b")
