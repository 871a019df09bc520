"""NetworkPolicies (networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required
from twinstack.api.validation import each, parse_sloppy_cidr, port_name, port_number
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.label_selectors import selector_errors

JSON = dict[str, Any]

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_TYPES = ("Ingress", "Egress")
_DIRECTIONS = (("ingress", "from"), ("egress", "to"))


class NetworkPolicyStrategy(Strategy):
    metadata_twice = False

    def default(self, obj: JSON) -> None:
        spec: JSON = obj.setdefault("spec", {})
        for direction, _ in _DIRECTIONS:
            for rule in spec.get(direction) or []:
                for port in rule.get("ports") or []:
                    port.setdefault("protocol", "TCP")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        known = {text for _, text in _blocks(old or {})}
        errors = selector_errors(spec.get("podSelector") or {}, "spec.podSelector")
        for direction, peers in _DIRECTIONS:
            for i, rule in enumerate(spec.get(direction) or []):
                errors += _rule_errors(rule, f"spec.{direction}[{i}]", peers, known)
        types: Sequence[str] = spec.get("policyTypes") or []
        if len(types) > len(_TYPES):
            errors.append(invalid("spec.policyTypes", types, "may not specify more than two policyTypes"))
            return errors
        for i, kind in enumerate(types):
            if kind not in _TYPES:
                errors.append(not_supported(f"spec.policyTypes[{i}]", kind, _TYPES))
        return errors

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return [text for field, block in _blocks(obj) for text in validation.cidr_warnings(field, block)]


def _blocks(policy: JSON) -> Iterator[tuple[str, str]]:
    """Every CIDR block with its path."""
    for direction, peers in _DIRECTIONS:
        for i, rule in enumerate((policy.get("spec") or {}).get(direction) or []):
            for j, peer in enumerate(rule.get(peers) or []):
                block = peer.get("ipBlock")
                if block is None:
                    continue
                at = f"spec.{direction}[{i}].{peers}[{j}].ipBlock"
                yield f"{at}.cidr", block.get("cidr", "")
                for k, text in enumerate(block.get("except") or []):
                    yield f"{at}.except[{k}]", text


def _rule_errors(rule: JSON, field: str, peers: str, known: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, port in enumerate(rule.get("ports") or []):
        errors += _port_errors(port, f"{field}.ports[{i}]")
    for i, peer in enumerate(rule.get(peers) or []):
        errors += _peer_errors(peer, f"{field}.{peers}[{i}]", known)
    return errors


def _port_errors(port: JSON, field: str) -> list[FieldError]:
    protocol, value, end = port.get("protocol"), port.get("port"), port.get("endPort")
    errors: list[FieldError] = []
    if protocol is not None and protocol not in _PROTOCOLS:
        errors.append(not_supported(f"{field}.protocol", protocol, _PROTOCOLS))
    if value is None:
        if end is not None:
            errors.append(invalid(f"{field}.endPort", end, "may not be specified when `port` is not specified"))
        return errors
    if isinstance(value, str):
        if end is not None:
            errors.append(invalid(f"{field}.endPort", end, "may not be specified when `port` is non-numeric"))
        return errors + each(f"{field}.port", value, port_name(value))
    errors += [invalid(f"{field}.port", value, problem) for problem in port_number(value)]
    if end is not None:
        if end < value:  # upstream names the port here, not the end
            errors.append(invalid(f"{field}.endPort", value, "must be greater than or equal to `port`"))
        errors += [invalid(f"{field}.endPort", end, problem) for problem in port_number(end)]
    return errors


def _peer_errors(peer: JSON, field: str, known: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    for name in ("podSelector", "namespaceSelector"):
        if name in peer:
            count += 1
            errors += selector_errors(peer[name], f"{field}.{name}")
    if "ipBlock" in peer:
        count += 1
        errors += _block_errors(peer["ipBlock"], f"{field}.ipBlock", known)
    if not count:
        errors.append(required(field, "must specify a peer"))
    elif count > 1 and "ipBlock" in peer:
        errors.append(forbidden_field(field, "may not specify both ipBlock and another peer"))
    return errors


def _block_errors(block: JSON, field: str, known: set[str]) -> list[FieldError]:
    text = block.get("cidr", "")
    if not text:
        return [required(f"{field}.cidr")]
    errors = validation.legacy_cidr(f"{field}.cidr", text, known)
    whole = parse_sloppy_cidr(text)
    if whole is None:
        return errors
    for i, part_text in enumerate(block.get("except") or []):
        at = f"{field}.except[{i}]"
        problems = validation.legacy_cidr(at, part_text, known)
        part = parse_sloppy_cidr(part_text)
        errors += problems
        if part is None:
            continue
        if part.prefix <= whole.prefix or not whole.block.contains(part.block.first):
            errors.append(invalid(at, part_text, "must be a strict subset of `cidr`"))
    return errors
