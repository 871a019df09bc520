"""When a range of Service addresses may go: nobody's address may be left without one (KEP-1880). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.api.networking import ServiceCIDR
from twinstack.ip import CIDR, Address, IPFamily


def is_covered(cidr: ServiceCIDR, others: Iterable[ServiceCIDR]) -> bool:
    """Whether every block of `cidr` lies in a block of one that stays: then its addresses are of no matter."""
    kept = [block for other in _staying(cidr, others) for block in blocks(other)]
    return all(any(other.covers(block) for other in kept) for block in blocks(cidr))


def stranded(cidr: ServiceCIDR, others: Iterable[ServiceCIDR], addresses: Iterable[Address]) -> list[Address]:
    """The addresses that lie in `cidr` and in no range that stays."""
    own = blocks(cidr)
    kept = [block for other in _staying(cidr, others) for block in blocks(other)]
    return [address for address in addresses if _is_in(address, own) and not _is_in(address, kept)]


def blocks(cidr: ServiceCIDR) -> list[CIDR]:
    return [CIDR.parse(text) for text in cidr.spec.cidrs]


def _staying(cidr: ServiceCIDR, others: Iterable[ServiceCIDR]) -> Iterable[ServiceCIDR]:
    return (
        other
        for other in others
        if other.metadata.name != cidr.metadata.name and other.metadata.deletion_timestamp is None
    )


def _is_in(address: Address, ranges: Iterable[CIDR]) -> bool:
    """A block's first address, and the last one of IPv4, is never given to a Service."""
    return any(
        block.contains(address)
        and address != block.first
        and not (block.family is IPFamily.IPV4 and address == block.last)
        for block in ranges
    )
