"""How a proxy was asked to work: flags, with the meaning and the defaults of kube-proxy's nftables mode."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from twinstack.api.core import Node
from twinstack.dataplane.views import Complaints
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.proxy.kernel_settings import ConntrackSettings
from twinstack.proxy.layout import DEFAULT_MARK_BIT, PodInterface

_DISABLED = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
_ADDRESSES = Path("/proc/net/if_inet6")

T = TypeVar("T")

log = logging.getLogger(__name__)


class LocalMode(enum.Enum):
    """How to tell whether a flow comes from a pod of this node."""

    CLUSTER_CIDR = "ClusterCIDR"  # source in the cluster's pod range
    NODE_CIDR = "NodeCIDR"  # source in the pod range of this Node
    BRIDGE_INTERFACE = "BridgeInterface"  # came in through this interface
    INTERFACE_PREFIX = "InterfaceNamePrefix"  # came in through one of these interfaces


class Configuration(NamedTuple):
    """Times are in seconds."""

    node_name: str
    kubeconfig: str = ""  # path; empty: the service account of the pod we are in
    local_mode: LocalMode = LocalMode.NODE_CIDR
    cluster_cidrs: tuple[CIDR, ...] = ()
    node_port_blocks: tuple[CIDR, ...] | None = None  # None: the node's own addresses as its status gives them
    masquerade_all: bool = False
    pod_interface: PodInterface | None = None  # in the modes that go by interface
    mark_bit: int = DEFAULT_MARK_BIT
    conntrack: ConntrackSettings = ConntrackSettings()
    sync_period: float = 30.0
    min_sync_period: float = 0.02
    bind_address: str = "0.0.0.0"  # its family is the one of the two that follow, where they are not given
    healthz: str = "0.0.0.0:10256"  # empty: none
    metrics: str = "127.0.0.1:10249"
    bind_hard: bool = False  # end when one of them cannot be had
    master: str = ""  # the API server's URL, in place of the kubeconfig's
    oom_score_adj: int | None = None
    verbosity: int = 0  # of the log
    file: str = ""  # where all this was read from: when it changes the proxy ends, to be started with it

    def local_pods(self, family: IPFamily, node: Node | None) -> frozenset[CIDR] | None:
        """Blocks of local sources, or None when nothing is known of the family."""
        if self.pod_interface is not None:
            return None
        if self.local_mode is LocalMode.CLUSTER_CIDR:
            blocks = [block for block in self.cluster_cidrs if block.family is family][:1]
        else:
            texts = (node.spec.pod_cidrs or [node.spec.pod_cidr]) if node is not None else []
            blocks = [block for block in readable(CIDR.parse, filter(None, texts)) if block.family is family]
        return frozenset(blocks) or None


def node_addresses(node: Node | None) -> list[Address]:
    """The Node's address of each family: internal before external ones, first before later ones."""
    if node is None:
        return []
    found: dict[IPFamily, Address] = {}
    for kind in ("InternalIP", "ExternalIP"):
        texts = (entry.address for entry in node.status.addresses if entry.type == kind)
        for address in readable(Address.parse, texts):
            found.setdefault(address.family, address)
    return list(found.values())


@lru_cache(64)
def _complain(complaint: str) -> None:
    """Once each: what is said of node and cluster is read over and over."""
    log.warning("left out of Node and ServiceCIDRs: %s", complaint)


def readable(parse: Callable[[str], T], texts: Iterable[str]) -> list[T]:
    """Those of the texts that can be parsed; no API server lets others pass."""
    found = (complaints := Complaints()).parsed(parse, texts)
    for complaint in complaints:
        _complain(complaint)
    return found


def supported_families() -> list[IPFamily]:
    """The families of this network namespace: IPv4 is taken for granted."""
    enabled = _ADDRESSES.exists() and (not _DISABLED.exists() or _DISABLED.read_text().strip() != "1")
    return [IPFamily.IPV4, IPFamily.IPV6] if enabled else [IPFamily.IPV4]
