"""Ports of pods on the node's own addresses (v1 ContainerPort.hostPort), in a table of each family.

```
table ip twinstack-hostports {
    map ports          { 6 . 8080                 : 10.244.1.2 . 80 }    on every address of the node
    map address-ports  { 172.30.0.11 . 6 . 8081   : 10.244.1.2 . 81 }    on one (hostIP)
    set hairpins       { 10.244.1.2 . 10.244.1.2, 127.0.0.1 . 10.244.1.2 }
    prerouting, output (nat, -100)   to a local address: dnat by these maps
    postrouting (nat, 100)           a pod that reaches itself, and the node by 127.0.0.1: masquerade
    guard (filter, -300)             drop what comes from outside for 127.0.0.0/8, which route_localnet lets in
}
```

As the CNI plugin portmap does it; the table is there only while a pod has such ports, and no packet but the first of
a connection meets the maps. Priorities are kube-proxy's: of two that know a port, one translates and the other is not
asked. IPv6 has no ::1, which the kernel does not route.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from twinstack.api import core
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import conntrack, sysctl
from twinstack.linux.netlink import NETFILTER, NetlinkSocket
from twinstack.linux.nftables import dump
from twinstack.linux.nftables import expressions as ex
from twinstack.linux.nftables.batch import Nftables, NftablesError
from twinstack.linux.nftables.objects import ChainType, Collection, DataType, Hook, Priority, Table
from twinstack.node.lifecycle import is_sidecar

TABLE = "twinstack-hostports"
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
_RAW = -300  # before connection tracking
_LOOPBACK = Address.parse("127.0.0.1")
_UNSPECIFIED = {Address.parse("0.0.0.0"), Address.parse("::")}


class Forward(NamedTuple):
    """One port of the node that leads to a pod; `address` None: on all addresses of the target's family."""

    protocol: int
    address: Address | None
    port: int
    target: Address
    target_port: int


class Claim(NamedTuple):
    """A port of the node that a pod takes; `address` None: on every address."""

    protocol: str
    address: Address | None
    port: int


def _ports(pod: core.Pod) -> Iterator[core.ContainerPort]:
    """Those of all containers that run along with the pod."""
    for container in pod.spec.containers + [c for c in pod.spec.init_containers if is_sidecar(c)]:
        yield from (port for port in container.ports if port.host_port)


def forwards(pod: core.Pod, addresses: Sequence[Address]) -> list[Forward]:
    """What leads to a pod with these addresses. A hostIP of one family, even 0.0.0.0 or ::, is for that alone."""
    found = []
    for port in _ports(pod) if not pod.spec.host_network else ():
        given = Address.parse(port.host_ip) if port.host_ip else None
        for target in addresses:
            if given is not None and given.family is not target.family:
                continue
            at = given if given not in _UNSPECIFIED else None
            number = PROTOCOLS[port.protocol or "TCP"]
            found.append(Forward(number, at, port.host_port, target, port.container_port))
    return found


def claims(pod: core.Pod) -> list[Claim]:
    """Also of pods on the node's network."""
    found = []
    for port in _ports(pod):
        given = Address.parse(port.host_ip) if port.host_ip else None
        at = given if given not in _UNSPECIFIED else None
        found.append(Claim(port.protocol or "TCP", at, port.host_port))
    return found


def conflict(pod: core.Pod, others: Iterable[core.Pod]) -> bool:
    """Whether another pod has a port that this one claims (kube-scheduler's NodePorts)."""
    wanted = claims(pod)
    if not wanted:
        return False
    taken = [claim for other in others for claim in claims(other)]
    return any(
        a.port == b.port and a.protocol == b.protocol and (a.address == b.address or None in (a.address, b.address))
        for a in wanted
        for b in taken
    )


