"""Nodes (core/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api import scalars, validation
from twinstack.api.errors import (
    ErrorType,
    FieldError,
    duplicate,
    forbidden_field,
    go_json,
    invalid,
    not_supported,
    required,
)
from twinstack.api.validation import cidr_family, each, label_value, qualified_name
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_CIDR_FIXED = 'node updates may not change podCIDR except from "" to valid'
_PROVIDER_FIXED = 'node updates may not change providerID except from "" to valid'


class NodeStrategy(Strategy):
    """`podCIDR` is the first of `podCIDRs`; both are set once."""

    status_on_create = True

    def default(self, obj: JSON) -> None:
        spec: JSON = obj.setdefault("spec", {})
        first, listed = spec.get("podCIDR"), spec.get("podCIDRs") or []
        if first and (not listed or listed[0] != first):
            spec["podCIDRs"] = [first]
        elif listed:
            spec["podCIDR"] = listed[0]
        status: JSON = obj.get("status") or {}
        if status.get("capacity") and "allocatable" not in status:
            status["allocatable"] = dict(status["capacity"])

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        """A new Node takes no pods until its agent says it is ready (admission plugin TaintNodesByCondition)."""
        taints = obj["spec"].setdefault("taints", [])
        if not any((taint.get("key"), taint.get("effect")) == tuple(NOT_READY.values()) for taint in taints):
            taints.append(dict(NOT_READY))

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        errors = [
            *_taint_errors(obj["spec"].get("taints") or []),
            *_resource_errors(obj.get("status") or {}),
            *_cidr_errors(obj["spec"].get("podCIDRs") or []),
        ]
        return errors if old is None else [*errors, *_update_errors(obj, old)]

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        return _update_errors(obj, old)

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        spec = obj["spec"]
        texts = []
        if "configSource" in spec:
            texts.append("spec.configSource: the configSource feature is removed")
        if spec.get("externalID"):
            texts.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
        for i, text in enumerate(spec.get("podCIDRs") or []):
            texts += validation.cidr_warnings(f"spec.podCIDRs[{i}]", text)
        return texts


def _taint_errors(taints: Sequence[JSON]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(taints):
        field = f"metadata.taints[{i}]"  # sic: upstream's path
        key, value, effect = taint.get("key", ""), taint.get("value", ""), taint.get("effect", "")
        errors += each(f"{field}.key", key, qualified_name(key))
        problems = label_value(value)
        if problems:
            errors.append(invalid(f"{field}.value", value, ";".join(problems)))
        if not effect:
            errors.append(required(f"{field}.effect"))
        elif effect not in _EFFECTS:
            errors.append(not_supported(f"{field}.effect", effect, _EFFECTS))
        if (key, effect) in seen:
            shown = {"Key": key, "Value": value, "Effect": effect, "TimeAdded": taint.get("timeAdded")}
            text = f"Duplicate value: {go_json(shown)}: taints must be unique by key and effect pair"
            errors.append(FieldError(ErrorType.DUPLICATE, field, text))
        seen.add((key, effect))
    return errors


def _resource_errors(status: JSON) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in ("capacity", "allocatable"):
        for name, text in (status.get(part) or {}).items():
            if scalars.quantity(text) < 0:
                errors.append(invalid(f"status.{part}.{name}", text, "must be greater than or equal to 0"))
    return errors


def _cidr_errors(blocks: Sequence[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, text in enumerate(blocks):
        errors += validation.legacy_cidr(f"spec.podCIDRs[{i}]", text)
    if len(blocks) > 1:
        families = [cidr_family(text) for text in blocks]
        if None in families:
            bad = next(text for text, family in zip(blocks, families, strict=True) if family is None)
            detail = f"invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR address: {bad}"
            errors.append(FieldError(ErrorType.INTERNAL, "spec.podCIDRs", f"Internal error: {detail}"))
        if len(blocks) > 2 or len(set(families)) < 2 or None in families:
            detail = "may specify no more than one CIDR for each IP family"
            errors.append(invalid("spec.podCIDRs", list(blocks), detail))
    return errors


def _update_errors(new: JSON, old: JSON) -> list[FieldError]:
    errors = _taint_errors((new.get("spec") or {}).get("taints") or [])
    errors += _resource_errors(new.get("status") or {})
    seen: set[tuple[str, str]] = set()
    for i, address in enumerate((new.get("status") or {}).get("addresses") or []):
        kind, text = address.get("type", ""), address.get("address", "")
        if (kind, text) in seen:
            errors.append(duplicate(f"status.addresses[{i}]", {"Type": kind, "Address": text}))
        seen.add((kind, text))
    before, after = old.get("spec") or {}, new.get("spec") or {}
    had, has = before.get("podCIDRs") or [], after.get("podCIDRs") or []
    if had and len(had) != len(has):
        errors.append(forbidden_field("spec.podCIDRs", _CIDR_FIXED))
    elif had:
        changed = sum(one != other for one, other in zip(had, has, strict=True))
        errors += [forbidden_field("spec.podCIDRs", _CIDR_FIXED)] * changed
    if before.get("providerID") and before["providerID"] != after.get("providerID"):
        errors.append(forbidden_field("spec.providerID", _PROVIDER_FIXED))
    if before.get("externalID", "") != after.get("externalID", ""):
        errors.append(forbidden_field("spec.externalID", "may not be updated"))
    return errors
