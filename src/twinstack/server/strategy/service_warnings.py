"""Warnings about Services: what is accepted and of no effect, deprecated or oddly spelled."""

from __future__ import annotations

from twinstack.api.core import Service
from twinstack.api.validation import cidr_warnings, ip_warnings
from twinstack.server.strategy import service_traits as traits
from twinstack.server.strategy.service_validation import TOPOLOGY_HINTS, TOPOLOGY_MODE


def service_warnings(service: Service) -> list[str]:
    """Warnings about a valid Service, in the order of their headers, each once."""
    spec = service.spec
    warnings: list[str] = []
    if TOPOLOGY_HINTS in service.metadata.annotations:
        warnings.append(f"annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead")
    headless = traits.is_headless(spec)
    if headless:
        warnings += _headless(service)
    else:
        for index, ip in enumerate(spec.cluster_ips):
            warnings += ip_warnings(f"spec.clusterIPs[{index}]", ip)
    for index, ip in enumerate(spec.external_ips):
        warnings += ip_warnings(f"spec.externalIPs[{index}]", ip)
    if spec.external_ips and not headless and spec.type != traits.EXTERNAL_NAME:
        warnings.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if spec.load_balancer_ip:
        warnings += ip_warnings("spec.loadBalancerIP", spec.load_balancer_ip)
    for index, block in enumerate(spec.load_balancer_source_ranges):
        warnings += cidr_warnings(f"spec.loadBalancerSourceRanges[{index}]", block)
    if spec.type == traits.EXTERNAL_NAME and spec.external_ips:
        warnings.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if spec.type != traits.EXTERNAL_NAME and spec.external_name:
        warnings.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.traffic_distribution == "PreferClose":
        warnings.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return list(dict.fromkeys(warnings))


def _headless(service: Service) -> list[str]:
    spec = service.spec
    ignored = {
        "spec.loadBalancerIP": bool(spec.load_balancer_ip),
        "spec.externalIPs": bool(spec.external_ips),
        "spec.SessionAffinity": spec.session_affinity != "None",
    }
    return [f"{field} is ignored for headless services" for field, is_set in ignored.items() if is_set]


def status_warnings(service: Service) -> list[str]:
    """Warnings about addresses that a load balancer reports."""
    warnings: list[str] = []
    for index, ingress in enumerate(service.status.load_balancer.ingress):
        warnings += ip_warnings(f"status.loadBalancer.ingress[{index}]", ingress.ip)
    return warnings