class Layout:
    """One family's table."""

    def __init__(self, family: IPFamily) -> None:
        self.family = family
        self.table = Table(family, TABLE)
        address, port = DataType.address(family), (DataType.PROTOCOL, DataType.PORT)
        self.ports = Collection(self.table, "ports", port, (address, DataType.PORT))
        self.address_ports = Collection(self.table, "address-ports", (address, *port), (address, DataType.PORT))
        self.hairpins = Collection(self.table, "hairpins", (address, address))

    def elements(self, found: Iterable[Forward]) -> dict[Collection, dict[bytes, bytes]]:
        """What the maps hold for these forwards; others' families are left out."""
        made: dict[Collection, dict[bytes, bytes]] = {self.ports: {}, self.address_ports: {}, self.hairpins: {}}
        for forward in found:
            if forward.target.family is not self.family:
                continue
            key = struct.pack(">BxxxHxx", forward.protocol, forward.port)
            value = forward.target.packed + struct.pack(">Hxx", forward.target_port)
            if forward.address is None:
                made[self.ports][key] = value
            else:
                made[self.address_ports][forward.address.packed + key] = value
            made[self.hairpins][forward.target.packed * 2] = b""
            if self.family is IPFamily.IPV4:
                made[self.hairpins][_LOOPBACK.packed + forward.target.packed] = b""
        return made

    def forwards(self, socket: NetlinkSocket) -> list[Forward]:
        """What the kernel's table holds, the other way round. Raises OSError."""
        if dump.table(socket, self.table) is None:
            return []
        found, octets = [], self.family.octets
        for collection, has_address in ((self.ports, False), (self.address_ports, True)):
            for key, value in dump.elements(socket, collection).items():
                at = Address.from_packed(key[:octets]) if has_address else None
                protocol, port = struct.unpack(">BxxxHxx", key[octets if has_address else 0 :])
                (target_port,) = struct.unpack(">Hxx", value[octets:])
                found.append(Forward(protocol, at, port, Address.from_packed(value[:octets]), target_port))
        return found

    def create(self) -> Iterator[bytes]:
        """The empty table, in the place of one that may be there."""
        table = self.table
        yield table.create()  # so that there is one to delete
        yield table.delete()
        yield table.create(comment="ports of pods on the node by twinstack node")
        for number, collection in enumerate((self.ports, self.address_ports, self.hairpins), 1):
            yield collection.create(number)
        yield table.chain("forward")
        yield table.base_chain("prerouting", ChainType.NAT, Hook.PREROUTING, Priority.DESTINATION_NAT)
        yield table.base_chain("output", ChainType.NAT, Hook.OUTPUT, Priority.DESTINATION_NAT)
        yield table.base_chain("postrouting", ChainType.NAT, Hook.POSTROUTING, Priority.SOURCE_NAT)
        for chain, rules in self._rules().items():
            for rule in rules:
                yield table.rule(chain, *rule)
        if self.family is IPFamily.IPV4:
            yield table.base_chain("guard", ChainType.FILTER, Hook.PREROUTING, _RAW)
            foreign = ex.load_meta(ex.Meta.INPUT_INDEX, ex.FIRST_REGISTER)
            foreign += ex.compare(ex.FIRST_REGISTER, ex.Compare.NOT_EQUAL, struct.pack("=I", 1))
            yield table.rule("guard", foreign, ex.destination_in(CIDR.parse("127.0.0.0/8")), ex.drop())

    def _rules(self) -> dict[str, list[list[bytes]]]:
        key, words = ex.FIRST_REGISTER, self.family.octets // 4
        local = [ex.destination_is_local()]
        if self.family is IPFamily.IPV6:
            local.append(ex.destination_in(CIDR.parse("::1/128"), negate=True))
        flow = ex.load_meta(ex.Meta.PROTOCOL, key) + ex.destination_port(key + 1)
        address_flow = ex.destination_address(self.family, key) + ex.load_meta(ex.Meta.PROTOCOL, key + words)
        address_flow += ex.destination_port(key + words + 1)
        translate = ex.destination_nat(self.family, key, key + words)
        pair = ex.source_address(self.family, key) + ex.destination_address(self.family, key + words)
        return {
            "forward": [
                [address_flow, ex.look_up(self.address_ports.name, key, key), translate],
                [flow, ex.look_up(self.ports.name, key, key), translate],
            ],
            "prerouting": [[*local, ex.jump("forward")]],
            "output": [[*local, ex.jump("forward")]],
            "postrouting": [[pair, ex.member(self.hairpins.name, key), ex.masquerade()]],
        }


