"""Services and EndpointSlices for tests, in few words."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.api.core import Service, ServicePort, ServiceSpec
from twinstack.api.discovery import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from twinstack.api.meta import ObjectMeta
from twinstack.dataplane.model import NOTHING, NodeView, ServiceState
from twinstack.dataplane.services import state_of
from twinstack.dataplane.views import Complaints, ServiceView, SliceView, read_service, read_slice
from twinstack.ip import IPFamily


def service(name: str, *addresses: str, ports: list[ServicePort] | None = None, **spec: object) -> Service:
    """A Service with these cluster IPs, in namespace `default`; one TCP port 80 unless told otherwise."""
    fields: dict[str, object] = {
        "type": "ClusterIP",
        "cluster_ip": addresses[0] if addresses else "None",
        "cluster_ips": list(addresses) or ["None"],
        "ports": ports if ports is not None else [ServicePort(name="http", protocol="TCP", port=80)],
    }
    return Service(metadata=ObjectMeta(namespace="default", name=name), spec=ServiceSpec(**(fields | spec)))  # type: ignore[arg-type]


def endpoint(
    address: str, *, node: str = "other", ready: bool = True, serving: bool = True, terminating: bool = False
) -> Endpoint:
    conditions = EndpointConditions(ready=ready, serving=serving, terminating=terminating)
    return Endpoint(addresses=[address], node_name=node, conditions=conditions)


def slice_(
    owner: str,
    family: IPFamily,
    endpoints: list[Endpoint],
    *,
    ports: list[EndpointPort] | None = None,
    suffix: str = "a",
) -> EndpointSlice:
    """A slice of `default/owner`; port `http` 8080 unless told otherwise."""
    labels = {"kubernetes.io/service-name": owner}
    return EndpointSlice(
        metadata=ObjectMeta(namespace="default", name=f"{owner}-{family.lower()}-{suffix}", labels=labels),
        address_type=family,
        endpoints=endpoints,
        ports=ports if ports is not None else [EndpointPort(name="http", protocol="TCP", port=8080)],
    )


def view(service_: Service) -> ServiceView:
    found = read_service(service_, complaints := Complaints())
    assert found is not None
    assert not complaints
    return found


def slice_view(slice__: EndpointSlice) -> SliceView:
    found = read_slice(slice__, complaints := Complaints())
    assert found is not None
    assert not complaints
    return found


def computed(service_: Service, slices: Iterable[EndpointSlice], family: IPFamily, node: NodeView) -> ServiceState:
    """What the objects ask of a node."""
    found = read_service(service_, Complaints())
    return state_of(found, [slice_view(each) for each in slices], family, node) if found is not None else NOTHING
