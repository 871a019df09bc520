"""What a local cluster is made of: pure values, their defaults and the rules they must keep.

The order of the families in the CIDR lists decides which one is primary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twinstack.cluster.errors import ClusterError
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.ip.addresses import parse_cidrs

DEFAULT_NAME = "twinstack"
DEFAULT_NODES = 2
DEFAULT_API_PORT = 6443
DEFAULT_NODE_PORTS = "30000-32767"
MAX_NODES = 100

FAMILIES = {
    "dual": (IPFamily.IPV4, IPFamily.IPV6),
    "ipv4": (IPFamily.IPV4,),
    "ipv6": (IPFamily.IPV6,),
}
NODE_NETWORK = {
    IPFamily.IPV4: CIDR.parse("172.30.0.0/24"),
    IPFamily.IPV6: CIDR.parse("fd00:30::/64"),
}
POD_CIDR = {
    IPFamily.IPV4: CIDR.parse("10.244.0.0/16"),
    IPFamily.IPV6: CIDR.parse("fd00:10:244::/56"),
}
SERVICE_CIDR = {
    IPFamily.IPV4: CIDR.parse("10.96.0.0/16"),
    IPFamily.IPV6: CIDR.parse("fd00:10:96::/112"),
}
NODE_MASK_SIZE = {IPFamily.IPV4: 24, IPFamily.IPV6: 64}  # the part of the pod CIDR that one node gets
_MASK_DIFFERENCE = 16  # a controller manager refuses node masks further than this below the cluster's
# From the widest that the API allocates from (IPv6), to the least that holds the tenth address, as kubeadm asks.
_SERVICE_PREFIX = {IPFamily.IPV4: (8, 28), IPFamily.IPV6: (64, 124)}

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?")  # node names and socket paths hold it
_PORT_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})")


class Terms(NamedTuple):
    """What the parts of a configuration are called where a person wrote them."""

    services: str
    pods: str
    nodes: str
    family: str


FLAGS = Terms("--service-cidr", "--pod-cidr", "--nodes", "--ip-family")


class ClusterConfiguration(NamedTuple):
    """One cluster. `service_cidrs` and `pod_cidrs` have one block a family, primary first."""

    name: str
    nodes: int
    service_cidrs: tuple[CIDR, ...]
    pod_cidrs: tuple[CIDR, ...]
    api_port: int
    node_ports: str = DEFAULT_NODE_PORTS  # `first-last`
    proxy: bool = True  # whether Services are served; otherwise another program is to do it
    node_labels: tuple[Mapping[str, str], ...] = ()  # of node 1, node 2 …; may be shorter than there are nodes
    egress: bool = False  # whether nodes and pods reach what the machine reaches

    @property
    def service_families(self) -> tuple[IPFamily, ...]:
        """The families of Services, primary first."""
        return tuple(block.family for block in self.service_cidrs)

    @property
    def pod_families(self) -> tuple[IPFamily, ...]:
        """The families of nodes and pods, primary first."""
        return tuple(block.family for block in self.pod_cidrs)

    @property
    def switch_addresses(self) -> tuple[Address, ...]:
        """Where the API server is reached from nodes and pods, Services' primary family first."""
        return tuple(NODE_NETWORK[family].address(1) for family in self.service_families)

    @property
    def node_indexes(self) -> range:
        """Nodes count from 1."""
        return range(1, self.nodes + 1)

    def node_name(self, index: int) -> str:
        return f"{self.name}-{index}"

    def node_addresses(self, index: int) -> tuple[Address, ...]:
        """`172.30.0.11` and `fd00:30::11` for node 1: the same digits in both families."""
        number = 10 + index
        offset = {IPFamily.IPV4: number, IPFamily.IPV6: int(str(number), 16)}
        return tuple(NODE_NETWORK[family].address(offset[family]) for family in self.pod_families)

    def labels(self, index: int) -> Mapping[str, str]:
        """What a node is labelled with besides its agent's own labels."""
        return self.node_labels[index - 1] if index <= len(self.node_labels) else {}

    @property
    def description(self) -> str:
        """For people: `dual-stack, IPv4 first`."""
        first, *rest = self.service_families
        return f"dual-stack, {first} first" if rest else f"{first} only"

    def to_json(self) -> dict[str, Any]:
        """The form that is kept in the state directory."""
        return {
            "name": self.name,
            "nodes": self.nodes,
            "serviceCIDRs": [str(block) for block in self.service_cidrs],
            "podCIDRs": [str(block) for block in self.pod_cidrs],
            "apiPort": self.api_port,
            "nodePorts": self.node_ports,
            "proxy": self.proxy,
            "nodeLabels": [dict(labels) for labels in self.node_labels],
            "egress": self.egress,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ClusterConfiguration:
        """Raises KeyError or ValueError for what `to_json` did not write."""
        return cls(
            data["name"],
            data["nodes"],
            tuple(map(CIDR.parse, data["serviceCIDRs"])),
            tuple(map(CIDR.parse, data["podCIDRs"])),
            data["apiPort"],
            data.get("nodePorts", DEFAULT_NODE_PORTS),
            data.get("proxy", True),
            tuple(data.get("nodeLabels", ())),
            data.get("egress", False),
        )


def check(configuration: ClusterConfiguration, terms: Terms = FLAGS) -> None:
    """Raises ClusterError, in the terms of whoever wrote it, for a cluster that cannot be."""
    check_name(configuration.name)
    nodes = configuration.nodes
    if not 1 <= nodes <= MAX_NODES:
        raise ClusterError(f"{terms.nodes} {nodes}: a local cluster has 1 to {MAX_NODES} nodes")
    services, pods = configuration.service_families, configuration.pod_families
    if set(services) != set(pods):
        raise ClusterError(
            f"Services are of {names(services)} and pods of {names(pods)}",
            f"give {terms.services} and {terms.pods} the same families",
        )
    for block in configuration.service_cidrs:
        _check_service_block(block, terms.services)
    for block in configuration.pod_cidrs:
        _check_pod_block(block, nodes, terms.pods)
    _check_overlaps(configuration, terms)
    _check_node_ports(configuration.node_ports)


def is_name(name: str) -> bool:
    """Whether `name` can begin the names of nodes and namespaces."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Raises ClusterError unless it is one."""
    if not is_name(name):
        raise ClusterError(
            f"--name {name!r} is not a cluster name",
            "use at most 32 lower-case letters, digits and hyphens, a letter first and no hyphen last",
        )


def blocks(term: str, text: str) -> tuple[CIDR, ...]:
    """One block, or one a family, primary first. Raises ClusterError, also for bits set behind the prefix."""
    try:
        found = tuple(parse_cidrs(text))
        for part, block in zip(text.split(","), found, strict=True):
            if Address.parse(part.partition("/")[0]) != block.first:
                raise ClusterError(f"{term}: {part} has bits set behind its prefix", f"write {block}")
    except ValueError as error:
        raise ClusterError(
            f"{term}: {error}", f"write one block, or one a family: {term} 10.1.0.0/16,fd00:1::/112"
        ) from None
    return found


def block_text(cidrs: Sequence[CIDR]) -> str:
    """As flags have it: `10.96.0.0/16,fd00:10:96::/112`."""
    return ",".join(map(str, cidrs))


def names(families: Sequence[IPFamily]) -> str:
    """For people: `IPv4 and IPv6`."""
    return " and ".join(families)


def _check_service_block(block: CIDR, term: str) -> None:
    low, high = _SERVICE_PREFIX[block.family]
    if block.prefix > high:
        raise ClusterError(f"{term}: {block} is too small, it holds {block.size} addresses", f"use /{high} or larger")
    if block.prefix < low:
        raise ClusterError(f"{term}: {block} is too large", f"use /{low} or a smaller block")


def _check_pod_block(block: CIDR, nodes: int, term: str) -> None:
    mask = NODE_MASK_SIZE[block.family]
    if block.prefix < mask - _MASK_DIFFERENCE:
        raise ClusterError(
            f"{term}: {block} is too large for nodes of a /{mask} each",
            f"use /{mask - _MASK_DIFFERENCE} or a smaller block",
        )
    room = 1 << (mask - block.prefix) if block.prefix <= mask else 0
    if room < nodes:
        raise ClusterError(
            f"{term}: {block} has no room for {nodes} node{'s' * (nodes > 1)} of a /{mask} each",
            f"use /{mask - (nodes - 1).bit_length()} or a larger block",
        )


def _check_overlaps(configuration: ClusterConfiguration, terms: Terms) -> None:
    named = [(terms.services, block) for block in configuration.service_cidrs]
    named += [(terms.pods, block) for block in configuration.pod_cidrs]
    named += [("the network of the nodes", NODE_NETWORK[family]) for family in configuration.service_families]
    for position, (first, one) in enumerate(named):
        for second, other in named[position + 1 :]:
            if one.overlaps(other):
                raise ClusterError(f"{first} {one} overlaps {second} {other}", "choose blocks that are apart")


def _check_node_ports(text: str) -> None:
    found = _PORT_RANGE.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]) <= 65535:
        raise ClusterError(f"{text!r} is no range of node ports", f"write it as {DEFAULT_NODE_PORTS}")
