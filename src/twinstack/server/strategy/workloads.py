"""Deployments and ReplicaSets (apps/v1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required
from twinstack.api.metadata import annotation_rules, immutable
from twinstack.api.validation import non_negative
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.label_selectors import read_selector, selector_errors
from twinstack.server.strategy.pod_defaults import default_pod_spec
from twinstack.server.strategy.pod_validation import pod_spec_errors
from twinstack.server.strategy.pod_warnings import pod_warnings

JSON = dict[str, Any]

_percent = re.compile("[0-9]+%").fullmatch
_PERCENT_ERROR = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)


class ReplicaSetStrategy(Strategy):
    metadata_twice = False

    def default(self, obj: JSON) -> None:
        obj["spec"].setdefault("replicas", 1)
        default_pod_spec(obj["spec"]["template"]["spec"])

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        errors = non_negative("spec.replicas", spec["replicas"])
        errors += non_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
        errors += _selector_and_template_errors(spec)
        return errors if old is None else [*errors, *_selector_change(spec, old)]

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        status = obj.get("status") or {}
        counts = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
        return _status_errors(status, counts, ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"))

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        template = obj["spec"]["template"]
        if old is not None and template == old["spec"]["template"]:
            return []
        return pod_warnings(template["spec"], "spec.template.spec")


class DeploymentStrategy(ReplicaSetStrategy):
    counted_metadata = ("annotations",)

    def default(self, obj: JSON) -> None:
        super().default(obj)
        spec = obj["spec"]
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)
        strategy = spec["strategy"]
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        ready, deadline = spec.get("minReadySeconds", 0), spec["progressDeadlineSeconds"]
        errors = non_negative("spec.replicas", spec["replicas"])
        errors += _selector_and_template_errors(spec)
        errors += _strategy_errors(spec["strategy"], "spec.strategy")
        errors += non_negative("spec.minReadySeconds", ready)
        errors += non_negative("spec.revisionHistoryLimit", spec["revisionHistoryLimit"])
        errors += non_negative("spec.progressDeadlineSeconds", deadline)
        if deadline <= ready:
            detail = "must be greater than minReadySeconds"
            errors.append(invalid("spec.progressDeadlineSeconds", deadline, detail))
        return errors if old is None else [*errors, *_selector_change(spec, old)]

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        status = obj.get("status") or {}
        limited = ("updatedReplicas", "readyReplicas", "availableReplicas")
        counts = ("observedGeneration", "replicas", *limited, "unavailableReplicas")
        return _status_errors(status, counts, limited)


def _selector_change(spec: JSON, old: JSON) -> list[FieldError]:
    return immutable("spec.selector", spec.get("selector"), old["spec"].get("selector"))


def _selector_and_template_errors(spec: JSON) -> list[FieldError]:
    wanted, template = spec.get("selector"), spec["template"]
    errors: list[FieldError] = []
    if wanted is None:
        errors.append(required("spec.selector"))
    else:
        errors += selector_errors(wanted, "spec.selector")
        if not wanted.get("matchLabels") and not wanted.get("matchExpressions"):
            errors.append(invalid("spec.selector", wanted, "empty selector is invalid for deployment"))
    selector = read_selector(wanted)
    if selector is None:
        errors.append(invalid("spec.selector", wanted, "invalid label selector"))
        return errors
    labels = template["metadata"].get("labels")
    if not selector.matches(labels or {}):
        detail = "`selector` does not match template `labels`"
        errors.append(invalid("spec.template.metadata.labels", labels, detail))
    return errors + _template_errors(template, "spec.template")


def _template_errors(template: JSON, field: str) -> list[FieldError]:
    meta, spec = template["metadata"], template["spec"]
    errors = validation.labels(f"{field}.labels", meta.get("labels") or {})  # sic: upstream's path
    errors += annotation_rules(f"{field}.annotations", meta.get("annotations") or {})
    errors += pod_spec_errors(spec, f"{field}.spec")
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        errors.append(forbidden_field(f"{field}.spec.ephemeralContainers", detail))
    if spec.get("restartPolicy") != "Always":
        errors.append(not_supported(f"{field}.spec.restartPolicy", spec.get("restartPolicy", ""), ("Always",)))
    if "activeDeadlineSeconds" in spec:
        detail = "activeDeadlineSeconds in ReplicaSet is not Supported"
        errors.append(forbidden_field(f"{field}.spec.activeDeadlineSeconds", detail))
    return errors


def _strategy_errors(strategy: JSON, field: str) -> list[FieldError]:
    kind, rolling = strategy["type"], strategy.get("rollingUpdate")
    if kind == "Recreate":
        detail = "may not be specified when strategy `type` is 'Recreate'"
        return [] if rolling is None else [forbidden_field(f"{field}.rollingUpdate", detail)]
    if kind != "RollingUpdate" or rolling is None:
        shown = rolling and {"MaxUnavailable": rolling.get("maxUnavailable"), "MaxSurge": rolling.get("maxSurge")}
        return [not_supported(field, {"Type": kind, "RollingUpdate": shown}, ("Recreate", "RollingUpdate"))]
    unavailable, surge = rolling["maxUnavailable"], rolling["maxSurge"]
    at = f"{field}.rollingUpdate"
    errors = _amount_errors(unavailable, f"{at}.maxUnavailable") + _amount_errors(surge, f"{at}.maxSurge")
    if _amount(unavailable) == 0 and _amount(surge) == 0:
        errors.append(invalid(f"{at}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    if isinstance(unavailable, str) and _amount(unavailable) > 100:
        errors.append(invalid(f"{at}.maxUnavailable", unavailable, "must not be greater than 100%"))
    return errors


def _amount_errors(value: int | str, field: str) -> list[FieldError]:
    if isinstance(value, int):
        return non_negative(field, value)
    return [] if _percent(value) else [invalid(field, value, _PERCENT_ERROR)]


def _amount(value: int | str) -> int:
    """The number, of a percentage too; 0 for a text that is none."""
    if isinstance(value, int):
        return value
    return int(value[:-1]) if _percent(value) else 0


def _status_errors(status: JSON, counts: Sequence[str], limited: Sequence[str]) -> list[FieldError]:
    """No count is negative, and none of `limited` exceeds the replicas there are."""
    errors: list[FieldError] = []
    for name in counts:
        errors += non_negative(f"status.{name}", status.get(name, 0))
    replicas, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    for name in limited:
        if status.get(name, 0) > replicas:
            errors.append(invalid(f"status.{name}", status[name], "cannot be greater than status.replicas"))
    available = status.get("availableReplicas", 0)
    if available > ready:
        errors.append(invalid("status.availableReplicas", available, "cannot be greater than readyReplicas"))
    return errors
