"""What of a cluster may change while it runs, and what may not and why: pure.

Nodes come and go, their labels change, a second family is added behind the first, the range of node ports
moves, a way to the outside is opened or closed. Everything else is woven into objects and addresses that exist.
"""

from __future__ import annotations

from twinstack.cluster.configuration import ClusterConfiguration, block_text
from twinstack.ip import CIDR


def refusals(old: ClusterConfiguration, new: ClusterConfiguration) -> list[str]:
    """What `new` asks for and cannot have, a phrase each; empty when the change may be made in place."""
    found = []
    if new.name != old.name:
        found.append(f"the name {new.name} (it is {old.name})")
    if not _grows(old.service_cidrs, new.service_cidrs):
        found.append(f"Services in {block_text(new.service_cidrs)} (they are in {block_text(old.service_cidrs)})")
    if not _grows(old.pod_cidrs, new.pod_cidrs):
        found.append(f"pods in {block_text(new.pod_cidrs)} (they are in {block_text(old.pod_cidrs)})")
    if new.api_port != old.api_port:
        found.append(f"the API at port {new.api_port} (it is at {old.api_port})")
    if new.proxy != old.proxy:
        found.append("a Service proxy (it has none)" if new.proxy else "no Service proxy (it has one)")
    return found


def _grows(old: tuple[CIDR, ...], new: tuple[CIDR, ...]) -> bool:
    """A second family may come behind the first; what is there stays, and stays primary."""
    return new[: len(old)] == old


def differences(old: ClusterConfiguration, new: ClusterConfiguration) -> list[str]:
    """What becomes of a change that may be made, for people; empty when there is none."""
    found = []
    if new.nodes != old.nodes:
        found.append(f"{old.nodes} node{'s become' if old.nodes > 1 else ' becomes'} {new.nodes}")
    if new.service_cidrs != old.service_cidrs:
        found.append(f"Services also in {new.service_cidrs[-1]}")
    if new.pod_cidrs != old.pod_cidrs:
        found.append(f"pods also in {new.pod_cidrs[-1]}")
    if new.node_ports != old.node_ports:
        found.append(f"node ports {new.node_ports}")
    if new.node_labels != old.node_labels:
        found.append("labels of nodes")
    if new.egress != old.egress:
        found.append("pods reach the outside" if new.egress else "pods no longer reach the outside")
    return found


def consequences(old: ClusterConfiguration, new: ClusterConfiguration) -> list[str]:
    """What is left for people to do after the change."""
    found = []
    if new.pod_cidrs != old.pod_cidrs and old.nodes:
        node = new.node_name(1)
        found.append(
            f"Nodes that were there keep pods of one family, because a Node's podCIDRs never change. "
            f"`kubectl drain {node} --ignore-daemonsets --force && kubectl delete node {node}` lets a node register "
            f"anew, with both"
        )
    if new.node_labels != old.node_labels:
        found.append("Labels that a node no longer has in the configuration stay until `kubectl label` removes them")
    return found
