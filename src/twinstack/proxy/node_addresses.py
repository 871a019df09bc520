"""The addresses of this node's interfaces, followed through rtnetlink: what --nodeport-addresses selects from."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import links
from twinstack.linux.netlink import ROUTE, DumpInterrupted, NetlinkSocket

_LOOPBACK = {IPFamily.IPV4: CIDR.parse("127.0.0.0/8"), IPFamily.IPV6: CIDR.parse("::1/128")}
_LINK_LOCAL = CIDR.parse("fe80::/10")
_ATTEMPTS = 10

log = logging.getLogger(__name__)


def selected(addresses: Iterable[Address], blocks: tuple[CIDR, ...], family: IPFamily) -> frozenset[Address]:
    """The addresses of the family inside the blocks; without a block of the family, all of it.

    Never loopback: NodePorts do not answer there (as in kube-proxy's nftables mode); nor IPv6 link-local,
    which the same address on two interfaces would make ambiguous.
    """
    mine = [block for block in blocks if block.family is family]
    return frozenset(
        address
        for address in addresses
        if address.family is family
        and not _LOOPBACK[family].contains(address)
        and not _LINK_LOCAL.contains(address)
        and (not mine or any(block.contains(address) for block in mine))
    )


class NodeAddresses:
    """All addresses in the namespace; `changed` is called when they are others than before."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.current: frozenset[Address] = frozenset()
        self._changed = changed
        groups = links.GROUP_IPV4_ADDRESS | links.GROUP_IPV6_ADDRESS
        self._events = NetlinkSocket(ROUTE, groups)
        self._requests = NetlinkSocket(ROUTE)

    def start(self) -> None:
        """Read the addresses, and follow them in the running loop."""
        self.current = self._read()
        asyncio.get_running_loop().add_reader(self._events.fileno(), self._notified)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._events.fileno())
        self._events.close()
        self._requests.close()

    def _notified(self) -> None:
        """An event says only that it is worth reading again; a lost one (ENOBUFS) says the same."""
        try:
            self._events.receive()
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        found = self._read()
        if found != self.current:
            self.current = found
            self._changed()

    def _read(self) -> frozenset[Address]:
        for _ in range(_ATTEMPTS):
            try:
                replies = self._requests.dump(*links.address_list())
            except DumpInterrupted:
                continue
            rows = (links.read_address(reply) for reply in replies)
            return frozenset(row.address for row in rows if row is not None)
        raise DumpInterrupted
