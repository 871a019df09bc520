"""A client, a node, the pods' place and a guest, each a network namespace, joined by cables in both families.

    client 10.1.0.2, fd00:1::2 ── 10.1.0.1, fd00:1::1 node 10.2.0.1, fd00:2::1 ── pods 10.2.0.11…, fd00:2::11…
                                                       └── 10.3.0.1, fd00:3::1 ── guest 10.3.0.2, fd00:3::2

The guest is a pod that only asks. The pods' place has many addresses and one server listening on all of
them (see `answering`), which answers with the address it was reached at and the address it was asked from.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import links, namespaces
from twinstack.linux.addresses import settle
from twinstack.linux.netlink import ROUTE, NetlinkSocket
from twinstack.proxy.layout import Layout
from twinstack.proxy.writer import remove_tables

T = TypeVar("T")

FAMILIES = [IPFamily.IPV4, IPFamily.IPV6]
NODE = "node-1"
PORT = 8080  # where the server listens, TCP and UDP
PODS = 5
CLIENTS = 30
_FIRST_PORT, _PORTS = 2000, 60_000
ANSWERING = Path(__file__).parent / "answering.py"

CLIENT = {IPFamily.IPV4: "10.1.0.2", IPFamily.IPV6: "fd00:1::2"}
NODE_CLIENT_SIDE = {IPFamily.IPV4: "10.1.0.1", IPFamily.IPV6: "fd00:1::1"}
NODE_POD_SIDE = {IPFamily.IPV4: "10.2.0.1", IPFamily.IPV6: "fd00:2::1"}
GUEST = {IPFamily.IPV4: "10.3.0.2", IPFamily.IPV6: "fd00:3::2"}
NODE_GUEST_SIDE = {IPFamily.IPV4: "10.3.0.1", IPFamily.IPV6: "fd00:3::1"}
GUEST_BLOCK = {IPFamily.IPV4: CIDR.parse("10.3.0.0/24"), IPFamily.IPV6: CIDR.parse("fd00:3::/64")}
CROWD_BLOCK = {IPFamily.IPV4: CIDR.parse("10.4.0.0/16"), IPFamily.IPV6: CIDR.parse("fd00:4::/64")}
POD_BLOCK = {IPFamily.IPV4: CIDR.parse("10.2.0.0/24"), IPFamily.IPV6: CIDR.parse("fd00:2::/64")}
SERVICE_BLOCK = {IPFamily.IPV4: CIDR.parse("10.96.0.0/16"), IPFamily.IPV6: CIDR.parse("fd00:10:96::/112")}
EVERYWHERE = {IPFamily.IPV4: "0.0.0.0", IPFamily.IPV6: "::"}


def pod(family: IPFamily, number: int) -> str:
    """The address of pod 1 … PODS."""
    return f"10.2.0.{10 + number}" if family is IPFamily.IPV4 else f"fd00:2::1{number}"


def client(family: IPFamily, number: int) -> str:
    """More addresses of the client, 0 … CLIENTS - 1."""
    return f"10.1.0.{100 + number}" if family is IPFamily.IPV4 else f"fd00:1::a{number:02x}"


def crowd(family: IPFamily, number: int) -> str:
    """Any of very many addresses at which the server listens, too."""
    return str(CROWD_BLOCK[family].address(number))


def cluster_ip(family: IPFamily, number: int = 10) -> str:
    return str(SERVICE_BLOCK[family].address(number))


class Bed:
    """The namespaces, and sockets in them."""

    def __init__(self) -> None:
        prefix = namespaces.RUN_DIRECTORY / f"tt-G-{os.getpid()}"
        names = ("client", "node", "pods", "guest")
        self.client, self.node, self.pods, self.guest = (Path(f"{prefix}-{name}") for name in names)
        self._server: subprocess.Popen[bytes] | None = None
        self._flows = itertools.count()

    def build(self) -> None:
        for path in (self.client, self.node, self.pods, self.guest):
            namespaces.create(path, _prepare)
        for path, name, near, far in (
            (
                self.client,
                "client",
                NODE_CLIENT_SIDE,
                [CLIENT, *({f: client(f, n) for f in FAMILIES} for n in range(CLIENTS))],
            ),
            (self.guest, "guest", NODE_GUEST_SIDE, [GUEST]),
            (self.pods, "pods", NODE_POD_SIDE, [{f: pod(f, n) for f in FAMILIES} for n in range(1, PODS + 1)]),
        ):
            self._join(path, name, near, far)
        for place, way in ((self.node, ["via"]), (self.pods, ["dev", "lo"])):
            for family, block in CROWD_BLOCK.items():
                kind = ["local"] if place is self.pods else []
                last = [pod(family, 1)] if place is self.node else []
                command = ["nsenter", f"--net={place}", "ip", "-6" if family is IPFamily.IPV6 else "-4", "route", "add"]
                subprocess.run([*command, *kind, str(block), *way, *last], check=True)
        self.on_node(_route_to_client)  # the route of a new flow is looked up before its destination is changed
        self._server = subprocess.Popen(
            ["nsenter", f"--net={self.pods}", sys.executable, "-IS", str(ANSWERING), str(PORT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._server.stdout is not None
        if self._server.stdout.readline() != b"ready\n":
            raise RuntimeError("the server did not start")

    def remove(self) -> None:
        try:
            if self._server is not None:
                self._server.communicate(timeout=30)  # its standard input ends
                if self._server.returncode:
                    raise RuntimeError("the server had failed")
        finally:
            for path in (self.client, self.node, self.pods, self.guest):
                namespaces.remove(path)

    def clear(self) -> None:
        """Take the proxy's tables away."""
        self.on_node(lambda: remove_tables([Layout(family) for family in FAMILIES]))

    def _join(self, path: Path, name: str, near: dict[IPFamily, str], far: list[dict[IPFamily, str]]) -> None:
        def plug() -> int:
            route = NetlinkSocket(ROUTE)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                route.request([links.veth(name, links.Peer(descriptor, "eth0", 2))])
                index = next(
                    link.ifindex for link in map(links.read_link, route.dump(*links.link_list())) if link.name == name
                )
                route.request([_address(index, text) for text in near.values()])
                settle(route, map(Address.parse, near.values()))
                return index
            finally:
                os.close(descriptor)
                route.close()

        def receive() -> None:
            route = NetlinkSocket(ROUTE)
            try:
                route.request([links.link_up(2), *(_address(2, text) for each in far for text in each.values())])
                settle(route, [Address.parse(text) for each in far for text in each.values()])
                gateways = [(family, Address.parse(text)) for family, text in near.items()]
                route.request([links.add_route(None, 2, family=family, via=via) for family, via in gateways])
            finally:
                route.close()

        namespaces.inside(self.node, plug)
        namespaces.inside(path, receive)

    def fresh_source(self, family: IPFamily) -> tuple[str, int]:
        """An address and port of the client that no flow had before: conntrack remembers those."""
        number = next(self._flows)
        return client(family, number % CLIENTS), _FIRST_PORT + number // CLIENTS % _PORTS

    def on_node(self, work: Callable[[], T]) -> T:
        return namespaces.inside(self.node, work)

    def nft(self, *arguments: str) -> str:
        command = ["nsenter", f"--net={self.node}", "nft", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @contextlib.contextmanager
    def socket(self, place: Path, family: IPFamily, kind: int, source: str | None = None) -> Iterator[socket.socket]:
        """A socket of a namespace, with some patience."""
        sock = namespaces.inside(place, lambda: socket.socket(family.af, kind))
        try:
            sock.settimeout(10)
            if source is not None:
                sock.bind((source, 0))
            yield sock
        finally:
            sock.close()

    def ask(self, place: Path, address: str, port: int = 80, *, source: str | None = None) -> tuple[str, str]:
        """Connect over TCP: which pod answered, and whom it saw. Raises OSError."""
        family = Address.parse(address).family
        with self.socket(place, family, socket.SOCK_STREAM, source) as sock:
            sock.connect((address, port))
            answer = sock.recv(200).decode().split()
            # A reset at once, so that thousands of connections leave no port waiting.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return answer[0], answer[1]


def ask_datagram(sock: socket.socket, address: str, port: int) -> tuple[str, str]:
    """One question over UDP on a socket that may be used again: who answered, and whom it saw. Raises OSError."""
    sock.sendto(b"?", (address, port))
    answer, sender = sock.recvfrom(200)
    assert sender[0] == address
    words = answer.decode().split()
    return words[0], words[1]


def _prepare() -> None:
    for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", setting).write_text("1")
    for setting in ("ipv4/icmp_ratelimit", "ipv4/icmp_ratemask", "ipv6/icmp/ratelimit", "ipv6/icmp/ratemask"):
        Path("/proc/sys/net", setting).write_text("0")  # of masks: bits of an integer, a list of types
    for scope in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad").write_text("0")
    route = NetlinkSocket(ROUTE)
    route.request([links.link_up(links.LOOPBACK)])
    route.close()


def _index_of(route: NetlinkSocket, name: str) -> int:
    return next(link.ifindex for link in map(links.read_link, route.dump(*links.link_list())) if link.name == name)


def _route_to_client() -> None:
    route = NetlinkSocket(ROUTE)
    index = _index_of(route, "client")
    ways = [links.add_route(None, index, family=f, via=Address.parse(CLIENT[f])) for f in FAMILIES]
    route.request(ways)
    route.close()


def _address(index: int, text: str) -> bytes:
    address = Address.parse(text)
    return links.add_address(index, address, 24 if address.family is IPFamily.IPV4 else 64)
