"""The subsets of an Endpoints object: the older form of what EndpointSlices say, of one family (core/v1). Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from twinstack.api.core import Pod, Service
from twinstack.api.endpoints import EndpointAddress, EndpointPort, Endpoints, EndpointSubset
from twinstack.api.meta import ObjectMeta, ObjectReference
from twinstack.controllers.endpoints import families_of, resolve_ports
from twinstack.controllers.podstate import is_finished, is_ready
from twinstack.controllers.slices import HEADLESS, TRIGGER_TIME
from twinstack.ip import Address, IPFamily

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
CAPACITY = 1000  # addresses of one object

_Port = tuple[str, str, int, str | None]  # name, protocol, port, appProtocol
_Member = tuple[int, str, bool]  # packed address, Pod uid, ready


def subsets_of(service: Service, pods: Iterable[Pod]) -> list[EndpointSubset]:
    """The subsets for the Pods that a Service selects: each address once, with all ports that it has.

    Addresses are in the order of their numbers, ports in that of their names.
    """
    publish = service.spec.publish_not_ready_addresses
    members: dict[_Member, EndpointAddress] = {}
    by_port: dict[_Port | None, set[_Member]] = {}
    for pod in pods:
        if is_finished(pod) or (pod.metadata.deletion_timestamp is not None and not publish):
            continue
        address = _address(service, pod)
        if address is None:
            continue
        member = (address.value, pod.metadata.uid, publish or is_ready(pod))
        for port in _ports(service, pod):
            by_port.setdefault(port, set()).add(member)
            members[member] = _endpoint_address(service, pod, str(address))
    by_members: dict[frozenset[_Member], list[_Port | None]] = {}
    for port, having in by_port.items():
        by_members.setdefault(frozenset(having), []).append(port)
    subsets = [_subset(members, having, ports) for having, ports in by_members.items()]
    return sorted(subsets, key=lambda subset: [(port.name, port.protocol, port.port) for port in subset.ports])


def _address(service: Service, pod: Pod) -> Address | None:
    """The Pod's address of the Service's first family; of its own first one where the Service has no family."""
    addresses = []
    for entry in pod.status.pod_ips:
        try:
            addresses.append(Address.parse(entry.ip))
        except ValueError:
            continue
    if not addresses:
        return None
    family = _family(service) or addresses[0].family
    return next((address for address in addresses if address.family is family), None)


def _family(service: Service) -> IPFamily | None:
    families = families_of(service)
    return families[0] if service.spec.ip_families or len(families) == 1 else None


def _ports(service: Service, pod: Pod) -> list[_Port | None]:
    """None stands for no port at all: a headless Service without ports still names its Pods."""
    if not service.spec.ports:
        return [None] if service.spec.cluster_ip == "None" else []
    return [
        (port.name or "", port.protocol or "TCP", port.port or 0, port.app_protocol)
        for port in resolve_ports(service, pod)
    ]


def _endpoint_address(service: Service, pod: Pod, ip: str) -> EndpointAddress:
    meta, spec = pod.metadata, pod.spec
    return EndpointAddress(
        ip=ip,
        hostname=spec.hostname if spec.hostname and spec.subdomain == service.metadata.name else "",
        node_name=spec.node_name,
        target_ref=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
    )


def _subset(
    members: Mapping[_Member, EndpointAddress], having: frozenset[_Member], ports: list[_Port | None]
) -> EndpointSubset:
    ordered = sorted(having)
    named = sorted((port for port in ports if port is not None), key=lambda port: (*port[:3], port[3] or ""))
    return EndpointSubset(
        addresses=[members[member] for member in ordered if member[2]],
        not_ready_addresses=[members[member] for member in ordered if not member[2]],
        ports=[EndpointPort(name=n, protocol=protocol, port=p, app_protocol=app) for n, protocol, p, app in named],
    )


def truncated(subsets: list[EndpointSubset], capacity: int = CAPACITY) -> tuple[list[EndpointSubset], bool]:
    """At most `capacity` addresses, ready ones first, shared by the subsets in proportion; whether any had to go."""
    ready = sum(len(subset.addresses) for subset in subsets)
    waiting = sum(len(subset.not_ready_addresses) for subset in subsets)
    if ready + waiting <= capacity:
        return subsets, False
    crowded = ready > capacity
    room, whole = (capacity, ready) if crowded else (capacity - ready, waiting)
    left = room
    result = []
    for subset in subsets:
        some = subset.addresses if crowded else subset.not_ready_addresses
        some = some[: min(math.ceil(len(some) / whole * room), left)]
        left -= len(some)
        addresses, not_ready = (some, []) if crowded else (subset.addresses, some)
        if addresses or not_ready:
            result.append(msgspec.structs.replace(subset, addresses=addresses, not_ready_addresses=not_ready))
    return result, True


def plan(
    service: Service, subsets: list[EndpointSubset], existing: Endpoints | None, trigger_time: str | None
) -> Endpoints | None:
    """The object to write; None when `existing` says the same already."""
    subsets, cut = truncated(subsets)
    if existing is not None and _says(existing, service, subsets, cut):
        return None
    before = existing.metadata if existing is not None else ObjectMeta()
    annotations = {key: text for key, text in before.annotations.items() if key not in (TRIGGER_TIME, OVER_CAPACITY)}
    if trigger_time is not None:
        annotations[TRIGGER_TIME] = trigger_time
    if cut:
        annotations[OVER_CAPACITY] = "truncated"
    labels = {key: text for key, text in service.metadata.labels.items() if key != HEADLESS} | {MANAGED_BY: MANAGER}
    if service.spec.cluster_ip in ("", "None"):
        labels[HEADLESS] = ""
    meta = service.metadata
    metadata = msgspec.structs.replace(
        before, name=meta.name, namespace=meta.namespace, labels=labels, annotations=annotations
    )
    return Endpoints(metadata=metadata, subsets=subsets)


def _says(existing: Endpoints, service: Service, subsets: list[EndpointSubset], cut: bool) -> bool:
    ours = (HEADLESS, MANAGED_BY)
    labels = existing.metadata.labels
    copied = {key: text for key, text in labels.items() if key not in ours}
    wanted = {key: text for key, text in service.metadata.labels.items() if key not in ours}
    return (
        existing.subsets == subsets
        and copied == wanted
        and labels.get(MANAGED_BY) == MANAGER
        and (OVER_CAPACITY in existing.metadata.annotations) == cut
    )
