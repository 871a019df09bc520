"""What a Pod takes of a node: resources it requests and host ports it binds (core/v1 PodSpec). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from twinstack.api.core import Container, Pod
from twinstack.scheduler.quantities import thousandths
from twinstack.scheduler.terms import Term, required_terms

PODS = "pods"

HostPort = tuple[str, str, int]  # address ("" for all), protocol, port
_ALL_ADDRESSES = ("", "0.0.0.0", "::")


class Footprint(NamedTuple):
    """`resources` by name in thousandths, the Pod itself among them; `owner` is the controller's uid.

    The rest is what other Pods ask of it: they may want to be near it, or are kept away by what it `repels`.
    """

    resources: dict[str, int]
    ports: frozenset[HostPort]
    owner: str
    priority: int = 0
    namespace: str = ""
    labels: Mapping[str, str] = MappingProxyType({})
    repels: tuple[Term, ...] = ()
    ending: bool = False


def footprint(pod: Pod) -> Footprint:
    meta = pod.metadata
    return Footprint(
        resources=_resources(pod),
        ports=_host_ports(pod),
        owner=next((ref.uid for ref in meta.owner_references if ref.controller), ""),
        priority=pod.spec.priority,
        namespace=meta.namespace,
        labels=meta.labels,
        repels=required_terms(pod, "podAntiAffinity"),
        ending=meta.deletion_timestamp is not None,
    )


def _resources(pod: Pod) -> dict[str, int]:
    """Containers run together, init containers one after the other before them, sidecars beside all that follows.

    What the Pod requests as a whole (KEP-2837) counts instead, its overhead on top. While it is resized, a container
    takes what it has until it has what it wants.
    """
    held = _held(pod)
    waits = bool(held) and _is_infeasible(pod)

    def requests(container: Container) -> Counter[str]:
        wanted = _amounts(container.resources.get("requests"))
        has = held.get(container.name)
        return wanted if has is None else has if waits else wanted | has

    running: Counter[str] = Counter()
    for container in pod.spec.containers:
        running.update(requests(container))
    sidecars: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in pod.spec.init_containers:
        if container.restart_policy == "Always":
            sidecars.update(requests(container))
            peak |= sidecars
        else:
            peak |= sidecars + requests(container)
    total = Counter(dict((running + sidecars) | peak))
    total |= _amounts((pod.spec.resources or {}).get("requests"))
    total.update(_amounts(pod.spec.overhead))
    total[PODS] = 1000
    return dict(total)


def _held(pod: Pod) -> dict[str, Counter[str]]:
    """What containers are known to have, by name (KEP-1287)."""
    found = {}
    for status in pod.all_container_statuses:
        if status.allocated_resources or status.resources:
            given = status.resources.get("requests") if isinstance(status.resources, dict) else None
            allocated = status.allocated_resources if isinstance(status.allocated_resources, dict) else None
            found[status.name] = _amounts(given) | _amounts(allocated)
    return found


def _is_infeasible(pod: Pod) -> bool:
    """Whether its node will never give it what it wants."""
    return any(c.type == "PodResizePending" and c.reason == "Infeasible" for c in pod.status.conditions)


def _amounts(written: Mapping[str, Any] | None) -> Counter[str]:
    return Counter({name: thousandths(str(amount)) for name, amount in (written or {}).items()})


def _host_ports(pod: Pod) -> frozenset[HostPort]:
    sidecars = [container for container in pod.spec.init_containers if container.restart_policy == "Always"]
    return frozenset(
        ("" if port.host_ip in _ALL_ADDRESSES else port.host_ip, port.protocol or "TCP", port.host_port)
        for container in (*pod.spec.containers, *sidecars)
        for port in container.ports
        if port.host_port
    )


def collide(wanted: frozenset[HostPort], taken: frozenset[HostPort] | set[HostPort]) -> bool:
    """Whether two sets of host ports cannot be bound on one node."""
    return any(
        (protocol, port) == (other_protocol, other_port) and (address == other or not address or not other)
        for address, protocol, port in wanted
        for other, other_protocol, other_port in taken
    )
