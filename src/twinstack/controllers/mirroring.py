"""Which EndpointSlices an Endpoints object made by hand comes to (KEP-752, EndpointSlice mirroring). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from twinstack.api.core import Service
from twinstack.api.discovery import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from twinstack.api.endpoints import EndpointAddress, Endpoints, EndpointSubset
from twinstack.controllers import packing
from twinstack.controllers.endpoints import Group, PortKey, port_key
from twinstack.controllers.packing import Plan, Writer
from twinstack.controllers.slices import MANAGED_BY, SERVICE_NAME, TRIGGER_TIME
from twinstack.ip import Address, IPFamily

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"  # a lock of older clients, not somebody's endpoints
MAXIMUM = 1000  # endpoints a slice
_NOT_COPIED = frozenset({TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration"})

Families = dict[IPFamily, dict[PortKey, Group]]


class Mirror(NamedTuple):
    """What should be, with the number of addresses that are none, and of all that were left out."""

    families: Families
    invalid: int
    skipped: int


def is_mirrored(endpoints: Endpoints, service: Service | None) -> bool:
    """Only what belongs to a Service without selector, and says nothing against it, is mirrored."""
    meta = endpoints.metadata
    if service is None or service.spec.selector or LEADER in meta.annotations:
        return False
    return meta.labels.get(SKIP_MIRROR) != "true"


def mirror(endpoints: Endpoints, per_subset: int) -> Mirror:
    """Both families, whatever those of the Service are; of each subset `per_subset` addresses, ready ones first."""
    result: Families = {family: {} for family in IPFamily}
    invalid = skipped = 0
    for subset in endpoints.subsets:
        ports = _ports(subset)
        groups = {family: result[family].setdefault(port_key(ports), Group(ports, [])) for family in IPFamily}
        taken = 0
        for address, ready in _addresses(subset):
            if taken >= per_subset:
                skipped += 1
                continue
            try:
                parsed = Address.parse(address.ip)
            except ValueError:
                invalid += 1
                skipped += 1
                continue
            groups[parsed.family].endpoints.append(_endpoint(address, str(parsed), ready))
            taken += 1
    return Mirror(_without_empty(result), invalid, skipped)


def _addresses(subset: EndpointSubset) -> Iterable[tuple[EndpointAddress, bool]]:
    yield from ((address, True) for address in subset.addresses)
    yield from ((address, False) for address in subset.not_ready_addresses)


def _ports(subset: EndpointSubset) -> list[EndpointPort]:
    return [
        EndpointPort(name=port.name, protocol=port.protocol or "TCP", port=port.port, app_protocol=port.app_protocol)
        for port in subset.ports
    ]


def _endpoint(address: EndpointAddress, ip: str, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=[ip],
        conditions=EndpointConditions(ready=ready),
        hostname=address.hostname or None,
        target_ref=address.target_ref,
        node_name=address.node_name,
    )


def _without_empty(families: Mapping[IPFamily, Mapping[PortKey, Group]]) -> Families:
    return {
        family: {key: group for key, group in groups.items() if group.endpoints} for family, groups in families.items()
    }


def plan(endpoints: Endpoints, families: Families, existing: Iterable[EndpointSlice]) -> Plan:
    """Compare the mirrored slices that are there with what should be; nothing stands for no endpoints."""
    return packing.plan(
        families, existing, MAXIMUM, lambda family: _MirrorWriter(endpoints, family), placeholders=False
    )


class _MirrorWriter(Writer):
    """Labels and annotations are those of the Endpoints object."""

    def __init__(self, endpoints: Endpoints, family: IPFamily) -> None:
        meta = endpoints.metadata
        self._annotations = {name: text for name, text in meta.annotations.items() if name not in _NOT_COPIED}
        labels = meta.labels | {SERVICE_NAME: meta.name, MANAGED_BY: MANAGER}
        super().__init__(endpoints, family, labels)

    def differs(self, slice_: EndpointSlice) -> bool:
        return slice_.metadata.labels != self._labels or slice_.metadata.annotations != self._annotations

    def annotations(self, before: dict[str, str]) -> dict[str, str]:
        return dict(self._annotations)
