"""Rules of what containers request and limit (core/v1 ResourceRequirements)."""

from __future__ import annotations

from typing import Any

from twinstack.api.errors import FieldError, invalid, required
from twinstack.api.scalars import quantity
from twinstack.api.validation import each, qualified_name

JSON = dict[str, Any]

_OF_CONTAINERS = ("cpu", "memory", "ephemeral-storage")
_OTHERS = (
    "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims",
    "storage", "services.nodeports", "services.loadbalancers",
)  # fmt: skip


def requirements_errors(requirements: JSON, field: str) -> list[FieldError]:
    limits, requests = requirements.get("limits") or {}, requirements.get("requests") or {}
    errors: list[FieldError] = []
    for name, text in limits.items():
        errors += _amount_errors(name, text, f"{field}.limits[{name}]")
    for name, text in requests.items():
        errors += _amount_errors(name, text, f"{field}.requests[{name}]")
        if name in limits:
            limit = limits[name]
            if quantity(text) != quantity(limit) and not _overcommitted(name):
                errors.append(invalid(f"{field}.requests", text, f"must be equal to {name} limit of {limit}"))
            elif quantity(text) > quantity(limit):
                detail = f"must be less than or equal to {name} limit of {limit}"
                errors.append(invalid(f"{field}.requests", text, detail))
        elif not _overcommitted(name):
            errors.append(required(f"{field}.limits", "Limit must be set for non overcommitable resources"))
    return errors


def _huge_pages(name: str) -> bool:
    return name.startswith("hugepages-")


def _overcommitted(name: str) -> bool:
    """Native resources may be promised more than once; extended ones and huge pages may not."""
    native = "/" not in name or name.partition("/")[0].endswith("kubernetes.io")
    return native and not _huge_pages(name)


def _amount_errors(name: str, text: str, field: str) -> list[FieldError]:
    errors = each(field, name, qualified_name(name))
    known = name in _OF_CONTAINERS or _huge_pages(name)
    if "/" not in name:
        if not known and name not in _OTHERS and not name.startswith(("requests.", "limits.")):
            errors.append(invalid(field, name, "must be a standard resource type or fully qualified"))
        if not known:
            errors.append(invalid(field, name, "must be a standard resource for containers"))
    value = quantity(text)
    if value < 0:
        errors.append(invalid(field, text, "must be greater than or equal to 0"))
    if not _overcommitted(name) and not _huge_pages(name) and value != value.to_integral_value():
        errors.append(invalid(field, text, "must be an integer"))
    return errors
