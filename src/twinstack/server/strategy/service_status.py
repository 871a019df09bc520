"""The status of a Service: what its load balancer reports."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twinstack.api.core import LoadBalancerIngress, Service
from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required
from twinstack.api.validation import dns_subdomain, each, is_ip, legacy_ip
from twinstack.server.strategy import service_traits as traits

JSON = dict[str, Any]

_IP_MODES = ("Proxy", "VIP")


def shown_status(status: JSON | None) -> JSON:
    """A copy in the API's form: `loadBalancer` is always there, an empty list never."""
    shown = dict(status or {})
    balancer = dict(shown.get("loadBalancer") or {})
    if not balancer.get("ingress"):
        balancer.pop("ingress", None)
    shown["loadBalancer"] = balancer
    return shown


def default_ingress(service: JSON) -> None:
    """`ipMode: VIP` where there is an address (KEP-1860), in place."""
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    for ingress in balancer.get("ingress") or ():
        if ingress.get("ip") and ingress.get("ipMode") is None:
            ingress["ipMode"] = "VIP"


def validate_status(service: Service, old_ips: Collection[str]) -> list[FieldError]:
    """Rules of `/status`; addresses in `old_ips` are stored already and stay valid."""
    field = "status.loadBalancer.ingress"
    ingresses = service.status.load_balancer.ingress
    if ingresses and service.spec.type != traits.LOAD_BALANCER:
        return [forbidden_field(field, "may only be used when `spec.type` is 'LoadBalancer'")]
    errors: list[FieldError] = []
    for index, ingress in enumerate(ingresses):
        errors += _ingress(f"{field}[{index}]", ingress, old_ips)
    return errors


def _ingress(field: str, ingress: LoadBalancerIngress, old_ips: Collection[str]) -> list[FieldError]:
    errors = legacy_ip(f"{field}.ip", ingress.ip, old_ips) if ingress.ip else []
    mode = ingress.ip_mode
    if mode is not None and mode not in _IP_MODES:
        errors.append(not_supported(f"{field}.ipMode", mode, _IP_MODES))
    if mode is None and ingress.ip:
        errors.append(required(f"{field}.ipMode", "must be specified when `ip` is set"))
    elif mode is not None and not ingress.ip:
        errors.append(forbidden_field(f"{field}.ipMode", "may not be specified when `ip` is not set"))
    if ingress.hostname:
        errors += each(f"{field}.hostname", ingress.hostname, dns_subdomain(ingress.hostname))
        if is_ip(ingress.hostname):
            errors.append(invalid(f"{field}.hostname", ingress.hostname, "must be a DNS name, not an IP address"))
    return errors
