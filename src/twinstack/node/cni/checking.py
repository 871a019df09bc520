"""CHECK: whether a container's network is still what ADD has answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from twinstack.ip import Address
from twinstack.linux import links, namespaces, netlink
from twinstack.linux.nftables import dump
from twinstack.node import wiring
from twinstack.node.cni.configuration import Configuration
from twinstack.node.cni.errors import INVALID_CONFIGURATION, NOT_AS_ADDED, CniError
from twinstack.node.cni.invocation import Invocation
from twinstack.node.cni.results import Interface, Result
from twinstack.node.leases import Holder, Leases


def lease(leases: Leases, holder: Holder, config: Configuration) -> None:
    """Whether the addresses of the result are the holder's. Raises CniError."""
    if config.previous is None:
        raise CniError(INVALID_CONFIGURATION, "required prevResult is missing")
    found = leases.get(holder)
    if found is None:
        _fail(f"container {holder.container} has no addresses in network {config.name}")
    expected = {ip.address for ip in config.previous.ips}
    missing = set(found.addresses) - expected
    if missing:
        _fail(f"the result lacks {_listed(missing)}, which container {holder.container} has")


def wiring_of(call: Invocation, result: Result, link: str, node: netlink.NetlinkSocket) -> None:
    """Whether both ends of the cable are there, and lead to each other. Raises CniError."""
    places = [i for i, each in enumerate(result.interfaces) if each.name == call.interface and each.sandbox]
    if not places:
        _fail(f"the result has no interface {call.interface} in a sandbox")
    expected = [ip.address for ip in result.ips if ip.interface in (None, places[0])]
    namespaces.inside(call.namespace, lambda: _inside(result.interfaces[places[0]], expected))
    try:
        row = links.read_link(node.get(*links.link_named(link)))
    except netlink.NetlinkError as error:
        _fail(f"the node has no link {link}: {error}")
    if not row.is_up:
        _fail(f"link {link} of the node is down")
    for address in expected:
        if not _leads(node, address, row.ifindex):
            _fail(f"the node has no route to {address} by way of {link}")


def _leads(node: netlink.NetlinkSocket, address: Address, index: int) -> bool:
    rows = [links.read_route(reply) for reply in node.dump(*links.route_list(address.family))]
    return any(row is not None and (row.destination, row.ifindex) == (wiring.alone(address), index) for row in rows)


def _inside(interface: Interface, expected: list[Address]) -> None:
    """In the container's namespace. Routes may have been changed by a later plugin, but there must be some."""
    route = netlink.NetlinkSocket(netlink.ROUTE)
    try:
        try:
            row = links.read_link(route.get(*links.link_named(interface.name)))
        except netlink.NetlinkError as error:
            _fail(f"there is no interface {interface.name} in {interface.sandbox}: {error}")
        if not row.is_up:
            _fail(f"interface {interface.name} is down")
        if interface.mac and row.mac.hex(":") != interface.mac.lower():
            _fail(f"interface {interface.name} has the address {row.mac.hex(':')} instead of {interface.mac}")
        rows = [links.read_address(reply) for reply in route.dump(*links.address_list())]
        present = {each.address for each in rows if each is not None and each.ifindex == row.ifindex}
        if set(expected) - present:
            _fail(f"interface {interface.name} lacks {_listed(set(expected) - present)}")
        for family in {address.family for address in expected}:
            routes = [links.read_route(reply) for reply in route.dump(*links.route_list(family))]
            if not any(each is not None and each.via is not None for each in routes):
                _fail(f"there is no {family} route by way of the node")
    finally:
        route.close()


def port_tables(result: Result) -> None:
    """Whether the tables of port mappings are there for the families of a result. Raises CniError."""
    from twinstack.node.hostports import TABLE  # it brings the API's types along

    connection = netlink.NetlinkSocket(netlink.NETFILTER)
    try:
        for family in {ip.address.family for ip in result.ips}:
            if TABLE not in [table.name for table in dump.tables(connection, family)]:
                _fail(f"there is no {family} table {TABLE}")
    finally:
        connection.close()


def _listed(addresses: Iterable[Address]) -> str:
    return ", ".join(str(address) for address in sorted(addresses))


def _fail(text: str) -> NoReturn:
    raise CniError(NOT_AS_ADDED, text)
