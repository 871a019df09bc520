"""What a local cluster is made of: pure values, their defaults and the rules they must keep.

The order of the families in the CIDR lists decides which one is primary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from twinstack.cluster.errors import ClusterError
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.ip.addresses import parse_cidrs

DEFAULT_NAME = "twinstack"
DEFAULT_NODES = 2
DEFAULT_API_PORT = 6443
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
_SERVICE_PREFIX = {IPFamily.IPV4: (8, 30), IPFamily.IPV6: (64, 126)}  # /64: the widest that the API allocates from

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?")  # node names and socket paths hold it


class ClusterConfiguration(NamedTuple):
    """One cluster. `service_cidrs` and `pod_cidrs` have one block a family, primary first."""

    name: str
    nodes: int
    service_cidrs: tuple[CIDR, ...]
    pod_cidrs: tuple[CIDR, ...]
    api_port: int

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

    def node_name(self, index: int) -> str:
        """Nodes count from 1."""
        return f"{self.name}-{index}"

    def node_addresses(self, index: int) -> tuple[Address, ...]:
        """`172.30.0.11` and `fd00:30::11` for node 1: the same digits in both families."""
        number = 10 + index
        offset = {IPFamily.IPV4: number, IPFamily.IPV6: int(str(number), 16)}
        return tuple(NODE_NETWORK[family].address(offset[family]) for family in self.pod_families)

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
        )


class Wishes(NamedTuple):
    """What was asked for on the command line; None where nothing was said."""

    name: str = DEFAULT_NAME
    nodes: int | None = None
    ip_family: str | None = None
    service_cidr: str | None = None
    pod_cidr: str | None = None
    api_port: int | None = None


def configure(wishes: Wishes, api_port: int) -> ClusterConfiguration:
    """The cluster that `wishes` describe, served on `api_port`. Raises ClusterError with advice."""
    check_name(wishes.name)
    nodes = DEFAULT_NODES if wishes.nodes is None else wishes.nodes
    if not 1 <= nodes <= MAX_NODES:
        raise ClusterError(f"--nodes {nodes}: a local cluster has 1 to {MAX_NODES} nodes")
    services = _blocks("--service-cidr", wishes.service_cidr)
    pods = _blocks("--pod-cidr", wishes.pod_cidr)
    families = _families(wishes, services, pods)
    services = services or tuple(SERVICE_CIDR[family] for family in families)
    pods = pods or tuple(POD_CIDR[family] for family in families)
    for block in services:
        _check_service_block(block)
    for block in pods:
        _check_pod_block(block, nodes)
    _check_overlaps(services, pods)
    return ClusterConfiguration(wishes.name, nodes, services, pods, api_port)


def differences(wishes: Wishes, existing: ClusterConfiguration) -> list[str]:
    """The flags that ask for something else than `existing` is; empty when it is what was asked for."""
    filled = wishes._replace(
        service_cidr=wishes.service_cidr or (None if wishes.ip_family else _text(existing.service_cidrs)),
        pod_cidr=wishes.pod_cidr or (None if wishes.ip_family else _text(existing.pod_cidrs)),
        nodes=existing.nodes if wishes.nodes is None else wishes.nodes,
    )
    wanted = configure(filled, existing.api_port if wishes.api_port is None else wishes.api_port)
    found = []
    if wanted.nodes != existing.nodes:
        found.append(f"--nodes {wanted.nodes} (it has {existing.nodes})")
    if wishes.ip_family is not None and set(wanted.service_families) != set(existing.service_families):
        found.append(f"--ip-family {wishes.ip_family} (it is {existing.description})")
    if wishes.service_cidr is not None and wanted.service_cidrs != existing.service_cidrs:
        found.append(f"--service-cidr {wishes.service_cidr} (it has {_text(existing.service_cidrs)})")
    if wishes.pod_cidr is not None and wanted.pod_cidrs != existing.pod_cidrs:
        found.append(f"--pod-cidr {wishes.pod_cidr} (it has {_text(existing.pod_cidrs)})")
    if wanted.api_port != existing.api_port:
        found.append(f"--api-port {wanted.api_port} (it has {existing.api_port})")
    return found


def check_name(name: str) -> None:
    """Raises ClusterError unless `name` can begin the names of nodes and namespaces."""
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"--name {name!r} is not a cluster name",
            "use at most 32 lower-case letters, digits and hyphens, a letter first and no hyphen last",
        )


def _text(blocks: Sequence[CIDR]) -> str:
    return ",".join(map(str, blocks))


def _blocks(flag: str, text: str | None) -> tuple[CIDR, ...]:
    if text is None:
        return ()
    try:
        return tuple(parse_cidrs(text))
    except ValueError as error:
        raise ClusterError(
            f"{flag}: {error}", f"write one block, or one a family: {flag} 10.1.0.0/16,fd00:1::/112"
        ) from None


def _families(wishes: Wishes, services: tuple[CIDR, ...], pods: tuple[CIDR, ...]) -> tuple[IPFamily, ...]:
    """The lists decide; without any, `--ip-family` does."""
    of_services = tuple(block.family for block in services)
    of_pods = tuple(block.family for block in pods)
    if services and pods and set(of_services) != set(of_pods):
        raise ClusterError(
            f"Services are of {_names(of_services)} and pods of {_names(of_pods)}",
            "give --service-cidr and --pod-cidr the same families",
        )
    families = of_services or of_pods
    if wishes.ip_family is None:
        return families or FAMILIES["dual"]
    wanted = FAMILIES[wishes.ip_family]
    if families and set(families) != set(wanted):
        raise ClusterError(
            f"--ip-family {wishes.ip_family} contradicts the CIDR blocks, which are of {_names(families)}",
            "leave --ip-family out: the blocks decide",
        )
    return families or wanted


def _names(families: Sequence[IPFamily]) -> str:
    return " and ".join(families)


def _check_service_block(block: CIDR) -> None:
    low, high = _SERVICE_PREFIX[block.family]
    if not low <= block.prefix <= high:
        raise ClusterError(
            f"--service-cidr: {block} is not between /{low} and /{high}", f"the default is {SERVICE_CIDR[block.family]}"
        )


def _check_pod_block(block: CIDR, nodes: int) -> None:
    mask = NODE_MASK_SIZE[block.family]
    if block.prefix < mask - _MASK_DIFFERENCE:
        raise ClusterError(
            f"--pod-cidr: {block} is too large for nodes of a /{mask} each",
            f"use /{mask - _MASK_DIFFERENCE} or a smaller block",
        )
    room = 1 << (mask - block.prefix) if block.prefix <= mask else 0
    if room < nodes:
        raise ClusterError(
            f"--pod-cidr: {block} has no room for {nodes} node{'s' * (nodes > 1)} of a /{mask} each",
            f"use /{mask - (nodes - 1).bit_length()} or a larger block",
        )


def _check_overlaps(services: Sequence[CIDR], pods: Sequence[CIDR]) -> None:
    named = [("--service-cidr", block) for block in services] + [("--pod-cidr", block) for block in pods]
    named += [("the network of the nodes", NODE_NETWORK[block.family]) for block in services]
    for position, (first, one) in enumerate(named):
        for second, other in named[position + 1 :]:
            if one.overlaps(other):
                raise ClusterError(f"{first} {one} overlaps {second} {other}", "choose blocks that are apart")
