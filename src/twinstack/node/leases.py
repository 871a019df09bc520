"""Which pod has which addresses: one a family, out of the node's podCIDRs, kept on disk.

A lease is a file named by the pod's uid, one address a line, written before the addresses are used and removed
after the pod's network is gone. An agent that is killed half-way leaves a short file, and no network yet. A
machine that crashes loses its pods' networks with it, so the files are not synced.
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
        self._leases = {name: _read(directory / name) for name in os.listdir(directory)}

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
        """The pod's addresses, one of each family; those that it lacks are leased now.

        Raises NoFreeAddress; then nothing more is leased than was before.
        """
        known = self._leases.get(pod_uid, [])
        taken: list[Address] = []
        for family, pool in self._pools.items():
            if any(address.family is family for address in known):
                continue
            address = pool.allocate()
            if address is None:
                self._release(taken)
                raise NoFreeAddress(f"no free {family} address is left in {pool.cidr}")
            taken.append(address)
        if taken:
            families = list(self._pools)
            known = sorted(known + taken, key=lambda address: families.index(address.family))
            (self._directory / pod_uid).write_text("".join(f"{address}\n" for address in known))
            self._leases[pod_uid] = known
        return known

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
    """Only whole lines count."""
    return [Address.parse(line.strip()) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
