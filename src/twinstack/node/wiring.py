"""A container's link to its node: a veth pair without a bridge, one way out for both families.

```
  container                                        node
  eth0  10.244.1.2/32, fd00:10:244:1::2/128        twXXXXXXXX  fe80::1/64
        default via fe80::1 (both families)  <-->  10.244.1.2 dev twXXXXXXXX, fd00:10:244:1::2 dev twXXXXXXXX
```

IPv4 has an IPv6 next hop (RFC 5549; RTA_VIA, Linux 5.2), so no address of the block is spent on a gateway.
Neighbours are permanent on both sides: nothing is resolved, and the machine-wide limit on learned neighbours
does not count them. Duplicate address detection is off, since it holds bind() back for over a second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import addresses, links, netlink

GATEWAY = Address.parse("fe80::1")
GATEWAY_MAC = bytes.fromhex("0a5800000001")
_ETHERNET_MTU = 1500  # of links that are given none


class Inside(NamedTuple):
    """A network namespace: a descriptor of it and a socket in it."""

    namespace: int
    route: netlink.NetlinkSocket

    @classmethod
    def open(cls) -> Inside:
        """The calling thread's."""
        descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        return cls(descriptor, netlink.NetlinkSocket(netlink.ROUTE))

    def close(self) -> None:
        os.close(self.namespace)
        self.route.close()


class Cable(NamedTuple):
    """What the two ends are called and have. An index of 0 lets the kernel choose."""

    name: str  # on the node
    interface: str  # in the container
    mac: bytes  # in the container
    addresses: Sequence[Address]
    mtu: int | None = None
    segment: int | None = None  # see `links.veth`; None: the kernel's default
    link_index: int = 0
    interface_index: int = 0
    alias: str = ""  # on the node
    ipv4: Mapping[int, int] = {}  # parameters of the end on the node, which has an alias (see `links.change`)
    routes: Sequence[CIDR] | None = None  # by way of the node; None: everything


def plug(node: netlink.NetlinkSocket, inside: Inside, cable: Cable) -> None:
    """Lay the cable; it carries packets when this returns.

    Raises OSError. Then a pair may be left: whoever removes either end, or the namespace, removes both.
    """
    peer = links.Peer(inside.namespace, cable.interface, cable.interface_index, cable.mac)
    pair = links.veth(cable.name, peer, index=cable.link_index, mac=GATEWAY_MAC, mtu=cable.mtu, segment=cable.segment)
    node.request([pair])
    index = cable.link_index or node.index_of(cable.name)
    far = cable.interface_index or inside.route.index_of(cable.interface)
    inside.route.request(_inside(far, cable))
    node.request(_on_node(index, cable))
    node.get(*links.link(index))  # from now on it carries packets
    addresses.settle(inside.route, cable.addresses)


def _inside(index: int, cable: Cable) -> list[bytes]:
    messages = [links.link_up(links.LOOPBACK), links.link_up(index)]
    messages += [links.add_address(index, address, address.family.bits) for address in cable.addresses]
    ways = [default_route(each.family) for each in cable.addresses] if cable.routes is None else cable.routes
    for to in ways:
        mtu = _ipv6_mtu(cable) if to.family is IPFamily.IPV6 else None
        messages.append(links.add_route(to, index, family=to.family, via=GATEWAY, mtu=mtu))
    messages.append(links.add_neighbour(index, GATEWAY, GATEWAY_MAC))
    return messages


def _ipv6_mtu(cable: Cable) -> int | None:
    """Where segments are longer than usual, packets leave room for what the node's routing counts to them."""
    if cable.segment is None or cable.segment <= links.USUAL_SEGMENT:
        return None
    return (cable.mtu or _ETHERNET_MTU) - links.JUMBO_OPTION


def _on_node(index: int, cable: Cable) -> list[bytes]:
    messages = [links.add_address(index, GATEWAY, 64)]
    if cable.alias:
        messages.append(links.change(index, cable.alias, cable.ipv4))
    for address in cable.addresses:
        messages.append(links.add_route(alone(address), index, family=address.family))
        messages.append(links.add_neighbour(index, address, cable.mac))
    return messages


def alone(address: Address) -> CIDR:
    """The block that holds this address and no other."""
    return CIDR(address.family, address.value, address.family.bits)


def default_route(family: IPFamily) -> CIDR:
    """0.0.0.0/0 or ::/0."""
    return CIDR(family, 0, 0)
