"""Stand-ins for allocation in dry runs: what a client sees is the same every time, and nothing is held.

As upstream, a dry run gives the first address of a range and a node port outside the range, both plainly not
the ones a real write would choose, and it does not notice that a static address is taken. Unlike there, a
static address may be in any of several ranges.
"""

from __future__ import annotations

from twinstack.ip import Address, IPFamily
from twinstack.server.strategy import service_addresses, service_ports

_BEFORE_FIRST_PORT = 32768


class RehearsedAddresses(service_addresses.AddressPlan):
    """Takes nothing: `taken` stays empty."""

    def take(self, address: Address) -> None:
        blocks = [r.cidr for r in self.ranges if r.cidr.family is address.family]
        if not any(block.contains(address) for block in blocks):
            valid = ", ".join(map(str, blocks))
            raise service_addresses.RefusedError(
                f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {valid}"
            )

    def take_any(self, family: IPFamily) -> Address | None:
        return next((r.cidr.first for r in self.ranges if r.cidr.family is family), None)


class RehearsedPorts(service_ports.PortPlan):
    """Notices what is taken, but not what is outside the range."""

    def take(self, port: int) -> None:
        if self.is_taken(port):
            raise service_ports.RefusedError("provided port is already allocated")
        self.taken.add(port)

    def take_any(self) -> int:
        port = max(self.taken, default=_BEFORE_FIRST_PORT) + 1
        self.taken.add(port)
        return port
