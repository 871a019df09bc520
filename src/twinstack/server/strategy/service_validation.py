"""What a Service must be, field by field, in the order in which errors are reported. Pure, changes nothing."""

from __future__ import annotations

from collections.abc import Collection

from twinstack.api.core import Service, ServicePort, ServiceSpec
from twinstack.api.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from twinstack.api.validation import (
    dns_label,
    dns_subdomain,
    each,
    ip_family,
    labels,
    legacy_cidr,
    legacy_ip,
    non_special_ip,
    port_name,
    port_number,
    qualified_name,
)
from twinstack.ip import IPFamily
from twinstack.server.strategy import service_traits as traits

SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"

_POLICIES = (traits.PREFER_DUAL_STACK, traits.REQUIRE_DUAL_STACK, traits.SINGLE_STACK)
_FAMILIES = (IPFamily.IPV4, IPFamily.IPV6)
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_AFFINITIES = ("ClientIP", "None")
_TRAFFIC_POLICIES = (traits.CLUSTER, traits.LOCAL)
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_ONLY_LOAD_BALANCER = "may only be used when `type` is 'LoadBalancer'"
_MAX_AFFINITY_SECONDS = 86400


def validate_spec(new: Service, old: Service | None) -> list[FieldError]:
    """All rules of annotations and spec; those of names and labels of metadata come before, elsewhere."""
    spec, old_spec = new.spec, old.spec if old else None
    return [
        *_topology(new.metadata.annotations),
        *_ports_and_type(spec),
        *_ports(spec),
        *(labels("spec.selector", spec.selector) if spec.selector else ()),
        *_session_affinity(spec),
        *(validate_cluster_ip_fields(spec, old_spec) if spec.type != traits.EXTERNAL_NAME else ()),
        *_external_ips(spec, old_spec),
        *_type(spec),
        *_duplicate_ports(spec),
        *_source_ranges(new, old),
        *_load_balancer(spec),
        *_external_traffic(spec),
        *_internal_traffic(spec),
    ]


def validate_cluster_ip_fields(spec: ServiceSpec, old: ServiceSpec | None) -> list[FieldError]:
    """clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy against each other (not for ExternalName)."""
    ips = spec.cluster_ips
    errors: list[FieldError] = []
    if spec.cluster_ip:
        if not ips:
            errors.append(required("spec.clusterIPs"))
        elif ips[0] != spec.cluster_ip:
            errors.append(invalid("spec.clusterIPs", ips, "first value must match `clusterIP`"))
    elif ips:
        errors.append(invalid("spec.clusterIPs", ips, "must be empty when `clusterIP` is not specified"))
    errors += _family_texts(spec)
    texts = _cluster_ip_texts(ips, old.cluster_ips if old else ())
    errors += texts
    if len(ips) > 2:
        errors.append(invalid("spec.clusterIPs", ips, "may only hold up to 2 values"))
    if texts:
        return errors
    families = [ip_family(ip) for ip in ips]
    if len(ips) > 1 and not all(family in families for family in _FAMILIES):
        errors.append(invalid("spec.clusterIPs", ips, "may specify no more than one IP for each IP family"))
    if traits.is_headless(spec):
        return errors
    for index, (ip, actual, expected) in enumerate(zip(ips, families, spec.ip_families, strict=False)):
        if expected in _FAMILIES and actual != expected:
            detail = f"expected an {expected} value as indicated by `ipFamilies[{index}]`"
            errors.append(invalid(f"spec.clusterIPs[{index}]", ip, detail))
    return errors


def _family_texts(spec: ServiceSpec) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, family in enumerate(spec.ip_families):
        field = f"spec.ipFamilies[{index}]"
        if family not in _FAMILIES:
            errors.append(not_supported(field, family, _FAMILIES))
        if family in seen:
            errors.append(duplicate(field, family))
        seen.add(family)
    if spec.ip_family_policy is not None and spec.ip_family_policy not in _POLICIES:
        errors.append(not_supported("spec.ipFamilyPolicy", spec.ip_family_policy, _POLICIES))
    return errors


