"""StatefulSets and ControllerRevisions (apps/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required
from twinstack.api.metadata import annotation_rules, immutable
from twinstack.api.validation import NameRule, dns_label, non_negative
from twinstack.server.strategy import pod_templates
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.label_selectors import read_selector, selector_errors
from twinstack.server.strategy.pod_defaults import default_pod_spec

JSON = dict[str, Any]

_MANAGEMENT = ("OrderedReady", "Parallel")
_RETENTION = ("Retain", "Delete")
_MUTABLE = frozenset(
    {
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    }
)
_FORBIDDEN = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


class StatefulSetStrategy(Strategy):
    """Names of Pods derive from the set's, so it is a label; little of the spec may change."""

    name_rule: NameRule = staticmethod(dns_label)
    metadata_twice = False

    def default(self, obj: JSON) -> None:
        spec = obj["spec"]
        spec.setdefault("podManagementPolicy", "OrderedReady")
        spec.setdefault("replicas", 1)
        spec.setdefault("revisionHistoryLimit", 10)
        strategy: JSON = spec.setdefault("updateStrategy", {})
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
        retention: JSON = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        for name in ("whenDeleted", "whenScaled"):
            if not retention.get(name):
                retention[name] = "Retain"
        default_pod_spec(spec["template"]["spec"])
        for claim in spec.get("volumeClaimTemplates") or []:
            claim |= {"kind": "PersistentVolumeClaim", "apiVersion": "v1"}
            claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
            claim.setdefault("status", {}).setdefault("phase", "Pending")

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        errors = _policy_errors(spec)
        for name in ("replicas", "minReadySeconds"):
            errors += non_negative(f"spec.{name}", spec.get(name, 0))
        errors += non_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start", 0))
        errors += _template_errors(spec)
        if old is not None:
            errors += _change_errors(spec, old["spec"])
        return errors

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        status = obj.get("status") or {}
        limited = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
        errors = pod_templates.count_errors(status, ("replicas", *limited, "observedGeneration", "collisionCount"))
        return errors + pod_templates.limit_errors(status, limited)

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return pod_templates.template_warnings(obj, old)


def _policy_errors(spec: JSON) -> list[FieldError]:
    management, strategy = spec["podManagementPolicy"], spec["updateStrategy"]
    kind, rolling = strategy["type"], strategy.get("rollingUpdate")
    errors: list[FieldError] = []
    if management not in _MANAGEMENT:
        errors.append(invalid("spec.podManagementPolicy", management, "must be 'OrderedReady' or 'Parallel'"))
    if kind == "OnDelete" and rolling is not None:
        detail = "only allowed for updateStrategy 'RollingUpdate'"
        errors.append(invalid("spec.updateStrategy.rollingUpdate", rolling, detail))
    elif kind == "RollingUpdate":
        errors += non_negative("spec.updateStrategy.rollingUpdate.partition", rolling.get("partition", 0))
    elif kind != "OnDelete":
        errors.append(invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'"))
    for name, value in spec["persistentVolumeClaimRetentionPolicy"].items():
        if value not in _RETENTION:
            at = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
            errors.append(not_supported(at, value, _RETENTION))
    return errors


def _template_errors(spec: JSON) -> list[FieldError]:
    """The volumes of claim templates are not known here, so the containers' mounts are not judged."""
    wanted, template = spec.get("selector"), spec["template"]
    meta: JSON = template.get("metadata") or {}
    errors: list[FieldError] = []
    if wanted is None:
        errors.append(required("spec.selector"))
    else:
        errors += selector_errors(wanted, "spec.selector")
        if pod_templates.is_empty(wanted):
            errors.append(invalid("spec.selector", wanted, "empty selector is invalid for statefulset"))
    if read_selector(wanted) is None:
        errors.append(invalid("spec.selector", wanted, ""))
    else:
        errors += pod_templates.mismatch(spec)
        errors += validation.labels("spec.template.labels", meta.get("labels") or {})
        errors += annotation_rules("spec.template.annotations", meta.get("annotations") or {})
    errors += pod_templates.always_restarted(template, "spec.template")
    return errors + pod_templates.deadline_errors(template, "StatefulSet")


def _change_errors(new: JSON, old: JSON) -> list[FieldError]:
    fixed = (new.keys() | old.keys()) - _MUTABLE
    if all(new.get(name) == old.get(name) for name in fixed):
        return []
    return [forbidden_field("spec", _FORBIDDEN)]


class ControllerRevisionStrategy(Strategy):
    """A past state of a StatefulSet or DaemonSet: its data never changes."""

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        errors: list[FieldError] = []
        if obj.get("data") is None:
            errors.append(required("data", "data is mandatory"))
        errors += non_negative("revision", obj.get("revision", 0))
        return errors if old is None else [*errors, *immutable("data", obj.get("data"), old.get("data"))]
