"""Which address blocks a cluster gives its nodes: the flags, and what is taken. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from twinstack.ip import CIDR, IPFamily
from twinstack.ip.allocator import BlockAllocator

DEFAULT_MASKS = {IPFamily.IPV4: 24, IPFamily.IPV6: 64}
_MOST_IPV6_BITS = 16  # node mask minus cluster mask: upstream's bitmap ends there


class FlagError(ValueError):
    """Flags that contradict each other; the message is upstream's."""


class Misfit(ValueError):
    """A node holds a block that the configured ranges do not have."""


def cluster_cidrs(text: str) -> list[CIDR]:
    """`--cluster-cidr`: one block, or one a family, primary first. Raises FlagError."""
    if not text.strip():
        raise FlagError("Controller: Must specify --cluster-cidr if --allocate-node-cidrs is set")
    try:
        blocks = [CIDR.parse(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise FlagError(f"--cluster-cidr: {error}") from None
    if len(blocks) > 1 and len({block.family for block in blocks}) < 2:
        raise FlagError(
            f"len of ClusterCIDRs=={len(blocks)} and they are not configured as dual stack "
            "(at least one from each IPFamily"
        )
    if len(blocks) > 2:
        raise FlagError(f"length of clusterCIDRs is:{len(blocks)} more than max allowed of 2")
    return blocks


def service_cidrs(text: str) -> list[CIDR]:
    """`--service-cluster-ip-range`: up to two blocks that nodes do not get. Raises FlagError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > 2:
        raise FlagError("--service-cluster-ip-range can not contain more than two entries")
    try:
        return [CIDR.parse(part) for part in parts]
    except ValueError as error:
        raise FlagError(f"--service-cluster-ip-range: {error}") from None


def node_masks(clusters: Sequence[CIDR], mask: int | None, mask_ipv4: int | None, mask_ipv6: int | None) -> list[int]:
    """Prefix lengths of a node's blocks, in the order of `clusters`, from the three mask flags. Raises FlagError."""
    by_family = {IPFamily.IPV4: mask_ipv4, IPFamily.IPV6: mask_ipv6}
    if mask is not None and len(clusters) > 1:
        raise FlagError("usage of --node-cidr-mask-size is not allowed with dual-stack clusters")
    if mask is not None and (mask_ipv4 is not None or mask_ipv6 is not None):
        raise FlagError(
            "usage of --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6 is not allowed if "
            "--node-cidr-mask-size is set. For dual-stack clusters please unset it and use IPFamily specific flags"
        )
    if len(clusters) == 1:
        family = clusters[0].family
        if by_family[family.other] is not None:
            flag = f"--node-cidr-mask-size-{family.other.lower()}"
            raise FlagError(f"usage of {flag} is not allowed for a single-stack {family} cluster")
    sizes = []
    for cluster in clusters:
        given = mask if mask is not None else by_family[cluster.family]
        size = DEFAULT_MASKS[cluster.family] if given is None else given
        if size < cluster.prefix or size > cluster.family.bits:
            raise FlagError(
                "Controller: Invalid --cluster-cidr, mask size of cluster CIDR must be less than or equal to "
                "--node-cidr-mask-size configured for CIDR family"
            )
        if cluster.family is IPFamily.IPV6 and size - cluster.prefix > _MOST_IPV6_BITS:
            raise FlagError("New CIDR set failed; the node CIDR size is too big")
        sizes.append(size)
    return sizes


class NodeCIDRs:
    """The blocks of all nodes: one from each cluster CIDR a node, in the order of the flag."""

    def __init__(self, clusters: Sequence[CIDR], masks: Sequence[int], reserved: Sequence[CIDR] = ()) -> None:
        """`reserved` are Service ranges: where they overlap, nodes get nothing."""
        self._pools = [BlockAllocator(cluster, mask) for cluster, mask in zip(clusters, masks, strict=True)]
        for pool in self._pools:
            for block in reserved:
                if block.overlaps(pool.cidr):
                    pool.occupy(block)
        self._held: dict[str, list[CIDR]] = {}

    def allocate(self, node: str) -> list[CIDR] | None:
        """A block of each range for `node`, the same ones if it is asked again; None when one is exhausted."""
        held = self._held.get(node)
        if held is not None:
            return held
        blocks: list[CIDR] = []
        for pool in self._pools:
            block = pool.allocate()
            if block is None:
                for taken, other in zip(blocks, self._pools, strict=False):
                    other.release(taken)
                return None
            blocks.append(block)
        self._held[node] = blocks
        return blocks

    def occupy(self, node: str, texts: Sequence[str]) -> None:
        """Mark what `node` has already: entry i lies in range i. Raises Misfit, and marks nothing then."""
        blocks = []
        for index, text in enumerate(texts):
            if index >= len(self._pools):
                raise Misfit(
                    f"node:{node} has an allocated cidr: {text} at index:{index} that does not exist in cluster cidrs "
                    "configuration"
                )
            try:
                block = CIDR.parse(text)
            except ValueError:
                raise Misfit(f"failed to parse node {node}, CIDR {text}") from None
            cluster = self._pools[index].cidr
            if not cluster.overlaps(block):
                raise Misfit(
                    f"failed to mark cidr[{text}] at idx [{index}] as occupied for node: {node}: "
                    f"cidr {block} is out the range of cluster cidr {cluster}"
                )
            blocks.append(block)
        if self._held.get(node) != blocks:
            self.release(node)
            for block, pool in zip(blocks, self._pools, strict=False):
                pool.occupy(block)
            self._held[node] = blocks

    def release(self, node: str) -> None:
        """Give back what `node` has; one that has nothing is no error."""
        for block, pool in zip(self._held.pop(node, ()), self._pools, strict=False):
            pool.release(block)
