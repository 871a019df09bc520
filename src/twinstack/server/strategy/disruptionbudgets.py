"""PodDisruptionBudgets (policy/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, invalid, not_supported
from twinstack.api.validation import NameRule, non_negative, path_segment
from twinstack.server.strategy.amounts import amount_errors, at_most_all
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.label_selectors import selector_errors

JSON = dict[str, Any]

_POLICIES = ("AlwaysAllow", "IfHealthyBudget")
_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


class PodDisruptionBudgetStrategy(Strategy):
    """The kind has no rule for names of its own: what can stand in a URL is one."""

    name_rule: NameRule = staticmethod(path_segment)
    metadata_twice = metadata_changes_twice = False

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj.get("spec") or {}
        available, unavailable = spec.get("minAvailable"), spec.get("maxUnavailable")
        policy = spec.get("unhealthyPodEvictionPolicy")
        errors: list[FieldError] = []
        if available is not None and unavailable is not None:
            errors.append(invalid("spec", _go_spec(spec), "minAvailable and maxUnavailable cannot be both set"))
        for name, value in (("minAvailable", available), ("maxUnavailable", unavailable)):
            if value is not None:
                errors += amount_errors(value, f"spec.{name}") + at_most_all(value, f"spec.{name}")
        errors += selector_errors(spec.get("selector") or {}, "spec.selector")
        if policy is not None and policy not in _POLICIES:
            errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, _POLICIES))
        return errors

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        status = obj.get("status") or {}
        return [error for name in _COUNTS for error in non_negative(f"status.{name}", status.get(name, 0))]


def _go_spec(spec: JSON) -> JSON:
    """The spec as the API server's internal type prints it."""
    return {
        "MinAvailable": spec.get("minAvailable"),
        "Selector": spec.get("selector"),
        "MaxUnavailable": spec.get("maxUnavailable"),
        "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
    }
