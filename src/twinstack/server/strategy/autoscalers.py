"""HorizontalPodAutoscalers (autoscaling/v2 and v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required
from twinstack.api.scalars import quantity
from twinstack.api.validation import each, non_negative, path_segment
from twinstack.server.autoscaler_forms import DEFAULT_UTILIZATION, cpu_metric
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]

_SOURCES = {  # metric types and the fields that describe them
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_TARGETS = {"Utilization": "averageUtilization", "Value": "value", "AverageValue": "averageValue"}
_SELECTIONS = ("Disabled", "Max", "Min")
_POLICIES = ("Percent", "Pods")
_MAX_WINDOW, _MAX_PERIOD = 3600, 1800  # seconds
_UP: JSON = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_DOWN: JSON = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


class AutoscalerV1Strategy(Strategy):
    """The older form: its one metric has a default, which is filled in when it is stored."""

    metadata_twice = False

    def default(self, obj: JSON) -> None:
        obj.setdefault("spec", {}).setdefault("minReplicas", 1)

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        errors = _bounds_errors(spec)
        percent = spec.get("targetCPUUtilizationPercentage")
        if percent is not None and percent < 1:
            at = "spec.metrics[0].resource.target.averageUtilization"
            errors.append(invalid(at, percent, "must be greater than 0"))
        return errors

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        status = obj.get("status") or {}
        names = ("currentReplicas", "desiredReplicas")
        return [error for name in names for error in non_negative(f"status.{name}", status.get(name, 0))]


class AutoscalerStrategy(AutoscalerV1Strategy):
    def default(self, obj: JSON) -> None:
        super().default(obj)
        spec = obj["spec"]
        if not spec.get("metrics"):
            spec["metrics"] = [cpu_metric(DEFAULT_UTILIZATION)]
        behavior = spec.get("behavior")
        if behavior is not None:
            for name, rules in (("scaleUp", _UP), ("scaleDown", _DOWN)):
                behavior[name] = rules | behavior.get(name, {})

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        errors = _bounds_errors(spec)
        for i, metric in enumerate(spec["metrics"]):
            errors += _metric_errors(metric, f"spec.metrics[{i}]")
        for name in ("scaleUp", "scaleDown"):
            rules = (spec.get("behavior") or {}).get(name)
            if rules is not None:
                errors += _rules_errors(rules, f"spec.behavior.{name}")
        return errors


def _bounds_errors(spec: JSON) -> list[FieldError]:
    low, high = spec["minReplicas"], spec.get("maxReplicas", 0)
    errors: list[FieldError] = []
    if low < 1:
        errors.append(invalid("spec.minReplicas", low, "must be greater than or equal to 1"))
    if high < 1:
        errors.append(invalid("spec.maxReplicas", high, "must be greater than 0"))
    if high < low:
        errors.append(invalid("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`"))
    return errors + _reference_errors(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")


def _reference_errors(reference: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in ("kind", "name"):
        value = reference.get(name, "")
        errors += each(f"{field}.{name}", value, path_segment(value)) if value else [required(f"{field}.{name}")]
    return errors


def _metric_errors(metric: JSON, field: str) -> list[FieldError]:
    kind = metric.get("type", "")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required(f"{field}.type", "must specify a metric source type"))
    if kind not in _SOURCES:
        errors.append(not_supported(f"{field}.type", kind, tuple(_SOURCES)))
    given = [name for name in _SOURCES.values() if name in metric]
    wanted = _SOURCES.get(kind, kind.lower())
    if given:
        errors += _source_errors(given[0], metric[given[0]], f"{field}.{given[0]}")
    if wanted not in given:
        errors.append(required(f"{field}.{wanted}", "must populate information for the given metric source"))
    detail = "must populate the given metric source only"
    return errors + [forbidden_field(f"{field}.{name}", detail) for name in given if name != wanted]


def _source_errors(kind: str, source: JSON, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if kind == "object":
        errors += _reference_errors(source.get("describedObject") or {}, f"{field}.describedObject")
    if kind in ("resource", "containerResource"):
        if not source.get("name"):
            errors.append(required(f"{field}.name", "must specify a resource name"))
        if kind == "containerResource" and not source.get("container"):
            errors.append(required(f"{field}.container", "must specify a container"))
    elif not (source.get("metric") or {}).get("name"):
        errors.append(required(f"{field}.metric.name", "must specify a metric name"))
    return errors + _target_errors(source.get("target") or {}, f"{field}.target")


def _target_errors(target: JSON, field: str) -> list[FieldError]:
    kind = target.get("type", "")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required(f"{field}.type", "must specify a metric target type"))
    elif kind not in _TARGETS:
        errors.append(invalid(f"{field}.type", kind, "must be either Utilization, Value, or AverageValue"))
    elif target.get(_TARGETS[kind]) is None:
        errors.append(required(f"{field}.{_TARGETS[kind]}", "must set a target for the metric type"))
    percent = target.get("averageUtilization")
    if percent is not None and percent < 1:
        errors.append(invalid(f"{field}.averageUtilization", percent, "must be greater than 0"))
    return errors + [
        invalid(f"{field}.{name}", target[name], "must be positive")
        for name in ("value", "averageValue")
        if name in target and quantity(target[name]) <= 0
    ]


def _rules_errors(rules: JSON, field: str) -> list[FieldError]:
    window, selection = rules.get("stabilizationWindowSeconds"), rules["selectPolicy"]
    policies: Sequence[JSON] = rules.get("policies") or []
    errors: list[FieldError] = []
    if window is not None and window < 0:
        errors.append(invalid(f"{field}.stabilizationWindowSeconds", window, "must be greater than or equal to zero"))
    if window is not None and window > _MAX_WINDOW:
        detail = f"must be less than or equal to {_MAX_WINDOW}"
        errors.append(invalid(f"{field}.stabilizationWindowSeconds", window, detail))
    if selection not in _SELECTIONS:
        errors.append(not_supported(f"{field}.selectPolicy", selection, _SELECTIONS))
    if not policies:
        errors.append(required(f"{field}.policies", "must specify at least one Policy"))
    for i, policy in enumerate(policies):
        at = f"{field}.policies[{i}]"
        kind, value, period = policy.get("type", ""), policy.get("value", 0), policy.get("periodSeconds", 0)
        if kind not in _POLICIES:
            errors.append(not_supported(f"{at}.type", kind, _POLICIES))
        for name, number in (("value", value), ("periodSeconds", period)):
            if number <= 0:
                errors.append(invalid(f"{at}.{name}", number, "must be greater than zero"))
        if period > _MAX_PERIOD:
            errors.append(invalid(f"{at}.periodSeconds", period, f"must be less than or equal to {_MAX_PERIOD}"))
    return errors
