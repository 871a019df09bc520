"""Our own addresses: given out of a network's ranges, one a family, and taken back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from twinstack.ip import Address
from twinstack.linux import links, namespaces, netlink
from twinstack.node.cni import portmappings
from twinstack.node.cni.configuration import NAME, Configuration
from twinstack.node.cni.errors import ALREADY_ADDED, INVALID_CONFIGURATION, NO_FREE_ADDRESS, CniError
from twinstack.node.cni.invocation import Invocation
from twinstack.node.cni.ranges import RangeSet
from twinstack.node.cni.results import IP
from twinstack.node.leases import Holder, Lease, Leases, Note, locked


def directory(configuration: Configuration) -> Path:
    """Of the network's leases."""
    return configuration.data / configuration.name


def take(configuration: Configuration, call: Invocation, note: Note) -> list[IP]:
    """Lease an address of each set, in their order; with the subnets' prefixes and gateways.

    Raises CniError; then nothing is leased in any family.
    """
    if not configuration.sets:
        raise CniError(INVALID_CONFIGURATION, "no IP ranges specified")
    for address in configuration.requested:
        if address.family not in {ranges.family for ranges in configuration.sets}:
            raise CniError(INVALID_CONFIGURATION, f"requested address {address} is not of a family of the network")
    holder = Holder(call.container, call.interface)
    with locked(directory(configuration), lambda: find_in_use(configuration)) as leases:
        refuse_second(leases, holder, configuration.name)
        found = [_choose(each, leases, configuration) for each in configuration.sets]
        leases.record(Lease(holder, tuple(found)), note)
        leases.remember_last(found)
    return [_described(address, each) for address, each in zip(found, configuration.sets, strict=True)]


def refuse_second(leases: Leases, holder: Holder, network: str) -> None:
    """Raises CniError for a holder that has been added already."""
    lease = leases.get(holder)
    if lease is not None:
        text = f"{', '.join(map(str, lease.addresses))} of network {network}"
        raise CniError(ALREADY_ADDED, f"{holder.interface} of container {holder.container} has been added", text)


def _choose(ranges: RangeSet, leases: Leases, configuration: Configuration) -> Address:
    family = ranges.family
    requested = next((address for address in configuration.requested if address.family is family), None)
    if requested is None:
        chosen = ranges.choose_free(leases.taken, leases.last())
        if chosen is None:
            text = f"network {configuration.name}"
            raise CniError(NO_FREE_ADDRESS, f"no free {family} address is left in {ranges}", text)
        return chosen
    if ranges.range_of(requested) is None:
        raise CniError(INVALID_CONFIGURATION, f"requested address {requested} is not in {ranges}")
    if requested in leases.taken:
        raise CniError(NO_FREE_ADDRESS, f"requested address {requested} is taken", f"network {configuration.name}")
    return requested


def _described(address: Address, ranges: RangeSet) -> IP:
    found = ranges.range_of(address)
    assert found is not None  # it was chosen there
    return IP(address, found.subnet.prefix, found.gateway)


def are_exhausted(configuration: Configuration) -> RangeSet | None:
    """A set of ranges without a free address; None when all have one."""
    with locked(directory(configuration), lambda: find_in_use(configuration)) as leases:
        for ranges in configuration.sets:
            if ranges.choose_free(leases.taken, ()) is None:
                return ranges
    return None


# --- after the leases have been lost


def alias(network: str, holder: Holder) -> str:
    """What is written on the node's end of a link, so that the link itself tells whose it is."""
    return f"{NAME} {network} {holder.container} {holder.interface}"


def read_alias(text: str, network: str) -> Holder | None:
    """Whose link of this network it is; None for others."""
    words = text.split(" ")
    return Holder(*words[2:]) if len(words) == 4 and words[:2] == [NAME, network] else None


def find_in_use(configuration: Configuration) -> Sequence[tuple[Lease, Note]]:
    """Leases as the kernel tells them: from our links and their routes, or, where another plugin wires, from the
    addresses in pinned namespaces. Runs in the node's namespace."""
    if configuration.is_for_ipam:
        return _in_namespaces(configuration.sets)
    found = _on_links(configuration.name, configuration.sets)
    ports = portmappings.found
    return [(lease, {"link": name, "netns": "", "ports": ports(lease.addresses)}) for lease, name in found]


def _on_links(network: str, sets: Sequence[RangeSet]) -> list[tuple[Lease, str]]:
    route = netlink.NetlinkSocket(netlink.ROUTE)
    try:
        rows = [links.read_link(reply) for reply in route.dump(*links.link_list())]
        ours = {row.ifindex: (holder, row.name) for row in rows if (holder := read_alias(row.alias, network))}
        found: dict[int, list[Address]] = {}
        for family in (each.family for each in sets) if ours else ():
            for reply in route.dump(*links.route_list(family)):
                entry = links.read_route(reply)
                if entry is not None and entry.ifindex in ours and entry.destination.prefix == family.bits:
                    found.setdefault(entry.ifindex, []).append(entry.destination.first)
    finally:
        route.close()
    return [(Lease(ours[index][0], tuple(addresses)), ours[index][1]) for index, addresses in found.items()]


def _in_namespaces(sets: Sequence[RangeSet]) -> Sequence[tuple[Lease, Note]]:
    """The holder's container is not known: it is named by the pin, and found again by its path."""
    found = []
    for path in _pins():
        for interface, addresses in namespaces.inside(path, _own_addresses).items():
            given = tuple(each for each in addresses if any(ranges.range_of(each) for ranges in sets))
            if given:
                found.append((Lease(Holder(path.name, interface), given), {"netns": str(path), "ipam": True}))
    return found


def _pins() -> Iterable[Path]:
    try:
        names = os.listdir(namespaces.RUN_DIRECTORY)
    except FileNotFoundError:
        return []
    paths = [namespaces.RUN_DIRECTORY / name for name in names if ":" not in name]
    own = os.stat("/proc/thread-self/ns/net").st_ino
    return [path for path in paths if namespaces.is_pinned(path) and path.stat().st_ino != own]


def _own_addresses() -> dict[str, list[Address]]:
    """Of the calling thread's namespace, by interface."""
    route = netlink.NetlinkSocket(netlink.ROUTE)
    try:
        names = {row.ifindex: row.name for row in map(links.read_link, route.dump(*links.link_list()))}
        found: dict[str, list[Address]] = {}
        for row in map(links.read_address, route.dump(*links.address_list())):
            if row is not None and row.ifindex in names:
                found.setdefault(names[row.ifindex], []).append(row.address)
        return found
    finally:
        route.close()
