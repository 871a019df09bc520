"""Services and records to judge, and a state that holds them."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.api.core import Service, ServicePort, ServiceSpec
from twinstack.api.meta import ObjectMeta
from twinstack.api.networking import IPAddress, IPAddressSpec, ParentReference
from twinstack.ip import CIDR, Address
from twinstack.server.strategy.ipaddresses import ALLOCATOR, FAMILY_LABEL, MANAGED_LABEL

EARLY = "2026-01-01T00:00:00Z"
LATE = "2026-01-01T01:00:00Z"


def service(
    name: str, *ips: str, type_: str = "ClusterIP", ports: Iterable[int] = (), health: int = 0, made: str = EARLY
) -> Service:
    spec = ServiceSpec(
        type=type_,
        cluster_ip=ips[0] if ips else "",
        cluster_ips=list(ips),
        ports=[ServicePort(port=80 + index, node_port=port) for index, port in enumerate(ports)],
        health_check_node_port=health,
        external_traffic_policy="Local" if health else "",
    )
    meta = ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", resource_version="7", creation_timestamp=made)
    return Service(api_version="v1", kind="Service", metadata=meta, spec=spec)


def labels(family: str) -> dict[str, str]:
    return {FAMILY_LABEL: family, MANAGED_LABEL: ALLOCATOR}


def record(
    ip: str,
    owner: str,
    *,
    resource: str = "services",
    group: str = "",
    made: str = EARLY,
    marks: dict[str, str] | None = None,
) -> IPAddress:
    family = str(Address.parse(ip).family)
    meta = ObjectMeta(
        name=ip, resource_version="3", creation_timestamp=made, labels=labels(family) if marks is None else marks
    )
    parent = ParentReference(group=group, resource=resource, namespace="default", name=owner)
    return IPAddress(
        api_version="networking.k8s.io/v1", kind="IPAddress", metadata=meta, spec=IPAddressSpec(parent_ref=parent)
    )


class State:
    """`addresses.State` of the objects that it is given."""

    def __init__(
        self, *objects: Service | IPAddress, ranges: Iterable[str] = ("10.96.0.0/16", "fd00:96::/112")
    ) -> None:
        self.ranges = [CIDR.parse(text) for text in ranges]
        self._services = {each.metadata.name: each for each in objects if isinstance(each, Service)}
        self._records = {each.metadata.name: each for each in objects if isinstance(each, IPAddress)}

    def service(self, namespace: str, name: str) -> Service | None:
        return self._services.get(name) if namespace == "default" else None

    def record(self, address: Address) -> IPAddress | None:
        return self._records.get(str(address))
