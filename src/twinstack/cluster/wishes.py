"""What somebody asks for, on the command line or in a file, and the cluster that comes of it: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from twinstack.cluster.configuration import (
    DEFAULT_NAME,
    DEFAULT_NODES,
    FAMILIES,
    FLAGS,
    POD_CIDR,
    SERVICE_CIDR,
    ClusterConfiguration,
    Terms,
    blocks,
    check,
    names,
)
from twinstack.cluster.errors import ClusterError
from twinstack.ip import CIDR, IPFamily


class Wishes(NamedTuple):
    """None where nothing was said."""

    name: str = DEFAULT_NAME
    nodes: int | None = None
    ip_family: str | None = None
    service_cidr: str | None = None
    pod_cidr: str | None = None
    api_port: int | None = None
    proxy: bool | None = None
    node_labels: tuple[Mapping[str, str], ...] | None = None
    egress: bool | None = None
    terms: Terms = FLAGS


def configure(wishes: Wishes, api_port: int) -> ClusterConfiguration:
    """The new cluster that `wishes` describe, served on `api_port`. Raises ClusterError with advice."""
    services, pods = _asked(wishes)
    families = _families(wishes, services, pods)
    made = ClusterConfiguration(
        name=wishes.name,
        nodes=DEFAULT_NODES if wishes.nodes is None else wishes.nodes,
        service_cidrs=services or tuple(SERVICE_CIDR[family] for family in families),
        pod_cidrs=pods or tuple(POD_CIDR[family] for family in families),
        api_port=api_port,
        proxy=wishes.proxy is not False,
        node_labels=wishes.node_labels or (),
        egress=wishes.egress is True,
    )
    check(made, wishes.terms)
    return made


def amend(wishes: Wishes, existing: ClusterConfiguration) -> ClusterConfiguration:
    """`existing` with what is wished for in its place, and everything else as it is. Raises ClusterError.

    Asking for one more family in one place adds it in the others.
    """
    services, pods = _asked(wishes)
    families = _families(wishes, services, pods) if services or pods or wishes.ip_family else ()
    wanted = existing._replace(
        nodes=existing.nodes if wishes.nodes is None else wishes.nodes,
        service_cidrs=services or _fitting(existing.service_cidrs, families, SERVICE_CIDR),
        pod_cidrs=pods or _fitting(existing.pod_cidrs, families, POD_CIDR),
        api_port=existing.api_port if wishes.api_port is None else wishes.api_port,
        proxy=existing.proxy if wishes.proxy is None else wishes.proxy,
        node_labels=existing.node_labels if wishes.node_labels is None else wishes.node_labels,
        egress=existing.egress if wishes.egress is None else wishes.egress,
    )
    check(wanted, wishes.terms)
    return wanted


def _asked(wishes: Wishes) -> tuple[tuple[CIDR, ...], tuple[CIDR, ...]]:
    terms = wishes.terms
    services = blocks(terms.services, wishes.service_cidr) if wishes.service_cidr is not None else ()
    pods = blocks(terms.pods, wishes.pod_cidr) if wishes.pod_cidr is not None else ()
    return services, pods


def _families(wishes: Wishes, services: tuple[CIDR, ...], pods: tuple[CIDR, ...]) -> tuple[IPFamily, ...]:
    """The lists decide; without any, `ip_family` does."""
    families = tuple(block.family for block in services or pods)
    if wishes.ip_family is None:
        return families or FAMILIES["dual"]
    wanted = FAMILIES[wishes.ip_family]
    if families and set(families) != set(wanted):
        raise ClusterError(
            f"{wishes.terms.family} {wishes.ip_family} contradicts the CIDR blocks, which are of {names(families)}",
            f"leave {wishes.terms.family} out: the blocks decide",
        )
    return families or wanted


def _fitting(
    existing: tuple[CIDR, ...], families: tuple[IPFamily, ...], defaults: Mapping[IPFamily, CIDR]
) -> tuple[CIDR, ...]:
    """`existing` without families that are not wanted, and with the defaults of those that it lacks."""
    if not families:
        return existing
    kept = tuple(block for block in existing if block.family in families)
    there = {block.family for block in existing}
    return kept + tuple(defaults[family] for family in families if family not in there)
