"""The built-in pod network: each pod a namespace on a point-to-point link (see `wiring`), no bridge."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from twinstack.api import core
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import links, namespaces, netlink, sysctl
from twinstack.node import wiring
from twinstack.node.podaddresses import INTERFACE, PodAddresses

INTERFACE_INDEX = 2
FIRST_INDEX = 1000  # of links to pods, above those that the machine makes itself

# Both families are written out: a new namespace starts IPv6 from the kernel's defaults, but IPv4 from the host's
# settings. All are set before links exist, which inherit them.
NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/dad_transmits": "0",
    "net/ipv4/conf/default/rp_filter": "0",  # a Service's reply may leave another way than its request came
    "net/ipv4/conf/default/send_redirects": "0",  # a pod reaches itself through the node, rightly
}
POD_SYSCTLS = {
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
}


class Attachment(NamedTuple):
    """A pod's network: the path of its namespace, and its addresses.

    `link` is the pod's end on the node, to which ports of the node are still to be led; empty when that is done.
    """

    namespace: Path
    addresses: list[Address]
    link: str = ""


class Network(Protocol):
    """Who gives pods their networks: this module, or CNI plugins (`cni.network`)."""

    @property
    def is_open(self) -> bool:
        """Whether pods can be attached."""

    def close(self) -> None:
        """Let go; pods keep their networks."""

    def path(self, pod_uid: str) -> Path:
        """Where the pod's namespace is, or would be, pinned."""

    def addresses(self, pod_uid: str) -> list[Address]:
        """Those of an attached pod; empty without a network."""

    def attach_pod(self, pod: core.Pod) -> Attachment:
        """Give a pod a new network; one that it had is replaced. Raises NoFreeAddress, OSError."""

    def detach(self, pod_uid: str) -> None:
        """Take a pod's network away and free its addresses. Idempotent. Raises OSError."""

    def pods(self) -> list[str]:
        """The uids of all pods of which something may be left here."""


class PodNetwork:
    """Wires the pods of the node in whose namespace it is opened. Its methods block for a millisecond or two."""

    def __init__(self, addresses: PodAddresses, prefix: str, run_directory: Path = namespaces.RUN_DIRECTORY) -> None:
        self._addresses = addresses
        self._prefix = prefix
        self._run = run_directory
        self._lock = threading.Lock()
        self._socket: netlink.NetlinkSocket | None = None
        self._next_index = FIRST_INDEX
        self._mtu: int | None = None
        self._segment: int | None = None

    def open(self, cidrs: Sequence[CIDR], node_ips: Sequence[Address]) -> None:
        """Prepare the node (the calling thread's namespace). Raises OSError."""
        sysctl.write_changed(NODE_SYSCTLS)
        self._addresses.configure(cidrs)
        socket = netlink.NetlinkSocket(netlink.ROUTE)
        found = {link.ifindex: link for link in map(links.read_link, socket.dump(*links.link_list()))}
        self._next_index = max(FIRST_INDEX, *(index + 1 for index in found))
        for row in map(links.read_address, socket.dump(*links.address_list())):
            if row is not None and row.address in node_ips and row.ifindex != links.LOOPBACK:
                uplink = found[row.ifindex]  # a pod must not send what it cannot carry
                self._mtu, self._segment = uplink.mtu, uplink.segment
        self._socket = socket

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def close(self) -> None:
        """Let go; pods keep their networks."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def path(self, pod_uid: str) -> Path:
        """Where the pod's namespace is, or would be, pinned."""
        return self._run / f"{self._prefix}-{self._digest(pod_uid)}"

    def link_name(self, pod_uid: str) -> str:
        """Of the pod's end on the node."""
        return f"tw{self._digest(pod_uid)}"

    def addresses(self, pod_uid: str) -> list[Address]:
        """Those of an attached pod, primary family first; empty without a network."""
        return self._addresses.get(pod_uid) if namespaces.is_pinned(self.path(pod_uid)) else []

    def attach(self, pod_uid: str) -> Attachment:
        """Give a pod a new network; one that it had is replaced, its addresses stay.

        Raises NoFreeAddress, or OSError after which nothing but the lease is left.
        """
        with self._lock:
            addresses = self._addresses.take(pod_uid)
            path = self.path(pod_uid)
            self._remove_remains(pod_uid, path)
            self._wire(pod_uid, path, addresses)
            return Attachment(path, addresses, self.link_name(pod_uid))

    def attach_pod(self, pod: core.Pod) -> Attachment:
        """`attach`."""
        return self.attach(pod.metadata.uid)

    def detach(self, pod_uid: str) -> None:
        """Take a pod's network away and free its addresses. Idempotent."""
        with self._lock:
            namespaces.remove(self.path(pod_uid))
            self._addresses.give_back(pod_uid)

    def pods(self) -> list[str]:
        """The uids of all pods with addresses."""
        return self._addresses.holders()

    def _digest(self, pod_uid: str) -> str:
        return hashlib.sha256(f"{self._prefix}/{pod_uid}".encode()).hexdigest()[:8]

    def _remove_remains(self, pod_uid: str, path: Path) -> None:
        """A namespace from before, or the empty file and the link of a half-made one."""
        if not os.path.lexists(path):
            return
        namespaces.remove(path)
        try:
            self._node().request([links.delete_link_named(self.link_name(pod_uid))])
        except netlink.NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise

    def _wire(self, pod_uid: str, path: Path, addresses: list[Address]) -> None:
        node = self._node()
        index = self._next_index
        self._next_index += 1
        digest = hashlib.sha256(pod_uid.encode()).digest()
        mac = b"\x0a\x58" + digest[:4]
        name = self.link_name(pod_uid)

        def prepare() -> wiring.Inside:
            sysctl.write(POD_SYSCTLS)
            return wiring.Inside.open()

        inside = namespaces.create(path, prepare)
        try:
            cable = wiring.Cable(name, INTERFACE, mac, addresses, self._mtu, self._segment, index, INTERFACE_INDEX)
            wiring.plug(node, inside, cable)
        except BaseException:
            namespaces.remove(path)  # takes the link with it
            raise
        finally:
            inside.close()

    def _node(self) -> netlink.NetlinkSocket:
        if self._socket is None:
            raise RuntimeError("the pod network is not open")
        return self._socket


def order_by_family(addresses: Sequence[Address], primary: IPFamily) -> list[Address]:
    """The first address of the primary family, then the first of the other: how kubelet lists a pod's IPs."""
    chosen = []
    for family in (primary, primary.other):
        chosen += [address for address in addresses if address.family is family][:1]
    return chosen
