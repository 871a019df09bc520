"""Deployments and ReplicaSets (apps/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported
from twinstack.api.fieldsets.sets import FieldSet
from twinstack.api.resources import Resource
from twinstack.api.validation import non_negative
from twinstack.server.strategy import pod_templates
from twinstack.server.strategy.amounts import amount, amount_errors, at_most_all
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.pod_defaults import default_pod_spec

JSON = dict[str, Any]


class ReplicaSetStrategy(Strategy):
    metadata_twice = False

    def default(self, obj: JSON) -> None:
        obj["spec"].setdefault("replicas", 1)
        default_pod_spec(obj["spec"]["template"]["spec"])

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        errors = non_negative("spec.replicas", spec["replicas"])
        errors += non_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
        errors += replicated_errors(spec)
        return errors if old is None else [*errors, *pod_templates.selector_change(spec, old)]

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        return replica_status_errors(obj.get("status") or {})

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return pod_templates.template_warnings(obj, old)


class DeploymentStrategy(ReplicaSetStrategy):
    counted_metadata = ("annotations",)

    def reset_fields(self, resource: Resource, subresource: str) -> FieldSet:
        reset = super().reset_fields(resource, subresource)
        return reset | {"f:metadata": {"f:labels": {}}} if subresource == "status" else reset

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
        errors += replicated_errors(spec)
        errors += _strategy_errors(spec["strategy"], "spec.strategy")
        errors += non_negative("spec.minReadySeconds", ready)
        errors += non_negative("spec.revisionHistoryLimit", spec["revisionHistoryLimit"])
        errors += non_negative("spec.progressDeadlineSeconds", deadline)
        if deadline <= ready:
            detail = "must be greater than minReadySeconds"
            errors.append(invalid("spec.progressDeadlineSeconds", deadline, detail))
        return errors if old is None else [*errors, *pod_templates.selector_change(spec, old)]

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        status = obj.get("status") or {}
        limited = ("updatedReplicas", "readyReplicas", "availableReplicas")
        errors = pod_templates.count_errors(status, ("observedGeneration", "replicas", *limited, "unavailableReplicas"))
        return errors + pod_templates.limit_errors(status, limited)


def replicated_errors(spec: JSON) -> list[FieldError]:
    """Selector and template of a kind that keeps Pods running."""
    errors = pod_templates.selector_and_template_errors(spec, "deployment")
    errors += pod_templates.always_restarted(spec["template"], "spec.template")
    return errors + pod_templates.deadline_errors(spec["template"], "ReplicaSet")


def replica_status_errors(status: JSON) -> list[FieldError]:
    """Of ReplicaSets and ReplicationControllers."""
    limited = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    errors = pod_templates.count_errors(status, ("replicas", *limited, "observedGeneration"))
    return errors + pod_templates.limit_errors(status, limited)


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
    errors = amount_errors(unavailable, f"{at}.maxUnavailable") + amount_errors(surge, f"{at}.maxSurge")
    if amount(unavailable) == 0 and amount(surge) == 0:
        errors.append(invalid(f"{at}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    return errors + at_most_all(unavailable, f"{at}.maxUnavailable")
