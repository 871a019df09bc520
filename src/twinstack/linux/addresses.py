"""When an address that was added may be used."""

from __future__ import annotations

import time
from collections.abc import Iterable

from twinstack.ip import Address, IPFamily
from twinstack.linux import links
from twinstack.linux.netlink import NetlinkSocket

PATIENCE = 10.0  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 0.00005, 0.005  # seconds; each is twice the one before


def settle(route: NetlinkSocket, addresses: Iterable[Address]) -> None:
    """Wait until packets to addresses of the socket's namespace are taken in there.

    The kernel acknowledges an IPv6 address first and gives it its route afterwards, from a work queue, even without
    duplicate detection: mostly at once, on a busy machine some 20 ms later. Packets that come earlier are lost or
    refused, and whoever sent them tries again a second later. Raises OSError, TimeoutError among them.
    """
    end = time.monotonic() + PATIENCE
    for address in addresses:
        if address.family is IPFamily.IPV6:
            pause = _FIRST_PAUSE
            while not _is_taken_in(route, address):
                if time.monotonic() > end:
                    raise TimeoutError(f"the kernel does not take packets to {address}")
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)


def _is_taken_in(route: NetlinkSocket, address: Address) -> bool:
    try:
        return links.is_local(route.get(*links.route_to(address)))
    except OSError:  # no route at all yet
        return False
