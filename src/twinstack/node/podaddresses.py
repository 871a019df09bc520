"""The addresses of a node's pods on its built-in network: one a family, out of the node's podCIDRs.

They are in a table of leases (see `leases`), each recorded before its addresses are used and ended after the pod's
network is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twinstack.ip import CIDR, Address
from twinstack.node.cni.ranges import RangeSet
from twinstack.node.leases import Holder, Lease, Leases, locked

INTERFACE = "eth0"  # of every pod


class NoFreeAddress(Exception):
    """A podCIDR is used up."""


class PodAddresses:
    """The leases below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sets: list[RangeSet] = []
        directory.mkdir(parents=True, exist_ok=True)

    def configure(self, cidrs: Sequence[CIDR]) -> None:
        """Give from these blocks, primary family first. Leases out of other blocks stay valid."""
        self._sets = [RangeSet.whole(cidr) for cidr in cidrs]

    def get(self, pod_uid: str) -> list[Address]:
        """The pod's addresses; empty when it has none."""
        return _addresses(Leases(self._directory), pod_uid)

    def take(self, pod_uid: str) -> list[Address]:
        """The pod's addresses, one of each family; those that it lacks are leased now.

        Raises NoFreeAddress; then nothing more is leased than was before.
        """
        with locked(self._directory) as leases:
            known = _addresses(leases, pod_uid)
            lacking = [each for each in self._sets if all(address.family is not each.family for address in known)]
            if lacking:
                last = leases.last()
                taken = [_choose(each, leases, last) for each in lacking]
                families = [each.family for each in self._sets]
                given = [address for family in families for address in known + taken if address.family is family]
                known = given + [address for address in known if address not in given]
                leases.record(Lease(Holder(pod_uid, INTERFACE), tuple(known)), {})
                leases.remember_last(known)
            return known

    def give_back(self, pod_uid: str) -> None:
        """End a lease. Idempotent."""
        with locked(self._directory) as leases:
            leases.forget(Holder(pod_uid, INTERFACE))

    def holders(self) -> list[str]:
        """The uids of all pods with a lease."""
        return [lease.holder.container for lease in Leases(self._directory)]


def _addresses(leases: Leases, pod_uid: str) -> list[Address]:
    lease = leases.get(Holder(pod_uid, INTERFACE))
    return list(lease.addresses) if lease is not None else []


def _choose(ranges: RangeSet, leases: Leases, last: Sequence[Address]) -> Address:
    address = ranges.choose_free(leases.taken, last)
    if address is None:
        raise NoFreeAddress(f"no free {ranges.family} address is left in {ranges}")
    return address
