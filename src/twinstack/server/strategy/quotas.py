"""ResourceQuotas and LimitRanges (core/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, duplicate, forbidden_field, invalid, required
from twinstack.api.metadata import IMMUTABLE
from twinstack.api.scalars import quantity
from twinstack.api.validation import each, qualified_name
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_COUNTS = (
    "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers",
)  # fmt: skip
_PREFIXED = tuple(f"{part}.{name}" for part in ("requests", "limits") for name in _COMPUTE)
_STANDARD = frozenset((*_COMPUTE, *_COUNTS, *_PREFIXED, "requests.storage", "storage"))
_SCOPES = frozenset(
    {
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        "PriorityClass",
        "CrossNamespacePodAffinity",
        "VolumeAttributesClass",
    }
)
_BARE = frozenset({"BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"})
_BARE_ERROR = (
    "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)
_EXCLUSIVE = ({"Terminating", "NotTerminating"}, {"BestEffort", "NotBestEffort"})


_OF_PODS = frozenset(
    {"pods", *(prefix + name for prefix in ("", "requests.", "limits.") for name in ("cpu", "memory"))}
)
_OF_CLAIMS = frozenset({"persistentvolumeclaims", "requests.storage"})
_SCOPED = dict.fromkeys(_SCOPES, _OF_PODS) | {
    "BestEffort": frozenset({"pods"}),
    "VolumeAttributesClass": _OF_CLAIMS,
}  # of the standard resources, those to which a scope can be applied


class ResourceQuotaStrategy(Strategy):
    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj.get("spec") or {}
        errors = _amounts_errors(spec.get("hard") or {}, "spec.hard")
        scopes: Sequence[str] = spec.get("scopes") or []
        errors += _scopes_errors(scopes, spec.get("hard") or {})
        errors += _selector_errors(spec.get("scopeSelector") or {}, spec.get("hard") or {})
        if old is not None and set(scopes) != set((old.get("spec") or {}).get("scopes") or []):
            errors.append(invalid("spec.scopes", scopes, IMMUTABLE))
        return errors

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        status = obj.get("status") or {}
        return [
            error for name in ("hard", "used") for error in _amounts_errors(status.get(name) or {}, f"status.{name}")
        ]


def _scopes_errors(scopes: Sequence[str], hard: JSON) -> list[FieldError]:
    field = "spec.scopes"
    errors: list[FieldError] = []
    unsupported = invalid(field, scopes, "unsupported scope")  # they show all scopes: once is enough
    misapplied = invalid(field, scopes, "unsupported scope applied to resource")
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(unsupported)
        errors += [misapplied] * _misapplied(scope, hard)
    if any(pair <= set(scopes) for pair in _EXCLUSIVE):
        errors.append(invalid(field, scopes, "conflicting scopes"))
    return errors


def _misapplied(scope: str, hard: JSON) -> int:
    """To how many of the standard resources it is applied that have no such scope."""
    allowed = _SCOPED.get(scope, _STANDARD)
    return sum(name in _STANDARD and name not in allowed for name in hard)


def _selector_errors(selector: JSON, hard: JSON) -> list[FieldError]:
    field = "spec.scopeSelector.matchExpressions"
    errors: list[FieldError] = []
    listed: list[JSON] = selector.get("matchExpressions") or []
    shown = [_as_shown(entry) for entry in listed]
    misapplied = invalid(field, {"MatchExpressions": shown}, "unsupported scope applied to resource")
    for entry in listed:
        scope = entry.get("scopeName", "")
        if scope not in _SCOPES:
            errors.append(invalid(f"{field}.scopeName", scope, "unsupported scope"))
        errors += [misapplied] * _misapplied(scope, hard)
        errors += _operator_errors(entry, scope, field)
    if any(pair <= {entry.get("scopeName") for entry in listed} for pair in _EXCLUSIVE):
        errors.append(invalid(field, shown, "conflicting scopes"))
    return errors


def _as_shown(requirement: JSON) -> JSON:
    return {
        "ScopeName": requirement.get("scopeName", ""),
        "Operator": requirement.get("operator", ""),
        "Values": requirement.get("values"),
    }


def _operator_errors(requirement: JSON, scope: str, field: str) -> list[FieldError]:
    operator, values = requirement.get("operator", ""), requirement.get("values") or []
    errors: list[FieldError] = []
    if scope in _BARE and operator != "Exists":
        errors.append(invalid(f"{field}.operator", operator, _BARE_ERROR))
    if operator in ("In", "NotIn"):
        if not values:
            detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            errors.append(required(f"{field}.values", detail))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            errors.append(invalid(f"{field}.values", values, detail))
    else:
        errors.append(invalid(f"{field}.operator", operator, "not a valid selector operator"))
    return errors


def _amounts_errors(amounts: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, text in amounts.items():
        at = f"{field}[{name}]"
        errors += each(at, name, qualified_name(name))
        if "/" not in name and name not in _STANDARD and not name.startswith(("hugepages-", "requests.hugepages-")):
            errors.append(invalid(at, name, "must be a standard resource type or fully qualified"))
            errors.append(invalid(at, name, "must be a standard resource for quota"))
        value = quantity(text)
        if value < 0:
            errors.append(invalid(at, text, "must be greater than or equal to 0"))
        if name in _COUNTS and value != value.to_integral_value():
            errors.append(invalid(at, text, "must be an integer"))
    return errors


class LimitRangeStrategy(Strategy):
    """Of containers, what is limited and not requested is requested, what has a maximum is limited."""

    def default(self, obj: JSON) -> None:
        for item in (obj.get("spec") or {}).get("limits") or []:
            if item.get("type") == "Container":
                _default_item(item)

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        errors: list[FieldError] = []
        seen: set[str] = set()
        for i, item in enumerate((obj.get("spec") or {}).get("limits") or []):
            at, kind = f"spec.limits[{i}]", item.get("type", "")
            errors += each(f"{at}.type", kind, qualified_name(kind))
            if kind in seen:
                errors.append(duplicate(f"{at}.type", kind))
            seen.add(kind)
            errors += _item_errors(item, at)
        return errors


def _default_item(item: JSON) -> None:
    limits, requests = dict(item.get("default") or {}), dict(item.get("defaultRequest") or {})
    limits = (item.get("max") or {}) | limits
    requests = (item.get("min") or {}) | limits | requests
    for name, amounts in (("default", limits), ("defaultRequest", requests)):
        if amounts:
            item[name] = amounts


def _item_errors(item: JSON, field: str) -> list[FieldError]:
    kind = item.get("type", "")
    errors = [
        forbidden_field(f"{field}.{name}", "may not be specified when `type` is 'Pod'")
        for name in ("default", "defaultRequest")
        if kind == "Pod" and item.get(name)
    ]
    if kind == "PersistentVolumeClaim" and not any("storage" in (item.get(bound) or {}) for bound in ("min", "max")):
        detail = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{field}.limits", detail))
    names = {name for part in ("max", "min", "default", "defaultRequest") for name in item.get(part) or {}}
    for name in sorted(names):
        errors += _order_errors(item, name, field)
    for name, ratio in (item.get("maxLimitRequestRatio") or {}).items():
        if quantity(ratio) < 1:
            errors.append(invalid(f"{field}.maxLimitRequestRatio[{name}]", ratio, f"ratio {ratio} is less than 1"))
    return errors


def _order_errors(item: JSON, name: str, field: str) -> list[FieldError]:
    """min ≤ defaultRequest ≤ default ≤ max, of those that are given."""
    order = (("min", "min"), ("defaultRequest", "default request"), ("default", "default"), ("max", "max"))
    given = [(part, title, (item.get(part) or {}).get(name)) for part, title in order]
    pairs = [(low, high) for i, low in enumerate(given) for high in given[i + 1 :]]
    return [
        invalid(
            f"{field}.{low[0]}[{name}]", low[2], f"{low[1]} value {low[2]} is greater than {high[1]} value {high[2]}"
        )
        for low, high in pairs
        if low[2] is not None and high[2] is not None and quantity(low[2]) > quantity(high[2])
    ]
