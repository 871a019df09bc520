"""What may change in a Service: the primary address and family stay, the secondary comes and goes."""

from __future__ import annotations

from twinstack.api.core import ServiceSpec
from twinstack.api.errors import FieldError, forbidden_field, invalid
from twinstack.api.metadata import IMMUTABLE
from twinstack.server.strategy import service_traits as traits
from twinstack.server.strategy.service_validation import validate_load_balancer_class

_FIXED = "may not change once set"


def validate_update(new: ServiceSpec, old: ServiceSpec) -> list[FieldError]:
    """Rules that compare; they come before those of `validate_spec`."""
    errors: list[FieldError] = []
    if traits.EXTERNAL_NAME not in (new.type, old.type):
        errors += _cluster_ips(new, old)
        errors += _families(new, old)
    if new.type == old.type == traits.LOAD_BALANCER and new.load_balancer_class != old.load_balancer_class:
        errors.append(invalid("spec.loadBalancerClass", new.load_balancer_class, _FIXED))
    errors += validate_load_balancer_class(new)  # and once more with the rest of the spec, as upstream does
    needed = traits.needs_health_check_port(new) and traits.needs_health_check_port(old)
    if needed and new.health_check_node_port != old.health_check_node_port:
        errors.append(forbidden_field("spec.healthCheckNodePort", IMMUTABLE))
    return errors


def _cluster_ips(new: ServiceSpec, old: ServiceSpec) -> list[FieldError]:
    before, after = old.cluster_ips, new.cluster_ips
    if traits.is_headless(old) and traits.is_headless(new):
        return []
    if len(before) == len(after):
        return [
            invalid(f"spec.clusterIPs[{index}]", after, _FIXED)
            for index, (was, now) in enumerate(zip(before, after, strict=True))
            if was != now
        ]
    if not after:
        return [invalid("spec.clusterIPs[0]", after, "primary clusterIP can not be unset")]
    errors = []
    if before and before[0] != after[0]:
        errors.append(invalid("spec.clusterIPs[0]", after, _FIXED))
    if len(after) < len(before):
        errors += _released(new, "clusterIP")
    return errors


def _families(new: ServiceSpec, old: ServiceSpec) -> list[FieldError]:
    """Every mismatch is reported at index 0, and with the cluster IPs where the lengths differ: so upstream."""
    before, after = old.ip_families, new.ip_families
    if traits.is_headless(old) or traits.is_headless(new):
        return []
    if len(before) == len(after):
        return [
            invalid("spec.ipFamilies[0]", after, _FIXED) for was, now in zip(before, after, strict=True) if was != now
        ]
    if not new.cluster_ips:
        return [invalid("spec.ipFamilies[0]", after, "primary ipFamily can not be unset")]
    errors = []
    if before and after and before[0] != after[0]:
        errors.append(invalid("spec.ipFamilies[0]", new.cluster_ips, _FIXED))
    if len(after) < len(before):
        errors += _released(new, "ipFamily")
    return errors


def _released(new: ServiceSpec, what: str) -> list[FieldError]:
    if new.ip_family_policy == traits.SINGLE_STACK:
        return []
    detail = f"must be set to 'SingleStack' when releasing the secondary {what}"
    return [invalid("spec.ipFamilyPolicy", new.ip_family_policy, detail)]
