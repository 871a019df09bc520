"""Which pod has which addresses: one a family, out of the node's podCIDRs, kept on disk.

A lease is a file named by the pod's uid, written before the address is used and removed after the pod's
network is gone. A machine that crashes loses its pods' networks with it, so the files are not synced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from twinstack.ip import CIDR, Address, IPFamily
from twinstack.ip.allocator import AddressPool


class NoFreeAddress(Exception):
    """A podCIDR is used up."""


class Leases:
    """The leases below one directory. Not safe for several threads at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pools: dict[IPFamily, AddressPool] = {}
        directory.mkdir(parents=True, exist_ok=True)
        self._leases = {name: _read(directory / name) for name in os.listdir(directory) if not name.endswith(".new")}

    def configure(self, cidrs: Sequence[CIDR]) -> None:
        """Give from these blocks, primary family first. Leases out of other blocks stay valid."""
        self._pools = {cidr.family: AddressPool(cidr) for cidr in cidrs}
        for addresses in self._leases.values():
            for address in addresses:
                pool = self._pools.get(address.family)
                if pool is not None and pool.cidr.contains(address):
                    pool.occupy(address)

    def get(self, pod_uid: str) -> list[Address]:
        """The pod's addresses; empty when it has none."""
        return self._leases.get(pod_uid, [])

    def take(self, pod_uid: str) -> list[Address]:
        """The pod's addresses, now leased if they were not. Raises NoFreeAddress; then nothing is leased."""
        known = self._leases.get(pod_uid)
        if known:
            return known
        taken: list[Address] = []
        for family, pool in self._pools.items():
            address = pool.allocate()
            if address is None:
                self._release(taken)
                raise NoFreeAddress(f"no free {family} address is left in {pool.cidr}")
            taken.append(address)
        temporary = self._directory / f"{pod_uid}.new"
        temporary.write_text("\n".join(map(str, taken)))
        temporary.rename(self._directory / pod_uid)
        self._leases[pod_uid] = taken
        return taken

    def give_back(self, pod_uid: str) -> None:
        """End a lease. Idempotent."""
        (self._directory / pod_uid).unlink(missing_ok=True)
        self._release(self._leases.pop(pod_uid, []))

    def holders(self) -> list[str]:
        """The uids of all pods with a lease."""
        return list(self._leases)

    def _release(self, addresses: list[Address]) -> None:
        for address in addresses:
            pool = self._pools.get(address.family)
            if pool is not None:
                pool.release(address)


def _read(path: Path) -> list[Address]:
    return [Address.parse(line) for line in path.read_text().split()]
