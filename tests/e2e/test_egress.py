"""`up --egress`: pods reach what the machine reaches, in both families, and nothing is left of it.

The machine is a namespace of the test's own, with a router behind it that plays the outside.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until

from twinstack.ip import Address, IPFamily
from twinstack.linux import links, namespaces, netlink, sysctl
from twinstack.linux.addresses import settle

PREFIX = f"tt-h-egress-{os.getpid()}"
MACHINE, ROUTER = (namespaces.RUN_DIRECTORY / f"{PREFIX}-{name}" for name in ("machine", "router"))
MACHINE_IPS = [Address.parse("198.51.100.2"), Address.parse("2001:db8:1::2")]
ROUTER_IPS = [Address.parse("198.51.100.1"), Address.parse("2001:db8:1::1")]
OUTSIDE = [Address.parse("203.0.113.7"), Address.parse("2001:db8:7::7")]
WIRE = {IPFamily.IPV4: 24, IPFamily.IPV6: 64}
ETH0, PORT = 2, 8000
ASK = """
import socket, sys
def ask(kind, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as s:
        s.settimeout(float(sys.argv[2]))
        try:
            s.connect((address, port))
            if kind is socket.SOCK_STREAM:
                s.settimeout(30)
                s.sendall(bytes(3_000_000))  # in segments as long as they may be
                s.shutdown(socket.SHUT_WR)
            else:
                s.send(b"hello")
            return s.recv(200).decode()
        except OSError as error:
            return type(error).__name__
for address in sys.argv[3:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        print(address, kind.name, ask(kind, address, int(sys.argv[1])), flush=True)
"""


def request(*messages: bytes, usable: Sequence[Address] = ()) -> None:
    route = netlink.NetlinkSocket(netlink.ROUTE)
    try:
        route.request(messages)
        settle(route, usable)
    finally:
        route.close()


@pytest.fixture
def outside() -> Iterator[ExitStack]:
    """A machine, and servers of both families and protocols behind its router, which answer with their client."""
    with ExitStack() as stack:
        for path in (MACHINE, ROUTER):
            stack.callback(namespaces.remove, path)
            namespaces.create(path, lambda: sysctl.write({"net/ipv6/conf/default/accept_dad": "0"}))
        with ROUTER.open() as far:
            peer = links.Peer(far.fileno(), "eth0", ETH0)
            namespaces.inside(MACHINE, lambda: request(links.veth("eth0", peer, index=ETH0)))
        for path, own in ((MACHINE, MACHINE_IPS), (ROUTER, ROUTER_IPS)):
            up = [links.link_up(links.LOOPBACK), links.link_up(ETH0)]
            up += [links.add_address(ETH0, ip, WIRE[ip.family]) for ip in own]
            namespaces.inside(path, lambda up=up, own=own: request(*up, usable=own))  # type: ignore[misc]
        ways = [links.add_route(None, ETH0, family=ip.family, via=ip) for ip in ROUTER_IPS]
        namespaces.inside(MACHINE, lambda: request(*ways))
        there = [links.add_address(links.LOOPBACK, ip, ip.family.bits) for ip in OUTSIDE]
        namespaces.inside(ROUTER, lambda: request(*there, usable=OUTSIDE))
        for ip in OUTSIDE:
            serve(stack, ROUTER, ip)
        yield stack


def serve(stack: ExitStack, namespace: Path, address: Address) -> None:
    def make(kind: socket.SocketKind) -> socket.socket:
        made = socket.socket(address.family.af, kind)
        made.bind((str(address), PORT))
        return made

    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        server = namespaces.inside(namespace, lambda kind=kind: make(kind))  # type: ignore[misc]
        thread = threading.Thread(target=_stream if kind is socket.SOCK_STREAM else _datagrams, args=(server,))
        stack.callback(_stop, server, thread)
        thread.start()


def _stop(server: socket.socket, thread: threading.Thread) -> None:
    with suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)  # wakes who waits
    thread.join(10)
    server.close()
    assert not thread.is_alive()


def _stream(server: socket.socket) -> None:
    server.listen()
    while True:
        try:
            connection, peer = server.accept()
        except OSError:
            return
        with connection:
            while connection.recv(1 << 18):
                pass
            connection.sendall(peer[0].encode())


def _datagrams(server: socket.socket) -> None:
    while True:
        try:
            data, peer = server.recvfrom(100)
        except OSError:
            return
        if not data:
            return
        server.sendto(peer[0].encode(), peer)


def seen(cluster: Cluster, pod: str, *addresses: Address, patience: float = 0.3) -> list[str]:
    """What the servers saw as the pod's address, or the error, for both protocols of each."""
    texts = list(map(str, addresses))
    return [
        line.split()[-1]
        for line in cluster.kubectl(
            "exec", pod, "--", "python3", "-c", ASK, str(PORT), str(patience), *texts
        ).splitlines()
    ]


def pod(name: str) -> dict[str, Any]:
    container = {"name": "c", "image": "twinstack.local/host", "command": ["sleep", "1000"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def links_of(namespace: Path) -> set[str]:
    def look() -> set[str]:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        try:
            return {links.read_link(reply).name for reply in route.dump(*links.link_list())}
        finally:
            route.close()

    return namespaces.inside(namespace, look)


def test_pods_reach_the_outside(outside: ExitStack, new_cluster: Callable[[str], Cluster]) -> None:
    cluster = new_cluster("egress")
    cluster.prefix = ("nsenter", f"--net={MACHINE}", "--")
    serve(outside, MACHINE, Address.parse("127.0.0.1"))
    before = links_of(MACHINE)
    assert "Pods reach the outside" not in cluster.up("--nodes", "1")
    cluster.apply(pod("web"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
    assert set(seen(cluster, "web", *OUTSIDE)) <= {"OSError", "ConnectionRefusedError", "TimeoutError"}

    told = cluster.up("--egress")
    assert "Pods reach the outside in IPv4 and IPv6." in told
    wanted = [str(ip) for ip in MACHINE_IPS for _ in range(2)]
    until(lambda: seen(cluster, "web", *OUTSIDE, patience=3) == wanted, "the outside is reached as the machine")
    assert links_of(MACHINE) == before
    # What the cluster has, and what is nobody's in it, stays in it; the machine's loopback is nowhere near.
    nobody = Address.parse("10.244.255.1"), Address.parse("fd00:10:244:ff::1"), Address.parse("192.0.0.1")
    assert not {"127.0.0.1", *wanted} & set(seen(cluster, "web", *nobody))

    cluster.up("--no-egress")
    until(lambda: "out0" not in links_of(cluster.paths.switch), "the device goes")
    cluster.down()
    assert links_of(MACHINE) == before
    processes = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdecimal()]
    assert not [path for path in processes if _mentions(path, str(cluster.paths.switch))]


def _mentions(path: Path, word: str) -> bool:
    with suppress(OSError):
        return word.encode() in path.read_bytes()
    return False
