"""Which families a Service has: policy, families and cluster IPs made consistent (KEP-563).

The steps run in order, in place, on create and on update; the first that finds errors ends the request with
exactly those. ExternalName Services have no families and never come here.
"""

from __future__ import annotations

from typing import cast

from twinstack.api.core import ServiceSpec
from twinstack.api.errors import FieldError, invalid
from twinstack.api.validation import ip_family
from twinstack.ip import IPFamily
from twinstack.server.strategy import service_traits as traits
from twinstack.server.strategy.service_validation import validate_cluster_ip_fields

_POLICY = "spec.ipFamilyPolicy"
_NEEDS_DUAL = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
_NEEDS_SINGLE = "must be 'SingleStack' to release the secondary {}"


def assign_families(new: ServiceSpec, old: ServiceSpec | None, configured: tuple[IPFamily, ...]) -> list[FieldError]:
    """Fill `ipFamilyPolicy` and `ipFamilies` of `new`. `configured` are the server's families, primary first."""
    if new.type == traits.EXTERNAL_NAME or (old and _prefers_what_it_has(new, old)):
        return []
    if new.ip_family_policy is None:
        new.ip_family_policy = _default_policy(new, old)
    errors = validate_cluster_ip_fields(new, old)
    if errors:
        return errors
    errors = _release_secondary(new, old) if old else []
    errors += _check_single_stack(new)
    errors += _infer_families(new, configured)
    if errors:
        return errors
    if new.cluster_ip == traits.NO_IP and not new.selector:
        _complete(new, (configured[0], configured[0].other))  # nothing is allocated, so any family will do
        return []
    errors = _check_configured(new, configured)
    if not errors:
        _complete(new, configured)
    return errors


def _prefers_what_it_has(new: ServiceSpec, old: ServiceSpec) -> bool:
    """An unchanged PreferDualStack Service stays as it is, also when the server has become dual-stack."""
    return (
        new.type == old.type
        and new.ip_family_policy == traits.PREFER_DUAL_STACK
        and old.ip_family_policy in (traits.PREFER_DUAL_STACK, None)
        and new.cluster_ips == old.cluster_ips
        and new.ip_families == old.ip_families
    )


def _default_policy(new: ServiceSpec, old: ServiceSpec | None) -> str:
    if old and old.ip_family_policy is not None:
        return old.ip_family_policy
    if new.cluster_ip == traits.NO_IP and not new.selector:
        return traits.REQUIRE_DUAL_STACK
    return traits.SINGLE_STACK


def _release_secondary(new: ServiceSpec, old: ServiceSpec) -> list[FieldError]:
    """SingleStack alone releases the secondary family; without it, a shortened list is a mistake."""
    policy = new.ip_family_policy
    if policy == traits.SINGLE_STACK:
        if new.cluster_ips == old.cluster_ips:
            del new.cluster_ips[1:]
        if new.ip_families == old.ip_families:
            del new.ip_families[1:]
        return []
    errors = []
    if 0 < len(new.cluster_ips) < len(old.cluster_ips):
        errors.append(invalid(_POLICY, policy, _NEEDS_SINGLE.format("cluster IP")))
    if 0 < len(new.ip_families) < len(old.ip_families):
        errors.append(invalid(_POLICY, policy, _NEEDS_SINGLE.format("IP family")))
    return errors


def _check_single_stack(new: ServiceSpec) -> list[FieldError]:
    if new.ip_family_policy != traits.SINGLE_STACK:
        return []
    errors = []
    if len(new.cluster_ips) > 1:
        errors.append(invalid(_POLICY, new.ip_family_policy, _NEEDS_DUAL.format("cluster IPs")))
    if len(new.ip_families) > 1:
        errors.append(invalid(_POLICY, new.ip_family_policy, _NEEDS_DUAL.format("IP families")))
    return errors


def _infer_families(new: ServiceSpec, configured: tuple[IPFamily, ...]) -> list[FieldError]:
    """Cluster IPs beyond the given families say theirs."""
    errors = []
    for index in range(len(new.ip_families), len(new.cluster_ips)):
        text = new.cluster_ips[index]
        if text == traits.NO_IP:
            break
        family = cast("IPFamily", ip_family(text))  # validated above
        if family in configured:
            new.ip_families.append(family)
        else:
            errors.append(
                invalid(f"spec.clusterIPs[{index}]", new.cluster_ips, f"{family} is not configured on this cluster")
            )
    return errors


def _check_configured(new: ServiceSpec, configured: tuple[IPFamily, ...]) -> list[FieldError]:
    errors = []
    if new.ip_family_policy == traits.REQUIRE_DUAL_STACK and len(configured) < 2:
        errors.append(invalid(_POLICY, new.ip_family_policy, "this cluster is not configured for dual-stack services"))
    errors += [
        invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        for index, family in enumerate(new.ip_families)
        if family not in configured
    ]
    return errors


def _complete(new: ServiceSpec, available: tuple[IPFamily, ...]) -> None:
    """The first of `available` when no family is named; both for the dual-stack policies."""
    if not new.ip_families:
        new.ip_families.append(available[0])
    if new.ip_family_policy != traits.SINGLE_STACK and len(new.ip_families) == 1 and len(available) == 2:
        new.ip_families.append(IPFamily(new.ip_families[0]).other)
