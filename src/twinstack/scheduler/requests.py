"""What a Pod takes of a node: resources it requests and host ports it binds (core/v1 PodSpec). Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from twinstack.api.core import Container, Pod
from twinstack.scheduler.quantities import thousandths

PODS = "pods"

HostPort = tuple[str, str, int]  # address ("" for all), protocol, port
_ALL_ADDRESSES = ("", "0.0.0.0", "::")


class Footprint(NamedTuple):
    """`resources` by name in thousandths, the Pod itself among them; `owner` is the controller's uid."""

    resources: dict[str, int]
    ports: frozenset[HostPort]
    owner: str


def footprint(pod: Pod) -> Footprint:
    """Containers run together, init containers one after the other before them, sidecars beside all that follows."""
    running: Counter[str] = Counter()
    for container in pod.spec.containers:
        running.update(_requests(container))
    sidecars: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in pod.spec.init_containers:
        if container.restart_policy == "Always":
            sidecars.update(_requests(container))
            peak |= sidecars
        else:
            peak |= sidecars + Counter(_requests(container))
    total = dict((running + sidecars) | peak)
    total[PODS] = 1000
    owner = next((ref.uid for ref in pod.metadata.owner_references if ref.controller), "")
    return Footprint(total, _host_ports(pod), owner)


def _requests(container: Container) -> dict[str, int]:
    requests = container.resources.get("requests") or {}
    return {name: thousandths(str(amount)) for name, amount in requests.items()}


def _host_ports(pod: Pod) -> frozenset[HostPort]:
    return frozenset(
        ("" if port.host_ip in _ALL_ADDRESSES else port.host_ip, port.protocol or "TCP", port.host_port)
        for container in pod.spec.containers
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
