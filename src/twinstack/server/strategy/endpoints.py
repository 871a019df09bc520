"""Endpoints (core/v1): the older form of EndpointSlices, of both families in one object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, invalid, not_supported, required
from twinstack.api.validation import dns_label, dns_subdomain, each, qualified_name
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_LISTS = ("addresses", "notReadyAddresses")


class EndpointsStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        for subset in obj.get("subsets") or []:
            for port in subset.get("ports") or []:
                port.setdefault("protocol", "TCP")
        if "subsets" in obj and not obj["subsets"]:
            del obj["subsets"]

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        subsets: Sequence[JSON] = obj.get("subsets") or []
        if old is not None and subsets == (old.get("subsets") or []):
            return ()
        known = {address.get("ip", "") for _, address in _addresses(old or {})}
        return [error for i, subset in enumerate(subsets) for error in _subset_errors(subset, f"subsets[{i}]", known)]

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return [
            text
            for field, address in _addresses(obj)
            for text in validation.ip_warnings(f"{field}.ip", address.get("ip", ""))
        ]


def _addresses(obj: JSON) -> Iterator[tuple[str, JSON]]:
    """Every address with its path."""
    for i, subset in enumerate(obj.get("subsets") or []):
        for name in _LISTS:
            for j, address in enumerate(subset.get(name) or []):
                yield f"subsets[{i}].{name}[{j}]", address


def _subset_errors(subset: JSON, field: str, known: set[str]) -> list[FieldError]:
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        return [required(field, "must specify `addresses` or `notReadyAddresses`")]
    errors: list[FieldError] = []
    for name in _LISTS:
        for j, address in enumerate(subset.get(name) or []):
            errors += _address_errors(address, f"{field}.{name}[{j}]", known)
    ports: Sequence[JSON] = subset.get("ports") or []
    for j, port in enumerate(ports):
        errors += _port_errors(port, f"{field}.ports[{j}]", named=len(ports) > 1)
    return errors


def _address_errors(address: JSON, field: str, known: set[str]) -> list[FieldError]:
    text, host, node = address.get("ip", ""), address.get("hostname"), address.get("nodeName")
    errors = validation.legacy_ip(f"{field}.ip", text, known)
    if host:
        errors += each(f"{field}.hostname", host, dns_label(host))
    if node is not None:
        errors += each(f"{field}.nodeName", node, dns_subdomain(node))
    if not validation.is_ip(text):
        return [*errors, invalid(f"{field}.ip", text, "must be a valid IP address")]
    return errors + validation.non_special_ip(f"{field}.ip", text)


def _port_errors(port: JSON, field: str, *, named: bool) -> list[FieldError]:
    name, number = port.get("name", ""), port.get("port", 0)
    protocol, application = port.get("protocol", ""), port.get("appProtocol")
    errors: list[FieldError] = []
    if name:
        errors += each(f"{field}.name", name, dns_label(name))
    elif named:
        errors.append(required(f"{field}.name"))
    errors += [invalid(f"{field}.port", number, problem) for problem in validation.port_number(number)]
    if not protocol:
        errors.append(required(f"{field}.protocol"))
    elif protocol not in _PROTOCOLS:
        errors.append(not_supported(f"{field}.protocol", protocol, _PROTOCOLS))
    if application is not None:
        errors += each(f"{field}.appProtocol", application, qualified_name(application))
    return errors
