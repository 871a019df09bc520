"""A container's interface in a network: wired, published, checked and removed, in the node's network namespace."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twinstack.ip import CIDR, Address
from twinstack.linux import links, namespaces, netlink, unlinking
from twinstack.linux.nftables import dump
from twinstack.linux.nftables.objects import Table
from twinstack.node import masquerade, wiring
from twinstack.node.cni import addresses, checking, delegation, nodesettings, portmappings
from twinstack.node.cni.configuration import NAME, Configuration
from twinstack.node.cni.errors import (
    ALREADY_ADDED,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    CniError,
)
from twinstack.node.cni.invocation import Invocation
from twinstack.node.cni.results import IP, Interface, Result, Route, decode
from twinstack.node.leases import Holder, Lease, locked

JSON = dict[str, Any]

_DEFAULT_MTU = 1500
_FAR_AWAY = (Address.parse("192.0.2.1"), Address.parse("2001:db8::1"))  # documentation addresses: nothing is sent


class Attachment:
    """One call for one interface of a container; `node` is a socket in the node's namespace."""

    def __init__(self, call: Invocation, config: Configuration, node: netlink.NetlinkSocket) -> None:
        self._call = call
        self._config = config
        self._node = node
        self._holder = Holder(call.container, call.interface)
        self._directory = addresses.directory(config)
        self._is_first = False  # whether the container has no other interface

    # --- ADD

    def add(self) -> Result:
        """Wire the container. When it fails, nothing is left."""
        _check_namespace(self._call.namespace)
        inside = namespaces.inside(self._call.namespace, self._look_inside)
        try:
            lent = self._lease()
            try:
                cable = self._plug(inside, lent)
                self._publish(self._directory.name, lent.ips)
            except BaseException:
                self.remove()
                raise
        finally:
            inside.close()
        ends = [
            Interface(cable.name, wiring.GATEWAY_MAC.hex(":"), "", cable.mtu or 0),
            Interface(cable.interface, cable.mac.hex(":"), self._call.namespace, cable.mtu or 0),
        ]
        ips = [IP(ip.address, ip.address.family.bits, None, 1) for ip in lent.ips]
        return Result(ends, ips, self._routes(lent), self._config.dns or lent.dns)

    def _look_inside(self) -> wiring.Inside:
        families = {ranges.family for ranges in self._config.sets} if self._config.has_own_addresses else set()
        nodesettings.prepare_container(families)
        found = wiring.Inside.open()
        try:
            present = [links.read_link(reply).name for reply in found.route.dump(*links.link_list())]
            if self._call.interface in present:
                text = f"interface {self._call.interface} already exists in {self._call.namespace}"
                raise CniError(ALREADY_ADDED, text)
        except BaseException:
            found.close()
            raise
        self._is_first = len(present) <= 1  # lo
        return found

    def _lease(self) -> Result:
        """The addresses, as an IPAM plugin gives them; recorded in any case."""
        config, call = self._config, self._call
        note: JSON = {"netns": call.namespace, "link": self._link, "ports": portmappings.described(config.ports)}
        if config.has_own_addresses:
            return Result(ips=addresses.take(config, call, note), routes=config.routes or ())
        with locked(self._directory) as leases:
            addresses.refuse_second(leases, self._holder, config.name)
        given = decode(delegation.run(config.ipam, call, config.raw))
        with locked(self._directory) as leases:
            leases.record(Lease(self._holder, tuple(ip.address for ip in given.ips)), note)
        if not given.ips:
            self.remove()
            raise CniError(INVALID_CONFIGURATION, f"IPAM plugin {config.ipam} returned no address")
        return given

    def _plug(self, inside: wiring.Inside, lent: Result) -> wiring.Cable:
        given = [ip.address for ip in lent.ips]
        nodesettings.forward({address.family for address in given})
        routes = [route.destination for route in self._routes(lent)]
        mtu, segment = self._way_out()
        cable = wiring.Cable(
            self._link,
            self._call.interface,
            self._config.mac or b"\x0a\x58" + _digest(self._config.name, self._holder)[:4],
            given,
            self._config.mtu or mtu,
            segment,
            alias=addresses.alias(self._config.name, self._holder),
            ipv4=nodesettings.CABLE,
            routes=routes if self._is_first else _without_present(routes, inside.route),
        )
        try:
            wiring.plug(self._node, inside, cable)
        except netlink.NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            self._unplug()  # what a killed call has left
            wiring.plug(self._node, inside, cable)
        return cable

    def _routes(self, lent: Result) -> list[Route]:
        """By way of the node, whatever else the configuration says about the gateway."""
        wanted = [route.destination for route in lent.routes]
        if not wanted:
            wanted = [wiring.default_route(ip.address.family) for ip in lent.ips]
        gateway = wiring.GATEWAY
        return [Route(block, gateway if block.family is gateway.family else None) for block in wanted]

    def _way_out(self) -> tuple[int, int | None]:
        """MTU and segment: a container must not send what the node's way out cannot carry."""
        found: list[links.Link] = []
        for address in _FAR_AWAY:
            try:
                index = links.read_way_out(self._node.get(*links.route_to(address)))
                found.append(links.read_link(self._node.get(*links.link(index))))
            except netlink.NetlinkError as error:
                if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
                    raise
        segments = [link.segment for link in found if link.segment is not None]
        return min([_DEFAULT_MTU, *(link.mtu for link in found)]), min(segments, default=None)

    def follow(self) -> Result:
        """Behind another plugin: publish what that one made, and pass its result on."""
        previous = self._config.previous
        assert previous is not None
        directory = self._behind
        note = {"netns": self._call.namespace, "ports": portmappings.described(self._config.ports)}
        with locked(directory) as leases:
            addresses.refuse_second(leases, self._holder, self._config.name)
            own = [ip for ip in previous.ips if self._is_in_container(previous, ip)]
            leases.record(Lease(self._holder, tuple(ip.address for ip in own)), note)
        try:
            self._publish(directory.name, own)
        except BaseException:
            self.remove()
            raise
        return previous

    def _is_in_container(self, result: Result, ip: IP) -> bool:
        if ip.interface is None or not 0 <= ip.interface < len(result.interfaces):
            return True
        return result.interfaces[ip.interface].sandbox != ""

    def _publish(self, directory: str, ips: Sequence[IP]) -> None:
        """Host ports and masquerading."""
        if self._config.masquerade:
            blocks = [CIDR.parse(f"{ip.address}/{ip.prefix}") for ip in ips]
            if self._config.has_own_addresses and self._config.sets:
                blocks = [entry.subnet for ranges in self._config.sets for entry in ranges.ranges]
            _masquerade(self._config, sorted(set(blocks)))
        if self._config.ports:
            portmappings.lay(self._config.data, self._node, directory, self._holder)

    # --- DEL and CHECK

    def remove(self) -> None:
        """Idempotent, and whatever is left of the container."""
        if self._config.has_own_addresses and not self._directory.is_dir():
            with locked(self._directory, lambda: addresses.find_in_use(self._config)):
                pass  # leases have been lost: as long as its link is there it tells of which ports this one had
        self._unplug()  # before its addresses are given again
        ports = False
        for directory in (self._directory, self._behind):
            if not directory.is_dir():
                continue
            with locked(directory) as leases:
                note = leases.note(self._holder)
                if note.get("ipam"):
                    continue  # addresses that we gave to another plugin
                ports = ports or bool(note.get("ports"))
                leases.forget(self._holder)
                if self._config.masquerade and not list(leases):
                    masquerade.remove(_table(self._config.name))
        if ports:
            portmappings.lay(self._config.data, self._node)
        if not self._config.has_own_addresses:
            delegation.run(self._config.ipam, self._call._replace(command="DEL"), self._config.raw)

    def check(self) -> None:
        """Raises CniError when something is not as it was made."""
        if self._config.previous is None:
            raise CniError(INVALID_CONFIGURATION, "required prevResult is missing")
        _check_namespace(self._call.namespace)
        with locked(self._directory, lambda: addresses.find_in_use(self._config)) as leases:
            wired = leases.get(self._holder) is not None and not leases.note(self._holder).get("ipam")
            if wired:
                checking.lease(leases, self._holder, self._config)
        if wired:
            if not self._config.has_own_addresses:
                delegation.run(self._config.ipam, self._call, self._config.raw)
            checking.wiring_of(self._call, self._config.previous, self._link, self._node)
        else:
            with locked(self._behind) as leases:
                checking.lease(leases, self._holder, self._config)
        if self._config.ports:
            checking.port_tables(self._config.previous)

    @property
    def _behind(self) -> Path:
        """Where attachments of other plugins, that we follow, are recorded. No network's name has an @."""
        return self._directory.with_name(f"{self._config.name}@ports")

    @property
    def _link(self) -> str:
        return link_name(self._config.name, self._holder)

    def _unplug(self) -> None:
        unlinking.remove(self._link, self._node)


