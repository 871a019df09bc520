"""The switch and the nodes in real namespaces: both families reach each other, the host sees nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinstack.cluster import network
from twinstack.cluster.configuration import ClusterConfiguration
from twinstack.cluster.state import ClusterPaths
from twinstack.cluster.wishes import Wishes, configure
from twinstack.ip import Address, IPFamily
from twinstack.linux import namespaces


def host_network() -> str:
    commands = ["ip addr", "ip route show table all", "ip -6 route show table all", "nft list ruleset"]
    texts = [subprocess.run(c.split(), capture_output=True, text=True, check=False).stdout for c in commands]
    return "".join(texts)


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[ClusterConfiguration, ClusterPaths]]:
    family = getattr(request, "param", "dual")
    name = f"tt-h-{os.getpid()}"
    paths = ClusterPaths(name, tmp_path)
    configuration = configure(Wishes(name=name, nodes=2, ip_family=family), 6443)
    before = host_network()
    try:
        network.ensure(configuration, paths)
        assert host_network() == before
        yield configuration, paths
    finally:
        network.remove(paths)
    assert host_network() == before
    assert paths.namespaces() == []


def open_socket(namespace: Path, family: IPFamily) -> socket.socket:
    opened = namespaces.inside(namespace, lambda: socket.socket(family.af))
    opened.settimeout(3)
    return opened


def connect(source: Path, listener: Path, address: Address) -> float:
    """Seconds that a TCP connection takes from one namespace to an address in another."""

    def listen() -> socket.socket:
        server = socket.socket(address.family.af)
        server.bind((str(address), 8080))
        server.listen()
        return server

    server = namespaces.inside(listener, listen)
    with server, open_socket(source, address.family) as client:
        start = time.monotonic()
        client.connect((str(address), 8080))
        return time.monotonic() - start


def test_every_node_reaches_every_other_at_once(cluster: tuple[ClusterConfiguration, ClusterPaths]) -> None:
    configuration, paths = cluster
    for address in configuration.node_addresses(2):
        assert connect(paths.node(1), paths.node(2), address) < 0.5
    for address in configuration.switch_addresses:
        assert connect(paths.node(1), paths.switch, address) < 0.5
    for address in configuration.node_addresses(1):
        assert connect(paths.switch, paths.node(1), address) < 0.5


def test_again_changes_nothing_and_mends_what_is_missing(cluster: tuple[ClusterConfiguration, ClusterPaths]) -> None:
    configuration, paths = cluster
    inodes = [path.stat().st_ino for path in paths.namespaces()]
    network.ensure(configuration, paths)
    assert [path.stat().st_ino for path in paths.namespaces()] == inodes
    namespaces.remove(paths.node(2))
    paths.node(2).touch()  # what a reboot leaves where /run is on disk
    network.ensure(configuration, paths)
    assert all(connect(paths.node(1), paths.node(2), address) < 0.5 for address in configuration.node_addresses(2))


@pytest.mark.parametrize("cluster", ["ipv4", "ipv6"], indirect=True)
def test_a_single_family_has_addresses_and_routes_of_it_alone(
    cluster: tuple[ClusterConfiguration, ClusterPaths],
) -> None:
    configuration, paths = cluster
    (own,) = configuration.pod_families
    for family, flag in ((own, 4 if own == "IPv4" else 6), (own.other, 6 if own == "IPv4" else 4)):
        command = ["nsenter", f"--net={paths.node(1)}", "ip", f"-{flag}", "route", "show", "default"]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert bool(out) is (family is own)
    assert connect(paths.node(1), paths.node(2), configuration.node_addresses(2)[0]) < 0.5


def test_an_unreachable_address_is_refused(
    cluster: tuple[ClusterConfiguration, ClusterPaths],
) -> None:
    _, paths = cluster
    for text in ("198.51.100.1", "2001:db8::1"):
        address = Address.parse(text)
        with open_socket(paths.node(1), address.family) as client, pytest.raises(OSError, match="unreachable"):
            client.connect((text, 80))


def test_the_switch_reaches_pods_and_forwards_to_none(
    cluster: tuple[ClusterConfiguration, ClusterPaths],
) -> None:
    configuration, paths = cluster
    network.ensure(configuration, paths)  # again: what is there stays
    via = [str(address) for address in configuration.node_addresses(1)]
    for block, hop in zip(configuration.pod_cidrs, via, strict=True):
        pod = block.address(-2)
        command = ["nsenter", f"--net={paths.switch}", "ip", "route", "get", str(pod)]
        assert f"via {hop} " in subprocess.run(command, capture_output=True, text=True, check=True).stdout
        with open_socket(paths.node(2), pod.family) as client, pytest.raises(OSError, match="unreachable"):
            client.connect((str(pod), 80))
