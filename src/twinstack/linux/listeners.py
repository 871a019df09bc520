"""Sockets that wait for peers, as the kernel lists them (sock_diag(7), linux/inet_diag.h)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from twinstack.ip import Address, IPFamily
from twinstack.linux import netlink
from twinstack.linux.links import LOOPBACK

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP

_DIAG = 4  # netlink protocol
_BY_FAMILY = 20
_V6ONLY = 11  # INET_DIAG_SKV6ONLY
_WAITING = {TCP: 1 << 10, UDP: 1 << 7}  # TCP_LISTEN; TCP_CLOSE: a UDP socket without a peer
_REQUEST = struct.Struct("=BBBBI48x")
_ID = 4  # offset of inet_diag_sockid
_ATTRIBUTES = 72  # their offset
_MAPPED = 0xFFFF << 32
_BUFFER = 1 << 20


class Listener(NamedTuple):
    """A bound socket; `address` 0 is the wildcard. `device`: the index of the only link it hears, 0 for all."""

    protocol: int
    port: int
    address: Address
    only_ipv6: bool = False
    device: int = 0

    def accepts(self, address: Address) -> bool:
        """Whether a packet to this address, one of a link other than the loopback, reaches it."""
        if self.device == LOOPBACK:
            return False
        if address.family is self.address.family:
            return self.address.value in (0, address.value)
        if self.address.family is IPFamily.IPV4 or self.only_ipv6:
            return False
        return self.address.value in (0, _MAPPED | address.value)


class ListenerReader:
    """Reads those of the network namespace of the thread that makes it. Close it."""

    def __init__(self) -> None:
        self._socket = netlink.NetlinkSocket(_DIAG, buffer=_BUFFER)

    def read(self, protocols: Iterable[int]) -> list[Listener]:
        """All of these protocols (TCP, UDP) in both families. Raises OSError; ENOENT if the kernel cannot tell."""
        found = []
        for protocol in protocols:
            for family in IPFamily:
                body = _REQUEST.pack(family.af, protocol, 0, 0, _WAITING[protocol])
                replies = self._socket.dump(_BY_FAMILY, body)
                found += [_listener(protocol, family, reply.body) for reply in replies]
        return found

    def close(self) -> None:
        self._socket.close()


def _listener(protocol: int, family: IPFamily, body: bytes) -> Listener:
    """Of an inet_diag_msg."""
    (port,) = struct.unpack_from(">H", body, _ID)
    (device,) = struct.unpack_from("=I", body, _ID + 36)
    address = Address.from_packed(body[_ID + 4 : _ID + 4 + family.octets])
    only = any(kind == _V6ONLY and value[:1] == b"\1" for kind, value in netlink.attributes(body, _ATTRIBUTES))
    return Listener(protocol, port, address, only, device)
