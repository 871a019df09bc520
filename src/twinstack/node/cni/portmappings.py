"""The capability portMappings: ports of the node that lead to containers, in the tables of `node.hostports`.

What is wanted stands in the notes of the leases; the tables are laid anew from all of them with each change, in one
transaction. So whoever does it needs to know nothing from before.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinstack.ip import Address
from twinstack.linux import links, netlink
from twinstack.node.cni.configuration import PortMapping
from twinstack.node.leases import Holder, Lease, Note, locked

if TYPE_CHECKING:
    from twinstack.node.hostports import Forward

_UNSPECIFIED = {Address.parse("0.0.0.0"), Address.parse("::")}


def described(ports: Sequence[PortMapping]) -> list[dict[str, Any]]:
    """For the note of a lease."""
    return [port._asdict() | {"host_ip": str(port.host_ip) if port.host_ip is not None else ""} for port in ports]


def found(addresses: Sequence[Address]) -> list[dict[str, Any]]:
    """For the note of a lease that was lost: which ports lead to these addresses. Raises OSError."""
    from twinstack.node.hostports import PROTOCOLS, laid

    names = {number: name for name, number in PROTOCOLS.items()}
    ports = [
        PortMapping(each.port, each.target_port, names[each.protocol], each.address or Address(each.target.family, 0))
        for each in laid()
        if each.target in addresses
    ]
    return described(ports)


def lay(data: Path, node: netlink.NetlinkSocket, network: str = "", added: Holder | None = None) -> None:
    """Make the tables of the calling thread's namespace what all leases below `data` ask for.

    `added` is a holder whose ports are new, in the directory `network`. Raises OSError.
    """
    from twinstack.node.hostports import HostPorts  # it brings the API's types along

    with _turn(data):
        found = _wanted(data)
        new = found.pop(_key(network, added), []) if added is not None else []
        tables = HostPorts(_node_addresses(node))
        tables.start(found)
        if new:
            index = links.read_way_out(node.get(*links.route_to(new[0].target)))
            tables.put("added", new, links.read_link(node.get(*links.link(index))).name)


def _key(directory: str, holder: Holder) -> str:
    return f"{directory}/{holder.container}:{holder.interface}"


def _wanted(data: Path) -> dict[str, list[Forward]]:
    """What leads where, by directory and holder."""
    found = {}
    for directory in sorted(path for path in data.iterdir() if path.is_dir()):
        with locked(directory) as leases:
            for lease in leases:
                forwards = _forwards(lease, leases.note(lease.holder))
                if forwards:
                    found[_key(directory.name, lease.holder)] = forwards
    return found


def _forwards(lease: Lease, note: Note) -> list[Forward]:
    """A hostIP of one family, even 0.0.0.0 or ::, is for that alone."""
    from twinstack.node.hostports import PROTOCOLS, Forward

    found = []
    for port in note.get("ports", ()):
        given = Address.parse(port["host_ip"]) if port["host_ip"] else None
        at = given if given not in _UNSPECIFIED else None
        for target in lease.addresses:
            if given is None or given.family is target.family:
                number = PROTOCOLS[port["protocol"]]
                found.append(Forward(number, at, port["host_port"], target, port["container_port"]))
    return found


def _node_addresses(node: netlink.NetlinkSocket) -> list[Address]:
    rows = [links.read_address(reply) for reply in node.dump(*links.address_list())]
    return [row.address for row in rows if row is not None]


@contextmanager
def _turn(data: Path) -> Iterator[None]:
    """One at a time."""
    descriptor = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
