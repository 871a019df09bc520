"""ReplicationControllers and PodTemplates (core/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, required
from twinstack.api.validation import non_negative
from twinstack.server.strategy import pod_templates
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.pod_defaults import default_pod_spec
from twinstack.server.strategy.pod_warnings import pod_warnings
from twinstack.server.strategy.workloads import replica_status_errors

JSON = dict[str, Any]


class ReplicationControllerStrategy(Strategy):
    """Its selector is a map of labels; left out, it selects the labels of the template."""

    def default(self, obj: JSON) -> None:
        spec: JSON = obj.setdefault("spec", {})
        spec.setdefault("replicas", 1)
        template = spec.get("template")
        if template is None:
            return
        labels = (template.get("metadata") or {}).get("labels") or {}
        if labels and not spec.get("selector"):
            spec["selector"] = dict(labels)
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)
        default_pod_spec(template["spec"])

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        selector, template = spec.get("selector") or {}, spec.get("template")
        errors = non_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
        if not selector:
            errors.append(required("spec.selector"))
        errors += non_negative("spec.replicas", spec["replicas"])
        if template is None:
            return [*errors, required("spec.template")]
        if selector:
            errors += pod_templates.mismatch({"selector": {"matchLabels": selector}, "template": template})
        errors += pod_templates.template_errors(template, "spec.template")
        errors += pod_templates.always_restarted(template, "spec.template")
        return errors + pod_templates.deadline_errors(template, "ReplicationController")

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        return replica_status_errors(obj.get("status") or {})

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return pod_templates.template_warnings(obj, old) if obj["spec"].get("template") else []


class PodTemplateStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        default_pod_spec(obj["template"]["spec"])

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        return pod_templates.template_errors(obj["template"], "template")

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        if old is not None and obj["template"] == old["template"]:
            return []
        return pod_warnings(obj["template"]["spec"], "template.spec")
