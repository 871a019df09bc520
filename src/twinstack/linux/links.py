"""Links, addresses, routes and neighbours as rtnetlink messages (rtnetlink(7)); sending is the socket's."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux.netlink import CREATE, EXCL, REPLACE, Reply, attr, attributes, i32, message, nest, text, u8, u32

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH = 28

GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS = 0x1, 0x10, 0x100

UP = 1  # IFF_UP
LOOPBACK = 1  # the index of lo in every namespace

_NODAD = 0x02  # IFA_F_NODAD: without it bind() waits one to two seconds for duplicate detection
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_TABLE_MAIN, _UNICAST, _LOCAL = 254, 1, 2
STATIC = 4  # RTPROT_STATIC: who put a route there, if nobody wants to find it again
_ONLINK = 4
_PERMANENT = 0x80
SEND_REDIRECTS, RP_FILTER = 6, 8  # IPV4_DEVCONF_…
_SEGMENTS = (41, 63)  # IFLA_GSO_MAX_SIZE, of IPv6; IFLA_GSO_IPV4_MAX_SIZE
USUAL_SEGMENT = 64 << 10
LONGEST_SEGMENT = 192 << 10
JUMBO_OPTION = 8  # bytes that longer segments have more in IPv6: a router counts them to each of their packets


def _ifinfo(index: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=BBHiII", 0, 0, 0, index, flags, flags)


def link_up(index: int) -> bytes:
    return message(NEWLINK, 0, _ifinfo(index, UP))


def delete_link(index: int) -> bytes:
    return message(DELLINK, 0, _ifinfo(index))


def delete_link_named(name: str) -> bytes:
    """Refused with ENODEV when there is none."""
    return message(DELLINK, 0, _ifinfo() + text(3, name))


def change(index: int, alias: str, ipv4: Mapping[int, int]) -> bytes:
    """Write a line of up to 255 bytes on a link, for whoever wants to know what it is (IFLA_IFALIAS), and set its
    parameters of net/ipv4/conf (IFLA_INET_CONF)."""
    body = _ifinfo(index) + text(20, alias)
    if ipv4:
        parameters = nest(1, *(u32(number, value) for number, value in ipv4.items()))
        body += nest(26, nest(socket.AF_INET, parameters))
    return message(NEWLINK, 0, body)


class Peer(NamedTuple):
    """The far end of a veth pair, in the namespace of an open descriptor. It must be brought up there.

    `ifindex` 0 lets the kernel choose.
    """

    namespace: int
    name: str
    ifindex: int
    mac: bytes | None = None


def veth(
    name: str,
    peer: Peer,
    *,
    index: int = 0,
    mac: bytes | None = None,
    master: int = 0,
    mtu: int | None = None,
    segment: int | None = None,
) -> bytes:
    """Create a veth pair, the near end up. `index` 0 lets the kernel choose.

    `mtu` and `segment` are of both ends; a segment is what TCP gives to the link in one piece ("BIG TCP", Linux 6.3;
    an older kernel does not mind). See `JUMBO_OPTION`.
    """
    both = u32(4, mtu) if mtu is not None else b""
    if segment is not None:
        both += b"".join(u32(kind, segment) for kind in _SEGMENTS)
    far = _ifinfo(peer.ifindex) + text(3, peer.name) + i32(28, peer.namespace) + both
    if peer.mac is not None:
        far += attr(1, peer.mac)
    body = _ifinfo(index, UP) + text(3, name) + both
    if mac is not None:
        body += attr(1, mac)
    if master:
        body += u32(10, master)
    return message(NEWLINK, CREATE | EXCL, body + nest(18, text(1, "veth"), nest(2, attr(1, far))))


def bridge(name: str, index: int = 0) -> bytes:
    """Create a bridge, up, that learns no multicast and runs no spanning tree."""
    options = nest(2, u8(23, 0))  # IFLA_BR_MCAST_SNOOPING
    return message(NEWLINK, CREATE | EXCL, _ifinfo(index, UP) + text(3, name) + nest(18, text(1, "bridge"), options))


def of_kind(name: str, kind: str) -> bytes:
    """Create an interface of a kind that needs no options. Refused with EOPNOTSUPP where the kernel lacks it."""
    return message(NEWLINK, CREATE | EXCL, _ifinfo() + text(3, name) + nest(18, text(1, kind)))


def add_address(index: int, address: Address, prefix: int) -> bytes:
    """Idempotent. IPv6 addresses skip duplicate detection."""
    flags = _NODAD if address.family is IPFamily.IPV6 else 0
    body = struct.pack("=BBBBi", address.family.af, prefix, flags, _SCOPE_UNIVERSE, index)
    return message(NEWADDR, CREATE | REPLACE, body + attr(2, address.packed) + attr(1, address.packed))


def _route(
    kind: int, flags: int, family: IPFamily, prefix: int, protocol: int, scope: int, route_flags: int, parts: bytes
) -> bytes:
    head = struct.pack("=BBBBBBBBI", family.af, prefix, 0, 0, _TABLE_MAIN, protocol, scope, _UNICAST, route_flags)
    return message(kind, flags, head + parts)


def add_route(
    destination: CIDR | None,
    index: int,
    *,
    family: IPFamily,
    via: Address | None = None,
    protocol: int = STATIC,
    mtu: int | None = None,
) -> bytes:
    """Idempotent. No destination is the default route; a `via` of the other family is RTA_VIA (Linux 5.2).

    With index 0 the kernel finds the link that leads to `via`. `protocol` marks the route's owner.
    """
    scope = _SCOPE_LINK if via is None and family is IPFamily.IPV4 else _SCOPE_UNIVERSE
    body = attr(1, destination.first.packed) if destination is not None else b""
    flags = 0
    if via is not None and via.family is family:
        body += attr(5, via.packed)
    elif via is not None:
        body += attr(18, struct.pack("=H", via.family.af) + via.packed)
        flags = _ONLINK
    if index:
        body += i32(4, index)
    if mtu is not None:
        body += attr(8, u32(2, mtu))  # RTA_METRICS
    prefix = destination.prefix if destination is not None else 0
    return _route(NEWROUTE, CREATE | REPLACE, family, prefix, protocol, scope, flags, body)


def delete_route(destination: CIDR, *, protocol: int = 0) -> bytes:
    """Refused with ESRCH when there is none; a `protocol` other than 0 spares routes of other owners."""
    body = attr(1, destination.first.packed)
    return _route(DELROUTE, 0, destination.family, destination.prefix, protocol, 255, 0, body)


def add_neighbour(index: int, address: Address, mac: bytes) -> bytes:
    """Permanent, hence exempt from the machine-wide limit on learned neighbours."""
    body = struct.pack("=BBHiHBB", address.family.af, 0, 0, index, _PERMANENT, 0, 0)
    return message(NEWNEIGH, CREATE | REPLACE, body + attr(1, address.packed) + attr(2, mac))


class Link(NamedTuple):
    """One row of `ip link`."""

    ifindex: int
    name: str
    mtu: int
    mac: bytes = b""
    alias: str = ""
    is_up: bool = False
    segment: int | None = None  # see `veth`; None from a kernel that has the usual one only


def link_list() -> tuple[int, bytes]:
    """What to dump for all links."""
    return GETLINK, _ifinfo()


def link(index: int) -> tuple[int, bytes]:
    """What to get for one link.

    Asking also settles its state (Linux 6.8): a link whose far end has just come up drops packets, and has no
    link-local address, until the kernel has got round to noticing, which can take a second.
    """
    return GETLINK, _ifinfo(index)


def link_named(name: str) -> tuple[int, bytes]:
    """What to get for one link. Refused with ENODEV when there is none."""
    return GETLINK, _ifinfo() + text(3, name)


def read_link(reply: Reply) -> Link:
    _, _, _, index, flags = struct.unpack_from("=BBHiI", reply.body)
    found = dict(attributes(reply.body, 16))
    mtu, ipv6, ipv4 = (struct.unpack("=I", found[kind])[0] if kind in found else None for kind in (4, *_SEGMENTS))
    segment = None if ipv6 is None or ipv4 is None else min(ipv6, ipv4)
    name, alias = (found.get(kind, b"").rstrip(b"\0").decode(errors="replace") for kind in (3, 20))
    return Link(index, name, mtu or 0, found.get(1, b""), alias, bool(flags & UP), segment)


class InterfaceAddress(NamedTuple):
    """One row of `ip address`."""

    ifindex: int
    address: Address
    prefix: int


def address_list() -> tuple[int, bytes]:
    """What to dump for all addresses of both families."""
    return GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0)


def read_address(reply: Reply) -> InterfaceAddress | None:
    """None for families other than IPv4 and IPv6."""
    family, prefix, _, _, index = struct.unpack_from("=BBBBi", reply.body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = dict(attributes(reply.body, 8))
    packed = found.get(2, found.get(1))  # IFA_LOCAL, which IPv6 leaves out, then IFA_ADDRESS
    return InterfaceAddress(index, Address.from_packed(packed), prefix) if packed else None


class Route(NamedTuple):
    """One row of `ip route`, main table only."""

    destination: CIDR
    ifindex: int
    via: Address | None
    protocol: int


def route_list(family: IPFamily) -> tuple[int, bytes]:
    """What to dump for the routes of a family."""
    return GETROUTE, struct.pack("=BBBBBBBBI", family.af, 0, 0, 0, 0, 0, 0, 0, 0)


def route_to(address: Address) -> tuple[int, bytes]:
    """What to get for the route that a packet to an address takes. Refused with ENETUNREACH when there is none."""
    body = struct.pack("=BBBBBBBBI", address.family.af, address.family.bits, 0, 0, 0, 0, 0, 0, 0)
    return GETROUTE, body + attr(1, address.packed)


def is_local(reply: Reply) -> bool:
    """Whether the route of `route_to` leads to this namespace itself."""
    return reply.body[7] == _LOCAL


def read_way_out(reply: Reply) -> int:
    """The index of the link by which the route of `route_to` leaves."""
    return int(struct.unpack("=i", dict(attributes(reply.body, 12))[4])[0])


def read_route(reply: Reply) -> Route | None:
    """None for routes outside the main table."""
    af, prefix, _, _, table, protocol, _, kind, _ = struct.unpack_from("=BBBBBBBBI", reply.body)
    if table != _TABLE_MAIN or kind != _UNICAST:
        return None
    family = IPFamily.IPV4 if af == socket.AF_INET else IPFamily.IPV6
    found = dict(attributes(reply.body, 12))
    network = int.from_bytes(found[1], "big") if 1 in found else 0
    index = struct.unpack("=i", found[4])[0] if 4 in found else 0
    via = Address.from_packed(found[5]) if 5 in found else None
    if via is None and 18 in found:
        via = Address.from_packed(found[18][2:])
    return Route(CIDR(family, network, prefix), index, via, protocol)
