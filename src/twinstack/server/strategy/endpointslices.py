"""EndpointSlices (discovery.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, duplicate, invalid, not_supported, required, too_many
from twinstack.api.metadata import immutable
from twinstack.api.validation import dns_label, dns_subdomain, each, ip_family, label_value, qualified_name
from twinstack.ip import IPFamily
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]

_TYPES = ("FQDN", "IPv4", "IPv6")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_PORTS, _MAX_HINTS = 1000, 100, 20_000, 8
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_BUILT_IN = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")


class EndpointSliceStrategy(Strategy):
    """Labels count for the generation, as much as what stands outside metadata."""

    counted_metadata = ("labels",)
    metadata_changes_twice = False

    def default(self, obj: JSON) -> None:
        for port in obj.get("ports") or []:
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        _drop_topology(obj)

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        _drop_topology(new)

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        address_type = obj.get("addressType", "")
        errors: list[FieldError] = []
        if not address_type:
            errors.append(required("addressType"))
        elif address_type not in _TYPES:
            errors.append(not_supported("addressType", address_type, _TYPES))
        errors += _port_errors(obj.get("ports") or [])
        if old is None or obj.get("endpoints") != old.get("endpoints"):
            errors += _endpoints_errors(obj.get("endpoints") or [], address_type)
        if old is not None:
            errors += immutable("addressType", address_type, old.get("addressType", ""))
        return errors

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        texts = []
        if obj.get("addressType") == "FQDN" and old is None:
            texts.append("spec.addressType: FQDN endpoints are deprecated")
        if (obj["metadata"].get("labels") or {}).get(_MANAGED_BY) in _BUILT_IN:
            return texts
        return texts + [
            text
            for i, endpoint in enumerate(obj.get("endpoints") or [])
            for j, address in enumerate(endpoint.get("addresses") or [])
            for text in validation.ip_warnings(f"endpoints[{i}].addresses[{j}]", address)
        ]


def _drop_topology(obj: JSON) -> None:
    """`deprecatedTopology` is of the beta version only."""
    for endpoint in obj.get("endpoints") or []:
        endpoint.pop("deprecatedTopology", None)


def _port_errors(ports: Sequence[JSON]) -> list[FieldError]:
    if len(ports) > _MAX_PORTS:
        return [too_many("ports", len(ports), _MAX_PORTS)]
    errors: list[FieldError] = []
    names: set[str] = set()
    for i, port in enumerate(ports):
        name, protocol, application = port.get("name", ""), port.get("protocol", ""), port.get("appProtocol")
        if name:
            errors += each(f"ports[{i}].name", name, dns_label(name))
        if name in names:
            errors.append(duplicate(f"ports[{i}].name", name))
        names.add(name)
        if protocol not in _PROTOCOLS:
            errors.append(not_supported(f"ports[{i}].protocol", protocol, _PROTOCOLS))
        if application is not None:
            errors += each(f"ports[{i}].appProtocol", application, qualified_name(application))
    return errors


def _endpoints_errors(endpoints: Sequence[JSON], address_type: str) -> list[FieldError]:
    if len(endpoints) > _MAX_ENDPOINTS:
        return [too_many("endpoints", len(endpoints), _MAX_ENDPOINTS)]
    errors: list[FieldError] = []
    for i, endpoint in enumerate(endpoints):
        errors += _endpoint_errors(endpoint, f"endpoints[{i}]", address_type)
    return errors


def _endpoint_errors(endpoint: JSON, field: str, address_type: str) -> list[FieldError]:
    errors: list[FieldError] = []
    addresses = endpoint.get("addresses") or []
    if not addresses:
        errors.append(required(f"{field}.addresses", "must contain at least 1 address"))
    elif len(addresses) > _MAX_ADDRESSES:
        errors.append(too_many(f"{field}.addresses", len(addresses), _MAX_ADDRESSES))
    for i, address in enumerate(addresses):
        errors += _address_errors(address, f"{field}.addresses", i, address_type)
    node, hostname = endpoint.get("nodeName"), endpoint.get("hostname")
    if node is not None:
        errors += each(f"{field}.nodeName", node, dns_subdomain(node))
    errors += _topology_errors(endpoint, field)
    if hostname is not None:
        errors += each(f"{field}.hostname", hostname, dns_label(hostname))
    return errors


def _address_errors(address: str, field: str, index: int, address_type: str) -> list[FieldError]:
    """IPv4 follows the older rule of spelling, IPv6 the strict one; the family's error names the list."""
    at = f"{field}[{index}]"
    if address_type == "FQDN":
        return _domain_errors(address, at)
    if address_type not in ("IPv4", "IPv6"):
        return []
    family = IPFamily(address_type)
    spelling = validation.legacy_ip(at, address) if family is IPFamily.IPV4 else validation.strict_ip(at, address)
    if spelling:
        return spelling
    errors: list[FieldError] = []
    if ip_family(address) is not family:
        errors.append(invalid(field, address, f"must be an {family} address"))
    return errors + validation.non_special_ip(at, address)


def _domain_errors(name: str, field: str) -> list[FieldError]:
    if not name:
        return [required(field)]
    bare = name.removesuffix(".")
    problems = dns_subdomain(bare)
    if problems:
        return each(field, bare, problems)
    if "." not in bare:
        return [invalid(field, name, "should be a domain with at least two segments separated by dots")]
    return []


def _topology_errors(endpoint: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    hints = endpoint.get("hints") or {}
    for name, rule in (("forZones", label_value), ("forNodes", dns_subdomain)):
        entries = hints.get(name) or []
        at = f"{field}.hints.{name}"
        if len(entries) > _MAX_HINTS:
            errors.append(too_many(at, len(entries), _MAX_HINTS))
            continue
        seen: set[str] = set()
        for i, entry in enumerate(entries):
            value = entry.get("name", "")
            if value in seen:
                errors.append(duplicate(f"{at}[{i}].name", value))
            seen.add(value)
            errors += each(f"{at}[{i}].name", value, rule(value))
    return errors