def link_name(network: str, holder: Holder) -> str:
    """Of the node's end of a container's cable."""
    return f"tc{_digest(network, holder).hex()[:10]}"


def _digest(network: str, holder: Holder) -> bytes:
    return hashlib.sha256(f"{network}/{holder.container}/{holder.interface}".encode()).digest()


def _check_namespace(path: str) -> None:
    try:
        there = os.stat(path)
    except OSError as error:
        raise CniError(IO_FAILURE, f'failed to open netns "{path}"', os.strerror(error.errno or 0)) from None
    if (there.st_dev, there.st_ino) == _identity("/proc/thread-self/ns/net"):
        raise CniError(INVALID_ENVIRONMENT, f'CNI_NETNS "{path}" is the node\'s own network namespace')


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _without_present(wanted: list[CIDR], inside: netlink.NetlinkSocket) -> list[CIDR]:
    """Another network may have made the default routes already."""
    kept = []
    for block in wanted:
        rows = [links.read_route(reply) for reply in inside.dump(*links.route_list(block.family))]
        if block.prefix or not any(row is not None and row.destination == block for row in rows):
            kept.append(block)
    return kept


def _table(network: str) -> str:
    return f"{NAME}-{network}"


def _masquerade(config: Configuration, blocks: list[CIDR]) -> None:
    """A table for each network and family, which says what it was made from: so it is laid again only for other
    blocks."""
    spared, name = [*blocks, *config.spared], _table(config.name)
    comment = f"{NAME} {hashlib.sha256(repr((blocks, spared)).encode()).hexdigest()[:16]}"
    connection = netlink.NetlinkSocket(netlink.NETFILTER)
    try:
        states = [dump.table(connection, Table(family, name)) for family in {block.family for block in blocks}]
    finally:
        connection.close()
    if any(state is None or state.comment != comment for state in states):
        masquerade.apply(blocks, spared, name, comment)
