"""Routes to the pods of the other nodes: each node's podCIDRs by way of its InternalIP of the same family.

As a cloud's route controller would set them. Routes are marked with a protocol number of their own; others
are never touched.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable

from twinstack.api.core import Node
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import links, netlink

PROTOCOL = 84

log = logging.getLogger(__name__)


def wanted(node: Node) -> dict[CIDR, Address]:
    """Where packets for each podCIDR of a node go; blocks without an address of their family are left out."""
    hops: dict[IPFamily, Address] = {}
    for entry in node.status.addresses:
        if entry.type == "InternalIP":
            try:
                address = Address.parse(entry.address)
            except ValueError:
                continue  # not checked by the API
            hops.setdefault(address.family, address)
    blocks = []
    for text in node.spec.pod_cidrs:
        try:
            blocks.append(CIDR.parse(text))
        except ValueError:
            log.warning("node %s has the podCIDR %r", node.metadata.name, text)
    return {block: hops[block.family] for block in blocks if block.family in hops}


class NodeRoutes:
    """The routes of the calling thread's network namespace that lead to other nodes' pods."""

    def __init__(self) -> None:
        self._socket = netlink.NetlinkSocket(netlink.ROUTE)
        self._nodes: dict[str, dict[CIDR, Address]] = {}
        self._present: dict[CIDR, Address] = {}
        self._foreign: set[CIDR] = set()
        for family in IPFamily:
            for route in map(links.read_route, self._socket.dump(*links.route_list(family))):
                if route is not None and route.protocol == PROTOCOL and route.via is not None:
                    self._present[route.destination] = route.via
                elif route is not None:
                    self._foreign.add(route.destination)

    def put(self, node: Node) -> None:
        """Lead to a node's pods from now on."""
        routes = wanted(node)
        name = node.metadata.name
        if self._nodes.get(name) != routes:
            self._remove(self._only_of(name) - routes.keys())
            self._nodes[name] = routes
            self._add(routes)

    def drop(self, name: str) -> None:
        """Forget a node that is no more."""
        blocks = self._only_of(name)
        self._nodes.pop(name, None)
        self._remove(blocks)

    def sweep(self) -> None:
        """Remove routes that an earlier run left for nodes that are no more: once all nodes have been put."""
        self._remove(self._present.keys() - {block for routes in self._nodes.values() for block in routes})

    def remove_all(self) -> None:
        self._nodes.clear()
        self._remove(self._present.keys())

    def close(self) -> None:
        self._socket.close()

    def _only_of(self, name: str) -> set[CIDR]:
        """Blocks whose route leads to this node, and not meanwhile to one that got the block after it."""
        return {block for block, via in self._nodes.get(name, {}).items() if self._present.get(block) == via}

    def _add(self, routes: dict[CIDR, Address]) -> None:
        for block, via in routes.items():
            if self._present.get(block) == via or block in self._foreign:
                continue
            try:
                self._socket.request([links.add_route(block, 0, family=block.family, via=via, protocol=PROTOCOL)])
                self._present[block] = via
            except netlink.NetlinkError as error:
                log.warning("no route to the pods in %s by way of %s: %s", block, via, error)

    def _remove(self, blocks: Iterable[CIDR]) -> None:
        for block in list(blocks):
            if self._present.pop(block, None) is None:
                continue
            try:
                self._socket.request([links.delete_route(block, protocol=PROTOCOL)])
            except netlink.NetlinkError as error:
                if error.errno != errno.ESRCH:
                    raise
