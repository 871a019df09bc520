"""Pod templates and the selectors that must match them: what all workloads have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required
from twinstack.api.metadata import annotation_rules, immutable
from twinstack.api.validation import non_negative
from twinstack.server.strategy.label_selectors import read_selector, selector_errors
from twinstack.server.strategy.pod_validation import pod_spec_errors
from twinstack.server.strategy.pod_warnings import pod_warnings

JSON = dict[str, Any]

UNMATCHED = "`selector` does not match template `labels`"


def template_errors(template: JSON, field: str) -> list[FieldError]:
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    errors = validation.labels(f"{field}.labels", meta.get("labels") or {})  # sic: upstream's path
    errors += annotation_rules(f"{field}.annotations", meta.get("annotations") or {})
    errors += pod_spec_errors(spec, f"{field}.spec")
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        errors.append(forbidden_field(f"{field}.spec.ephemeralContainers", detail))
    return errors


def always_restarted(template: JSON, field: str) -> list[FieldError]:
    policy = template["spec"].get("restartPolicy", "")
    return [] if policy == "Always" else [not_supported(f"{field}.spec.restartPolicy", policy, ("Always",))]


def selector_and_template_errors(spec: JSON, kind: str) -> list[FieldError]:
    """The selector of an apps/v1 kind is there, selects something, and selects what the template makes."""
    wanted = spec.get("selector")
    errors: list[FieldError] = []
    if wanted is None:
        errors.append(required("spec.selector"))
    else:
        errors += selector_errors(wanted, "spec.selector")
        if is_empty(wanted):
            errors.append(invalid("spec.selector", wanted, f"empty selector is invalid for {kind}"))
    selector = read_selector(wanted)
    if selector is None:
        errors.append(invalid("spec.selector", wanted, "invalid label selector"))
        return errors
    return errors + mismatch(spec) + template_errors(spec["template"], "spec.template")


def mismatch(spec: JSON) -> list[FieldError]:
    """Labels of the template that the selector does not select."""
    selector = read_selector(spec.get("selector"))
    labels = (spec["template"].get("metadata") or {}).get("labels")
    if selector is None or selector.matches(labels or {}):
        return []
    return [invalid("spec.template.metadata.labels", labels, UNMATCHED)]


def is_empty(selector: JSON) -> bool:
    return not selector.get("matchLabels") and not selector.get("matchExpressions")


def selector_change(spec: JSON, old: JSON) -> list[FieldError]:
    return immutable("spec.selector", spec.get("selector"), old["spec"].get("selector"))


def template_warnings(obj: JSON, old: JSON | None) -> list[str]:
    """About a template that is new or changed."""
    template = obj["spec"]["template"]
    if old is not None and template == old["spec"]["template"]:
        return []
    return pod_warnings(template["spec"], "spec.template.spec")


def count_errors(status: JSON, counts: Sequence[str]) -> list[FieldError]:
    """No count of a status is negative."""
    return [error for name in counts for error in non_negative(f"status.{name}", status.get(name, 0))]


def limit_errors(status: JSON, limited: Sequence[str]) -> list[FieldError]:
    """None of `limited` exceeds the replicas there are, and no more are available than ready."""
    replicas, ready, available = (status.get(name, 0) for name in ("replicas", "readyReplicas", "availableReplicas"))
    errors = [
        invalid(f"status.{name}", status[name], "cannot be greater than status.replicas")
        for name in limited
        if status.get(name, 0) > replicas
    ]
    if available > ready:
        errors.append(invalid("status.availableReplicas", available, "cannot be greater than readyReplicas"))
    return errors


def deadline_errors(template: JSON, kind: str) -> list[FieldError]:
    """A Pod that is kept running has no deadline."""
    if "activeDeadlineSeconds" not in template["spec"]:
        return []
    at = "spec.template.spec.activeDeadlineSeconds"
    return [forbidden_field(at, f"activeDeadlineSeconds in {kind} is not Supported")]