class HostPorts:
    """The forwards of a node, in the network namespace of the thread that makes it. Methods block for a moment."""

    def __init__(self, node_ips: Sequence[Address]) -> None:
        self._node_ips = node_ips
        self._wanted: dict[str, list[Forward]] = {}  # by pod uid
        self._layouts = [Layout(family) for family in IPFamily]
        self._laid: dict[IPFamily, dict[Collection, dict[bytes, bytes]]] | None = None

    def start(self, found: Mapping[str, list[Forward]]) -> None:
        """Take over the node's tables, for pods that are here already. Until then changes are only noted.

        Raises NftablesError.
        """
        self._wanted |= {uid: entries for uid, entries in found.items() if entries}
        self._laid = {}
        self._apply()

    def put(self, uid: str, found: list[Forward], link: str) -> None:
        """Lead these ports to a pod whose end on the node is called `link`. Raises OSError."""
        if not found and uid not in self._wanted:
            return
        self._wanted[uid] = found
        if any(forward.target.family is IPFamily.IPV4 for forward in found):
            sysctl.write({f"net/ipv4/conf/{link}/route_localnet": "1"})  # for connections to 127.0.0.1
        self._apply()
        self._forget_flows(found)

    def drop(self, uid: str) -> None:
        """Idempotent. Raises NftablesError."""
        if self._wanted.pop(uid, None):
            self._apply()

    def _apply(self) -> None:
        if self._laid is None:
            return
        connection = Nftables()
        try:
            for layout in self._layouts:
                wanted = layout.elements(forward for found in self._wanted.values() for forward in found)
                try:
                    self._change(connection, layout, wanted)
                except NftablesError:
                    self._laid.pop(layout.family, None)  # it is not as we left it: lay it anew
                    self._change(connection, layout, wanted)
        finally:
            connection.close()

    def _forget_flows(self, found: Iterable[Forward]) -> None:
        """UDP flows to these ports that began before the forward, and would go past it as long as they are used."""
        ports = {(forward.target.family, forward.port) for forward in found if forward.protocol == PROTOCOLS["UDP"]}
        if not ports:
            return
        socket = conntrack.open_socket()
        try:
            for family, port in ports:
                for address in [ip for ip in self._node_ips if ip.family is family]:
                    flows = conntrack.flows(socket, family, PROTOCOLS["UDP"], destination=address, port=port)
                    conntrack.forget(socket, family, flows)
        finally:
            socket.close()

    def _change(self, connection: Nftables, layout: Layout, wanted: dict[Collection, dict[bytes, bytes]]) -> None:
        assert self._laid is not None
        laid = self._laid.get(layout.family)
        empty = not any(wanted.values())
        if empty:
            if laid is None or any(laid.values()):
                connection.commit([layout.table.create(), layout.table.delete()])
        elif laid is None or not any(laid.values()):
            messages = list(layout.create())
            for collection, elements in wanted.items():
                messages += collection.add(elements.items())
            connection.commit(messages)
        else:
            connection.commit(list(_difference(laid, wanted)))
        self._laid[layout.family] = wanted


def _difference(
    laid: Mapping[Collection, Mapping[bytes, bytes]], wanted: Mapping[Collection, Mapping[bytes, bytes]]
) -> Iterator[bytes]:
    for collection, elements in wanted.items():
        before = laid[collection]
        yield from collection.delete(key for key in before if elements.get(key) != before[key])
        yield from collection.add((key, data) for key, data in elements.items() if before.get(key) != data)


def laid() -> list[Forward]:
    """All forwards of the calling thread's network namespace. Raises OSError."""
    socket = NetlinkSocket(NETFILTER)
    try:
        return [forward for family in IPFamily for forward in Layout(family).forwards(socket)]
    finally:
        socket.close()


def remove() -> None:
    """Remove both tables from the calling thread's network namespace. Idempotent."""
    connection = Nftables()
    try:
        tables = [Table(family, TABLE) for family in IPFamily]
        connection.commit([message for table in tables for message in (table.create(), table.delete())])
    finally:
        connection.close()
