"""Which endpoints a Service has: its Pods per family and set of ports (discovery/v1, KEP-752, KEP-1672). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from twinstack.api.core import Container, Node, Pod, Service, ServicePort
from twinstack.api.discovery import Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone
from twinstack.api.meta import ObjectReference
from twinstack.controllers.podstate import is_finished, is_ready
from twinstack.ip import Address, IPFamily

ZONE = "topology.kubernetes.io/zone"

PortKey = tuple[tuple[str, str, int, str | None], ...]  # sorted (name, protocol, port, appProtocol)


class Group(NamedTuple):
    """Endpoints of one family that share a set of ports: what one set of slices holds."""

    ports: list[EndpointPort]
    endpoints: list[Endpoint]


class Desired(NamedTuple):
    """What should be. `absent_nodes` are nodes that Pods name and that do not exist: those Pods are left out."""

    families: dict[IPFamily, dict[PortKey, Group]]
    absent_nodes: set[str]


def families_of(service: Service) -> list[IPFamily]:
    """The families that get slices: exactly `spec.ipFamilies`, guessed for objects that predate the field."""
    if service.spec.ip_families:
        return [IPFamily(name) for name in service.spec.ip_families]
    if service.spec.cluster_ip in ("", "None"):
        return [IPFamily.IPV4, IPFamily.IPV6]
    return [Address.parse(service.spec.cluster_ip).family]


def desired_endpoints(service: Service, pods: Iterable[Pod], nodes: Mapping[str, Node]) -> Desired:
    """The endpoints of a Service. `pods` are those that its selector matches, in its namespace."""
    result = Desired({family: {} for family in families_of(service)}, set())
    for pod in pods:
        if is_finished(pod) or not pod.status.pod_ips:
            continue
        node_name = pod.spec.node_name
        if node_name and node_name not in nodes and not service.spec.publish_not_ready_addresses:
            result.absent_nodes.add(node_name)
            continue
        ports = resolve_ports(service, pod)
        key = port_key(ports)
        addresses = _addresses(pod)
        for family, groups in result.families.items():
            group = groups.get(key)
            if group is None:  # a Pod without an address of the family still makes the group
                group = groups[key] = Group(ports, [])
            own = [str(address) for address in addresses if address.family is family]
            if own:
                group.endpoints.append(_endpoint(service, pod, own, nodes.get(node_name)))
    return result


def _addresses(pod: Pod) -> list[Address]:
    """The Pod's addresses; the API still takes IPv4 text with leading zeros, which nobody can be sent to."""
    result = []
    for entry in pod.status.pod_ips:
        with suppress(ValueError):
            result.append(Address.parse(entry.ip))
    return result


def port_key(ports: list[EndpointPort] | None) -> PortKey:
    """Identity of a set of ports, whatever their order."""
    return tuple(
        sorted(
            ((port.name or "", port.protocol or "TCP", port.port or 0, port.app_protocol) for port in ports or []),
            key=lambda entry: (*entry[:3], entry[3] or ""),
        )
    )


def resolve_ports(service: Service, pod: Pod) -> list[EndpointPort]:
    """The Service's ports as this Pod has them; those whose name no container knows are left out."""
    result = []
    for port in service.spec.ports:
        number = _target_port(port, pod)
        if number is not None:
            protocol = port.protocol or "TCP"
            result.append(EndpointPort(name=port.name, protocol=protocol, port=number, app_protocol=port.app_protocol))
    return result


def _target_port(port: ServicePort, pod: Pod) -> int | None:
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    sidecars = (container for container in pod.spec.init_containers if container.restart_policy == "Always")
    return _named_port(port, pod.spec.containers) or _named_port(port, sidecars)


def _named_port(port: ServicePort, containers: Iterable[Container]) -> int | None:
    protocol = port.protocol or "TCP"
    for container in containers:
        for candidate in container.ports:
            if candidate.name == port.target_port and candidate.protocol == protocol:
                return candidate.container_port
    return None


def _endpoint(service: Service, pod: Pod, addresses: list[str], node: Node | None) -> Endpoint:
    meta = pod.metadata
    serving = is_ready(pod)
    terminating = meta.deletion_timestamp is not None
    ready = service.spec.publish_not_ready_addresses or (serving and not terminating)
    named = pod.spec.hostname and pod.spec.subdomain == service.metadata.name
    zone = node.metadata.labels.get(ZONE) if node is not None else None
    node_name = pod.spec.node_name or None
    return Endpoint(
        addresses=addresses,
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hostname=pod.spec.hostname if named else None,
        target_ref=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
        node_name=node_name,
        zone=zone or None,
        hints=_hints(service.spec.traffic_distribution, zone, node_name) if ready else None,
    )


def _hints(distribution: str | None, zone: str | None, node_name: str | None) -> EndpointHints | None:
    """Where the endpoint should be used (KEP-4444, KEP-3015). PreferClose is the older name of PreferSameZone."""
    if distribution not in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        return None
    zones = [ForZone(name=zone)] if zone else []
    nodes = [ForNode(name=node_name)] if node_name and distribution == "PreferSameNode" else []
    return EndpointHints(for_zones=zones, for_nodes=nodes) if zones or nodes else None
