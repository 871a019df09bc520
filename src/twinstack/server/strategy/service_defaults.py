"""What the server fills in, carries over and wipes in a Service spec. All in place, never with an error."""

from __future__ import annotations

from collections.abc import Callable

from twinstack.api.core import ClientIPConfig, ServiceSpec, SessionAffinityConfig
from twinstack.api.validation import ip_family
from twinstack.ip import IPFamily
from twinstack.server.strategy import service_traits as traits

CLIENT_IP = "ClientIP"
_AFFINITY_SECONDS = 10800


def apply_defaults(spec: ServiceSpec) -> None:
    """Versioned defaults: the same on every decode, they look at nothing but the spec itself."""
    spec.type = spec.type or traits.CLUSTER_IP
    spec.session_affinity = spec.session_affinity or "None"
    if spec.session_affinity == "None":
        spec.session_affinity_config = None
    elif spec.session_affinity == CLIENT_IP and _affinity_seconds(spec) is None:
        spec.session_affinity_config = SessionAffinityConfig(
            client_ip=ClientIPConfig(timeout_seconds=_AFFINITY_SECONDS)
        )
    for port in spec.ports:
        port.protocol = port.protocol or "TCP"
        port.target_port = port.target_port or port.port
    if not spec.external_traffic_policy and traits.is_externally_accessible(spec):
        spec.external_traffic_policy = traits.CLUSTER
    if spec.internal_traffic_policy is None and traits.is_proxied(spec):
        spec.internal_traffic_policy = traits.CLUSTER
    if spec.allocate_load_balancer_node_ports is None and traits.is_load_balancer(spec):
        spec.allocate_load_balancer_node_ports = True
    spec.selector = spec.selector or None  # an empty map is not stored


def _affinity_seconds(spec: ServiceSpec) -> int | None:
    config = spec.session_affinity_config
    return config.client_ip.timeout_seconds if config and config.client_ip else None


def decorate(spec: ServiceSpec, primary: IPFamily) -> None:
    """Fill the dual-stack fields of a Service that an older server stored without them."""
    if spec.cluster_ip and not spec.cluster_ips:
        spec.cluster_ips = [spec.cluster_ip]
    if spec.ip_families or spec.type == traits.EXTERNAL_NAME:
        return
    if traits.is_headless(spec):
        both = not spec.selector
        spec.ip_families = [primary, primary.other] if both else [primary]
    else:
        families = [ip_family(ip) for ip in spec.cluster_ips]
        spec.ip_families = [family for family in families if family]
        both = len(spec.ip_families) == 2
    spec.ip_family_policy = traits.REQUIRE_DUAL_STACK if both else traits.SINGLE_STACK


def normalise_create(spec: ServiceSpec) -> None:
    """A client that knows only `clusterIP`. The reverse, only `clusterIPs`, is left for validation to refuse."""
    if spec.cluster_ip and not spec.cluster_ips:
        spec.cluster_ips = [spec.cluster_ip]


def normalise_update(new: ServiceSpec, old: ServiceSpec) -> None:
    """A client that knows only `clusterIP` changes it; `clusterIPs` follows."""
    if new.cluster_ip == old.cluster_ip:
        if old.cluster_ips and not new.cluster_ips:
            new.cluster_ips = list(old.cluster_ips)
    elif new.cluster_ips == old.cluster_ips:
        new.cluster_ips = [new.cluster_ip] if new.cluster_ip else []


def keep_allocated(new: ServiceSpec, old: ServiceSpec) -> None:
    """Carry over what the server once chose, so that sending the first manifest again changes nothing."""
    if traits.needs_cluster_ip(new) and traits.needs_cluster_ip(old):
        new.cluster_ip = new.cluster_ip or old.cluster_ip
        new.cluster_ips = new.cluster_ips or list(old.cluster_ips)
    if traits.needs_node_ports(new) and traits.needs_node_ports(old):
        _keep_node_ports(new, old)
    if traits.needs_health_check_port(new) and traits.needs_health_check_port(old):
        new.health_check_node_port = new.health_check_node_port or old.health_check_node_port


def _keep_node_ports(new: ServiceSpec, old: ServiceSpec) -> None:
    by_name = {port.name: port.node_port for port in old.ports}  # of equal names, the last
    explicit = {port.node_port for port in new.ports}
    for port in new.ports:
        if port.node_port == 0:
            kept = by_name.get(port.name, 0)
            if kept not in explicit:
                port.node_port = kept


def wipe_dependent(new: ServiceSpec, old: ServiceSpec) -> None:
    """Drop what a change of type made meaningless, if the client only sent back what was there."""

    def lost(question: Callable[[ServiceSpec], bool]) -> bool:
        return question(old) and not question(new)

    if lost(traits.needs_cluster_ip):
        if new.cluster_ip == old.cluster_ip and new.cluster_ips == old.cluster_ips:
            new.cluster_ip, new.cluster_ips = "", []
        if new.ip_families == old.ip_families:
            new.ip_families = []
        if new.ip_family_policy == old.ip_family_policy:
            new.ip_family_policy = None
    if lost(traits.may_have_node_ports):
        _wipe_node_ports(new, old)
    if lost(traits.needs_health_check_port) and new.health_check_node_port == old.health_check_node_port:
        new.health_check_node_port = 0
    if lost(traits.is_load_balancer):
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports:
            new.allocate_load_balancer_node_ports = None
        if new.load_balancer_class == old.load_balancer_class:
            new.load_balancer_class = None
    if lost(traits.is_externally_accessible) and new.external_traffic_policy == old.external_traffic_policy:
        new.external_traffic_policy = ""


def _wipe_node_ports(new: ServiceSpec, old: ServiceSpec) -> None:
    """Ports may have been added, removed or renamed, so long as no node port is new."""
    if {port.node_port for port in new.ports if port.node_port} <= traits.node_ports(old):
        for port in new.ports:
            port.node_port = 0
