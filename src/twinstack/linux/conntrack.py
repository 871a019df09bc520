"""Connection tracking (linux/netfilter/nfnetlink_conntrack.h): list flows by where they went, and forget them.

The kernel filters the list, so the cost of finding a Service's flows is that of walking its table, not of
reading all of it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from typing import NamedTuple

from twinstack.ip import Address, IPFamily
from twinstack.linux.netlink import (
    NETFILTER,
    DumpInterrupted,
    NetlinkError,
    NetlinkSocket,
    attr,
    attributes,
    be16,
    message,
    nest,
    u8,
    u32,
)

_GET, _DELETE = 0x101, 0x102
_ORIGINAL, _REPLY, _ID, _FILTER = 1, 2, 12, 25
_BY_DESTINATION, _BY_PROTOCOL, _BY_PORT = 1 << 1, 1 << 3, 1 << 5  # fields of the original tuple to filter by


class Tuple(NamedTuple):
    """One direction of a flow."""

    protocol: int
    source: Address
    source_port: int
    destination: Address
    destination_port: int


class Flow(NamedTuple):
    """An entry: what the client sent, and what is expected back. They mirror each other unless NAT is done."""

    original: Tuple
    reply: Tuple
    id: bytes


def _header(family: IPFamily) -> bytes:
    return bytes((family.af, 0, 0, 0))


def flows(
    socket: NetlinkSocket,
    family: IPFamily,
    protocol: int,
    *,
    destination: Address | None = None,
    port: int | None = None,
) -> list[Flow]:
    """The flows of a protocol, to an original destination address and port where given.

    Raises DumpInterrupted when the table cannot be listed in one go.
    """
    flags = _BY_PROTOCOL
    addresses, ports = b"", u8(1, protocol)
    if destination is not None and family is IPFamily.IPV4:  # Linux 6.18 takes IPv6 addresses that differ for equal
        flags |= _BY_DESTINATION
        addresses = attr(2, destination.packed)
    if port is not None:
        flags |= _BY_PORT
        ports += be16(3, port)
    wanted = nest(_ORIGINAL, nest(1, addresses), nest(2, ports))
    body = _header(family) + wanted + nest(_FILTER, u32(1, flags), u32(2, 0))
    for _ in range(5):
        try:
            found = [_flow(reply.body) for reply in socket.dump(_GET, body)]
            return [flow for flow in found if destination is None or flow.original.destination == destination]
        except DumpInterrupted:
            continue
    raise DumpInterrupted


def forget(socket: NetlinkSocket, family: IPFamily, doomed: Iterable[Flow]) -> int:
    """Delete flows; returns how many were still there."""
    deleted = 0
    for flow in doomed:
        body = _header(family) + _tuple_attribute(flow.original) + attr(_ID, flow.id)
        try:
            socket.request([message(_DELETE, 0, body)])
            deleted += 1
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
    return deleted


def open_socket() -> NetlinkSocket:
    """A socket for the functions above, in the network namespace of the calling thread."""
    return NetlinkSocket(NETFILTER)


def _tuple_attribute(flow: Tuple) -> bytes:
    first = 1 if flow.source.family is IPFamily.IPV4 else 3
    addresses = nest(1, attr(first, flow.source.packed), attr(first + 1, flow.destination.packed))
    ports = nest(2, u8(1, flow.protocol), be16(2, flow.source_port), be16(3, flow.destination_port))
    return nest(_ORIGINAL, addresses, ports)


def _flow(body: bytes) -> Flow:
    found = dict(attributes(body, 4))
    return Flow(_tuple(found[_ORIGINAL]), _tuple(found[_REPLY]), found.get(_ID, b""))


def _tuple(data: bytes) -> Tuple:
    parts = dict(attributes(data))
    addresses = [Address.from_packed(value) for _, value in sorted(attributes(parts[1]))]
    ports = dict(attributes(parts[2]))
    source, destination = (struct.unpack(">H", ports[kind])[0] if kind in ports else 0 for kind in (2, 3))
    return Tuple(ports[1][0], addresses[0], source, addresses[1], destination)
