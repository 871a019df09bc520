"""Listening sockets, in the process's own network namespace and inside a cluster's."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from twinstack.ip import Address, IPFamily
from twinstack.linux import namespaces

_IP_FREEBIND = 15  # linux/in.h
_IPV6_FREEBIND = 78  # linux/in6.h

# A peer that vanished is noticed after 60 s of silence and 4 probes, so its watches do not stay for ever.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)

_ADVICE = {
    errno.EADDRINUSE: "stop what listens there, or choose another --secure-port",
    errno.EADDRNOTAVAIL: "choose a --bind-address that this machine has",
    errno.EACCES: "choose a --secure-port from 1024 on, or start it as root",
}


def own_listeners(address: Address | None, port: int) -> list[socket.socket]:
    """A socket on `address`; None means every address of both families. Raises OSError."""
    if address is not None:
        return [_bound(address, port)]
    try:
        return [_bound(Address(IPFamily.IPV6, 0), port)]
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return [_bound(Address(IPFamily.IPV4, 0), port)]  # a kernel without IPv6


def namespace_listeners(path: str, addresses: Sequence[Address], port: int) -> list[socket.socket]:
    """Sockets on `addresses` inside the network namespace at `path`; they stay there. Raises OSError."""
    return namespaces.inside(path, lambda: [_bound(address, port, early=True) for address in addresses])


def _bound(address: Address, port: int, *, early: bool = False) -> socket.socket:
    """`::` takes IPv4 as well. With `early` the address need not be there or usable yet."""
    listener = socket.socket(address.family.af, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for level, option, value in _KEEPALIVE:
            listener.setsockopt(level, option, value)
        if address.family is IPFamily.IPV6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.value != 0))
        if early:
            level, option = (
                (socket.IPPROTO_IP, _IP_FREEBIND)
                if address.family is IPFamily.IPV4
                else (socket.IPPROTO_IPV6, _IPV6_FREEBIND)
            )
            listener.setsockopt(level, option, 1)
        listener.bind((str(address), port))
    except OSError as error:
        listener.close()
        advice = _ADVICE.get(error.errno or 0, "choose another --bind-address")
        raise OSError(error.errno, f"listen on {endpoint(address, port)}: {error.strerror}; {advice}") from error
    return listener


def endpoint(address: Address, port: int) -> str:
    """`10.0.0.1:6443`, `[fd00::1]:6443`."""
    return f"[{address}]:{port}" if address.family is IPFamily.IPV6 else f"{address}:{port}"


def own_address(family: IPFamily) -> Address | None:
    """The address that this machine uses towards the world, or None when it has no route in the family."""
    probe = "192.0.2.1" if family is IPFamily.IPV4 else "2001:db8::1"  # documentation ranges; nothing is sent
    with socket.socket(family.af, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((probe, 9))
        except OSError:
            return None
        return Address.parse(sock.getsockname()[0])
