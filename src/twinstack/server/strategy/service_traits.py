"""Names and questions that every rule about Services needs."""

from __future__ import annotations

from twinstack.api.core import ServiceSpec
from twinstack.ip import CIDR, IPFamily

CLUSTER_IP = "ClusterIP"
NODE_PORT = "NodePort"
LOAD_BALANCER = "LoadBalancer"
EXTERNAL_NAME = "ExternalName"
TYPES = (CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT)

SINGLE_STACK = "SingleStack"
PREFER_DUAL_STACK = "PreferDualStack"
REQUIRE_DUAL_STACK = "RequireDualStack"

NO_IP = "None"  # `clusterIP` of a headless Service
CLUSTER = "Cluster"
LOCAL = "Local"


def is_headless(spec: ServiceSpec) -> bool:
    return spec.cluster_ips == [NO_IP]


def needs_cluster_ip(spec: ServiceSpec) -> bool:
    return spec.type != EXTERNAL_NAME


def is_proxied(spec: ServiceSpec) -> bool:
    """Whether the type is one of those that traffic policies speak of."""
    return spec.type in (CLUSTER_IP, NODE_PORT, LOAD_BALANCER)


def is_load_balancer(spec: ServiceSpec) -> bool:
    return spec.type == LOAD_BALANCER


def may_have_node_ports(spec: ServiceSpec) -> bool:
    """Whether explicit node ports are honoured."""
    return spec.type in (NODE_PORT, LOAD_BALANCER)


def needs_node_ports(spec: ServiceSpec) -> bool:
    """Whether a port without a node port is given one."""
    return spec.type == NODE_PORT or (
        spec.type == LOAD_BALANCER and spec.allocate_load_balancer_node_ports is not False
    )


def needs_health_check_port(spec: ServiceSpec) -> bool:
    return spec.type == LOAD_BALANCER and spec.external_traffic_policy == LOCAL


def is_externally_accessible(spec: ServiceSpec) -> bool:
    return may_have_node_ports(spec) or (spec.type == CLUSTER_IP and bool(spec.external_ips))


def node_ports(spec: ServiceSpec) -> set[int]:
    """The node ports that a stored Service holds; a type that never got any holds none."""
    return {port.node_port for port in spec.ports if port.node_port} if may_have_node_ports(spec) else set()


def configured_families(ranges: tuple[CIDR, ...]) -> tuple[IPFamily, ...]:
    """The families that Services may have: those of `--service-cluster-ip-range`, primary first."""
    return tuple(block.family for block in ranges)