def _cluster_ip_texts(ips: list[str], old: Collection[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, ip in enumerate(ips):
        if index or ip != traits.NO_IP:
            errors += legacy_ip(f"spec.clusterIPs[{index}]", ip, old)
        elif len(ips) > 1:
            errors.append(invalid("spec.clusterIPs", ips, "'None' must be the first and only value"))
    return errors


def _topology(annotations: dict[str, str]) -> list[FieldError]:
    hints, mode = annotations.get(TOPOLOGY_HINTS), annotations.get(TOPOLOGY_MODE)
    if hints is None or mode is None or hints == mode:
        return []
    detail = f"must match annotations[{TOPOLOGY_HINTS}] when both are specified"
    return [invalid(f"metadata.annotations[{TOPOLOGY_MODE}]", mode, detail)]


def _ports_and_type(spec: ServiceSpec) -> list[FieldError]:
    """What each type demands and refuses."""
    headless = traits.is_headless(spec)
    errors: list[FieldError] = []
    if not spec.ports and not headless and spec.type != traits.EXTERNAL_NAME:
        errors.append(required("spec.ports"))
    if headless and spec.type in (traits.LOAD_BALANCER, traits.NODE_PORT):
        detail = f"may not be set to 'None' for {spec.type} services"
        errors.append(invalid("spec.clusterIPs[0]", traits.NO_IP, detail))
    if spec.type != traits.EXTERNAL_NAME:
        return errors
    present = {
        "spec.clusterIPs": bool(spec.cluster_ips),
        "spec.ipFamilies": bool(spec.ip_families),
        "spec.ipFamilyPolicy": spec.ip_family_policy is not None,
    }
    detail = "may not be set for ExternalName services"
    errors += [forbidden_field(field, detail) for field, is_set in present.items() if is_set]
    if spec.external_name:
        name = spec.external_name.removesuffix(".")
        errors += each("spec.externalName", name, dns_subdomain(name))
    else:
        errors.append(required("spec.externalName"))
    return errors


def _ports(spec: ServiceSpec) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(spec.ports):
        field = f"spec.ports[{index}]"
        if port.name:
            errors += each(f"{field}.name", port.name, dns_label(port.name))
            if port.name in names:
                errors.append(duplicate(f"{field}.name", port.name))
            names.add(port.name)
        elif len(spec.ports) > 1:
            errors.append(required(f"{field}.name"))
        errors += _port(field, port)
    return errors


def _port(field: str, port: ServicePort) -> list[FieldError]:
    errors = [invalid(f"{field}.port", port.port, message) for message in port_number(port.port)]
    if port.protocol not in _PROTOCOLS:
        errors.append(not_supported(f"{field}.protocol", port.protocol, _PROTOCOLS))
    target = port.target_port
    messages = port_name(target) if isinstance(target, str) else port_number(target)
    errors += [invalid(f"{field}.targetPort", target, message) for message in messages]
    if port.app_protocol is not None:
        errors += each(f"{field}.appProtocol", port.app_protocol, qualified_name(port.app_protocol))
    return errors


def _session_affinity(spec: ServiceSpec) -> list[FieldError]:
    if spec.session_affinity not in _AFFINITIES:
        return [not_supported("spec.sessionAffinity", spec.session_affinity, _AFFINITIES)]
    config = spec.session_affinity_config
    seconds = config.client_ip.timeout_seconds if config and config.client_ip else None
    if seconds is None or 0 < seconds <= _MAX_AFFINITY_SECONDS:
        return []
    field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    return [invalid(field, seconds, f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}")]


def _external_ips(spec: ServiceSpec, old: ServiceSpec | None) -> list[FieldError]:
    errors: list[FieldError] = []
    known = frozenset(old.external_ips if old else ())
    for index, ip in enumerate(spec.external_ips):
        field = f"spec.externalIPs[{index}]"
        errors += legacy_ip(field, ip, known) or non_special_ip(field, ip)
    return errors


def _type(spec: ServiceSpec) -> list[FieldError]:
    if spec.type not in traits.TYPES:
        return [not_supported("spec.type", spec.type, traits.TYPES)]
    if spec.type != traits.CLUSTER_IP:
        return []
    detail = "may not be used when `type` is 'ClusterIP'"
    return [
        forbidden_field(f"spec.ports[{index}].nodePort", detail)
        for index, port in enumerate(spec.ports)
        if port.node_port
    ]


def _duplicate_ports(spec: ServiceSpec) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.ports):
        pair = (port.protocol, port.node_port)
        if port.node_port and pair in seen:
            errors.append(duplicate(f"spec.ports[{index}].nodePort", port.node_port))
        seen.add(pair)
    seen.clear()
    for index, port in enumerate(spec.ports):
        pair = (port.protocol, port.port)
        if pair in seen:  # printed by the names of the server's internal type
            key = {"Name": "", "Protocol": port.protocol, "AppProtocol": None, "Port": port.port}
            errors.append(duplicate(f"spec.ports[{index}]", key | {"TargetPort": 0, "NodePort": 0}))
        seen.add(pair)
    return errors


def _source_ranges(new: Service, old: Service | None) -> list[FieldError]:
    """The field; or the annotation that it replaced, judged only when it changes."""
    spec = new.spec
    annotation = new.metadata.annotations.get(SOURCE_RANGES)
    if spec.load_balancer_source_ranges:
        field = "spec.LoadBalancerSourceRanges"
        stored = frozenset(old.spec.load_balancer_source_ranges if old else ())
        texts = enumerate(spec.load_balancer_source_ranges)
        errors = [error for i, text in texts for error in legacy_cidr(f"{field}[{i}]", text.strip(), stored)]
    elif annotation is not None:
        field = f"metadata.annotations[{SOURCE_RANGES}]"
        unchanged = old is not None and old.metadata.annotations.get(SOURCE_RANGES) == annotation
        errors = [] if unchanged else _annotated_ranges(field, annotation)
    else:
        return []
    return errors if spec.type == traits.LOAD_BALANCER else [forbidden_field(field, _ONLY_LOAD_BALANCER), *errors]


def _annotated_ranges(field: str, annotation: str) -> list[FieldError]:
    texts = annotation.strip().split(",") if annotation.strip() else []
    return [error for text in texts for error in legacy_cidr(field, text.strip())]


def _load_balancer(spec: ServiceSpec) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec.allocate_load_balancer_node_ports is not None and spec.type != traits.LOAD_BALANCER:
        errors.append(forbidden_field("spec.allocateLoadBalancerNodePorts", _ONLY_LOAD_BALANCER))
    return errors + validate_load_balancer_class(spec)


def validate_load_balancer_class(spec: ServiceSpec) -> list[FieldError]:
    value = spec.load_balancer_class
    if value is None:
        return []
    if spec.type != traits.LOAD_BALANCER:
        return [forbidden_field("spec.loadBalancerClass", _ONLY_LOAD_BALANCER)]
    return each("spec.loadBalancerClass", value, qualified_name(value))


def _external_traffic(spec: ServiceSpec) -> list[FieldError]:
    policy, port = spec.external_traffic_policy, spec.health_check_node_port
    errors: list[FieldError] = []
    if not traits.is_externally_accessible(spec):
        if policy:
            detail = "may only be set for externally-accessible services"
            errors.append(invalid("spec.externalTrafficPolicy", policy, detail))
    elif policy not in _TRAFFIC_POLICIES:
        errors.append(not_supported("spec.externalTrafficPolicy", policy, _TRAFFIC_POLICIES))
    if traits.needs_health_check_port(spec):
        if port:
            errors += [invalid("spec.healthCheckNodePort", port, message) for message in port_number(port)]
        else:
            errors.append(required("spec.healthCheckNodePort"))
    elif port:
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid("spec.healthCheckNodePort", port, detail))
    return errors


def _internal_traffic(spec: ServiceSpec) -> list[FieldError]:
    errors: list[FieldError] = []
    policy, distribution = spec.internal_traffic_policy, spec.traffic_distribution
    if policy is not None and policy not in _TRAFFIC_POLICIES:
        errors.append(not_supported("spec.internalTrafficPolicy", policy, _TRAFFIC_POLICIES))
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        errors.append(not_supported("spec.trafficDistribution", distribution, _DISTRIBUTIONS))
    return errors
