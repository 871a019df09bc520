"""The network of a local cluster: a switch and the nodes on it, each a network namespace.

```
        NAME-switch:  br0  172.30.0.1  fd00:30::1      (the API server listens here)
                     /    \
      NAME-1:  eth0            NAME-2:  eth0           172.30.0.11, .12 …  fd00:30::11, ::12 …
```

Both ends of every link are made inside the cluster's namespaces, so the host's own namespace never gains an
interface, an address, a route or a rule.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twinstack.cluster.configuration import NODE_NETWORK, ClusterConfiguration
from twinstack.cluster.state import ClusterPaths
from twinstack.linux import addresses, links, namespaces, netlink, policyrouting, sysctl

_BRIDGE = 2  # index of br0 in the switch
_ETH0 = 2  # index of eth0 in a node
_PODS_TABLE = 10  # of routes in the switch
_FIRST_PORT = 10  # a node's port on the switch has this index plus the node's number

# Both families are written out: a new namespace starts IPv6 from the kernel's defaults, but IPv4 from the host's
# settings. All are set before links exist, which inherit them.
_COMMON = {
    "net/ipv6/conf/all/accept_dad": "0",  # duplicate detection would hold bind() back for a second or two
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/dad_transmits": "0",
    "net/ipv6/conf/all/accept_ra": "0",  # addresses and routes are ours
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv4/conf/all/rp_filter": "0",  # translated packets may leave another way than they came
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
    "net/ipv4/conf/all/send_redirects": "0",  # a node that forwards would advise clients around itself
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv4/conf/all/accept_redirects": "0",
    "net/ipv4/conf/default/accept_redirects": "0",
    "net/ipv6/conf/all/accept_redirects": "0",
    "net/ipv6/conf/default/accept_redirects": "0",
}
# Frames on the bridge are no business of a packet filter. The files exist where br_netfilter does.
_SWITCH_IF_PRESENT = {"net/bridge/bridge-nf-call-iptables": "0", "net/bridge/bridge-nf-call-ip6tables": "0"}


def ensure(configuration: ClusterConfiguration, paths: ClusterPaths) -> None:
    """Make what is missing of the switch and the nodes, addresses included.

    Nodes are connected again when the switch is new.

    Raises PermissionError without root, OSError when the kernel refuses.
    """
    socket = _ensure_switch(configuration, paths.switch)
    try:
        for index in configuration.node_indexes:
            _ensure_node(configuration, socket, paths.node(index), index)
        _route_to_pods(configuration, socket)
    finally:
        socket.close()


def remove(paths: ClusterPaths) -> None:
    """Unpin every namespace of the cluster; the kernel then removes the links in them. Idempotent."""
    for path in paths.namespaces():
        namespaces.remove(path)


def _ensure_switch(configuration: ClusterConfiguration, path: Path) -> netlink.NetlinkSocket:
    """A route socket inside the switch."""
    own = [
        links.add_address(_BRIDGE, address, NODE_NETWORK[address.family].prefix)
        for address in configuration.switch_addresses
    ]

    def complete(*links_first: bytes) -> netlink.NetlinkSocket:
        socket = netlink.NetlinkSocket(netlink.ROUTE)
        try:
            socket.request([*links_first, *own])
            addresses.settle(socket, configuration.switch_addresses)
        except BaseException:
            socket.close()
            raise
        return socket

    def setup() -> netlink.NetlinkSocket:
        sysctl.write(_COMMON)
        sysctl.write({name: value for name, value in _SWITCH_IF_PRESENT.items() if os.path.exists(sysctl.ROOT + name)})
        return complete(links.link_up(links.LOOPBACK), links.bridge("br0", _BRIDGE))

    if namespaces.is_pinned(path):
        return namespaces.inside(path, complete)
    path.unlink(missing_ok=True)  # the empty file of a pin that a reboot took away
    return namespaces.create(path, setup)


def _ensure_node(configuration: ClusterConfiguration, switch: netlink.NetlinkSocket, path: Path, index: int) -> None:
    if not namespaces.is_pinned(path):
        path.unlink(missing_ok=True)
        namespaces.create(path, lambda: sysctl.write(_COMMON))
    if not _is_connected(path):
        _connect(switch, path, index)
    namespaces.inside(path, lambda: _address(configuration, index))
    switch.get(*links.link(_FIRST_PORT + index))  # asking makes the kernel notice the carrier now, not a second later


def _is_connected(path: Path) -> bool:
    def has_link() -> bool:
        socket = netlink.NetlinkSocket(netlink.ROUTE)
        try:
            return any(links.read_link(reply).name == "eth0" for reply in socket.dump(*links.link_list()))
        finally:
            socket.close()

    return namespaces.inside(path, has_link)


def _connect(switch: netlink.NetlinkSocket, path: Path, index: int) -> None:
    """One veth pair between a node and the switch."""
    port = _FIRST_PORT + index
    _delete_if_present(switch, port)  # the port of a node that is gone lives a moment longer than the node
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        peer = links.Peer(descriptor, "eth0", _ETH0)
        knows = links.read_link(switch.get(*links.link(_BRIDGE))).segment is not None
        segment = links.LONGEST_SEGMENT if knows else None
        pair = links.veth(f"node{index}", peer, index=port, master=_BRIDGE, segment=segment)
        switch.request([pair])
    finally:
        os.close(descriptor)


def _address(configuration: ClusterConfiguration, index: int) -> None:
    """A node's addresses and a default route a family through the switch, in the calling thread's namespace."""
    messages = [links.link_up(links.LOOPBACK), links.link_up(_ETH0)]
    messages += [
        links.add_address(_ETH0, address, NODE_NETWORK[address.family].prefix)
        for address in configuration.node_addresses(index)
    ]
    # A Service's address must have a route before the proxy can translate it.
    messages += [
        links.add_route(None, _ETH0, family=family, via=NODE_NETWORK[family].address(1))
        for family in configuration.pod_families
    ]
    socket = netlink.NetlinkSocket(netlink.ROUTE)
    try:
        socket.request(messages)
        addresses.settle(socket, configuration.node_addresses(index))
    finally:
        socket.close()


def _route_to_pods(configuration: ClusterConfiguration, switch: netlink.NetlinkSocket) -> None:
    """Let the API server reach pods from the switch: by way of the first node, which knows where each one is.

    For packets of its own alone: those that nodes send to a pod that is no more are still refused here.
    """
    first = {address.family: address for address in configuration.node_addresses(configuration.node_indexes[0])}
    for block in configuration.pod_cidrs:
        try:
            switch.request([policyrouting.own_traffic_rule(block.family, _PODS_TABLE, _PODS_TABLE)])
        except netlink.NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
        switch.request([policyrouting.table_route(_PODS_TABLE, block, first[block.family])])


def _delete_if_present(socket: netlink.NetlinkSocket, index: int) -> None:
    try:
        socket.request([links.delete_link(index)])
    except netlink.NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise
