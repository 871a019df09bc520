"""Cluster IPs: every address of a Service has its record, every record its Service (KEP-1880). Pure.

An address is compared by its value: a Service that stores `fd00:0::7` holds the record `fd00::7`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeGuard

from twinstack.api.core import Service
from twinstack.api.networking import IPAddress, ParentReference
from twinstack.api.resources import resource
from twinstack.api.times import parse_time
from twinstack.api.validation import parse_sloppy_ip
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.server.repair.findings import Finding
from twinstack.server.strategy.ipaddresses import ALLOCATOR, FAMILY_LABEL, MANAGED_LABEL, allocated_address
from twinstack.server.strategy.service_traits import EXTERNAL_NAME, NO_IP
from twinstack.store import Delete, Operation, Put

LEAK_SECONDS = 60.0  # a record may be older than its Service by as much as a write may take
YOUNG_SECONDS = 5.0

_IP_ADDRESSES = resource("networking.k8s.io", "ipaddresses")
_ALLOCATION = "ClusterIPAllocation"
_RECORD = "IPAddressAllocation"


class State(Protocol):
    """The stored objects, as of one moment."""

    @property
    def ranges(self) -> Sequence[CIDR]:
        """Of all ServiceCIDRs, ready or not."""

    def service(self, namespace: str, name: str) -> Service | None: ...

    def record(self, address: Address) -> IPAddress | None: ...


def cluster_ips(service: Service) -> list[str]:
    """The addresses that a Service holds, as it stores them; none without one or with `None`."""
    spec = service.spec
    if spec.cluster_ip in ("", NO_IP):
        return []
    return spec.cluster_ips or [spec.cluster_ip]


def address_of(text: str) -> Address | None:
    """The address that an allocation record names; None for what is no address."""
    parsed = parse_sloppy_ip(text)
    return Address.parse(parsed.preferred) if parsed is not None else None


def _holds(service: Service, address: Address | None) -> bool:
    return address is not None and any(address_of(text) == address for text in cluster_ips(service))


def service_findings(service: Service, state: State, now: str) -> Iterable[Finding]:
    """What is wrong with the addresses of one Service. `now` is the time of records that are made."""
    for text in cluster_ips(service):
        finding = _check_address(service, text, state, now)
        if finding is not None:
            yield finding


def _check_address(service: Service, text: str, state: State, now: str) -> Finding | None:
    address = address_of(text)
    if address is None:
        note = f"Cluster IP {text} is not a valid IP; please recreate Service"
        return Finding(service, "ClusterIPNotValid", "ClusterIPValidation", note)
    where = f"[{address.family}]"

    def found(reason: str, note: str, mend: Operation | None = None) -> Finding:
        return Finding(service, reason, _ALLOCATION, note, mend)

    if not any(_usable(block, address) for block in state.ranges):
        note = f"Cluster IP {where}: {address} is not within any configured Service CIDR; please recreate service"
        return found("ClusterIPOutOfRange", note)
    record = state.record(address)
    write = _writer(service, address, now)
    if record is None:
        note = f"Cluster IP {where}: {address} is not allocated; repairing"
        return found("ClusterIPNotAllocated", note, write(0))
    replace = write(int(record.metadata.resource_version))
    parent = record.spec.parent_ref
    if not _names(parent, service):
        other = _parent(parent, state)
        if other is not None and _holds(other, address):
            note = f"Cluster IP {where}:{address} was assigned to multiple services; please recreate service"
            return found("ClusterIPAlreadyAllocated", note)
        meta = service.metadata
        owner = f"Service {meta.namespace}/{meta.name}"
        note = f"the ClusterIP {where}: {address} for {owner} has a wrong reference; repairing"
        return found("ClusterIPNotAllocated", note, replace)
    if not _labels_are_right(record, address):
        return found("", "", replace)
    return None


def _usable(block: CIDR, address: Address) -> bool:
    """Whether an address of a block may be given: not its first, and of IPv4 not its last."""
    if not block.contains(address) or address == block.first:
        return False
    return block.family is IPFamily.IPV6 or address != block.last


def _writer(service: Service, address: Address, now: str) -> Callable[[int], Operation]:
    """Writes the record over the revision that is there. One write, so the address is free at no moment."""
    meta = service.metadata
    encode = allocated_address(address, meta.namespace, meta.name, now)
    return lambda expect: Put(_IP_ADDRESSES.key("", str(address)), encode, expect)


def _names(parent: ParentReference | None, service: Service) -> bool:
    meta = service.metadata
    return _is_service(parent) and (parent.namespace, parent.name) == (meta.namespace, meta.name)


def _is_service(parent: ParentReference | None) -> TypeGuard[ParentReference]:
    return parent is not None and (parent.group, parent.resource) == ("", "services")


def _parent(parent: ParentReference | None, state: State) -> Service | None:
    return state.service(parent.namespace, parent.name) if _is_service(parent) else None


def _labels_are_right(record: IPAddress, address: Address) -> bool:
    labels = record.metadata.labels
    return labels.get(FAMILY_LABEL) == str(address.family) and labels.get(MANAGED_LABEL) == ALLOCATOR


def record_finding(record: IPAddress, state: State, now: float) -> Finding | float | None:
    """What is wrong with one record; a number of seconds when that can only be told so much later.

    Records of others, without the allocator's label, are left alone. `now` is a Unix time.
    """
    meta = record.metadata
    if meta.labels.get(MANAGED_LABEL) != ALLOCATOR:
        return None
    parent = record.spec.parent_ref
    if not _is_service(parent):
        shown = _go_text(parent)
        note = f"IPAddress {meta.name} appears to have been modified, not referencing a Service {shown}: cleaning up"
        return _removal(record, "IPAddressNotAllocated", note)
    service = state.service(parent.namespace, parent.name)
    what = f"IPAddress: {meta.name} for Service {parent.namespace}/{parent.name}"
    age = now - parse_time(meta.creation_timestamp)
    if service is None:
        if age < LEAK_SECONDS:
            return LEAK_SECONDS - age
        return _removal(record, "IPAddressNotAllocated", f"{what} appears to have leaked: cleaning up")
    if _holds(service, address_of(meta.name)):
        return None
    grace = _grace(record, service)
    if age < grace:
        return grace - age
    return _removal(record, "IPAddressWrongReference", f"{what} has a wrong reference; cleaning up")


def _grace(record: IPAddress, service: Service) -> float:
    """Seconds for which a record may be ahead of its Service."""
    if service.spec.type == EXTERNAL_NAME:
        return LEAK_SECONDS
    younger = parse_time(record.metadata.creation_timestamp) > parse_time(service.metadata.creation_timestamp)
    return YOUNG_SECONDS if younger else 0.0


def _removal(record: IPAddress, reason: str, note: str) -> Finding:
    meta = record.metadata
    mend = Delete(_IP_ADDRESSES.key("", meta.name), int(meta.resource_version))
    return Finding(record, reason, _RECORD, note, mend)


def _go_text(parent: ParentReference | None) -> str:
    """As Go prints a pointer to a ParentReference."""
    if parent is None:
        return "nil"
    fields = f"Group:{parent.group},Resource:{parent.resource},Namespace:{parent.namespace},Name:{parent.name}"
    return f"&ParentReference{{{fields},}}"
