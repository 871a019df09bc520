"""RuntimeClasses (node.k8s.io/v1), and what they mean for a Pod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api import validation
from twinstack.api.errors import FieldError, required
from twinstack.api.metadata import immutable
from twinstack.api.resources import resource
from twinstack.api.validation import dns_label, each
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.scheduling_validation import toleration_errors

JSON = dict[str, Any]

CLASSES = resource("node.k8s.io", "runtimeclasses")


class RuntimeClassStrategy(Strategy):
    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        handler = obj.get("handler", "")
        errors = each("handler", handler, dns_label(handler)) if handler else [required("handler")]
        scheduling = obj.get("scheduling") or {}
        errors += validation.labels("scheduling.nodeSelector", scheduling.get("nodeSelector") or {})
        errors += toleration_errors(scheduling.get("tolerations") or [], "scheduling.tolerations")
        return errors if old is None else [*errors, *immutable("handler", handler, old.get("handler", ""))]


def apply_class(pod_spec: JSON, runtime: JSON) -> str:
    """Overhead, node selector and tolerations of the class, in place. Returns what is wrong, if anything."""
    overhead = (runtime.get("overhead") or {}).get("podFixed")
    if overhead:
        if pod_spec.get("overhead", overhead) != overhead:
            return "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        pod_spec["overhead"] = dict(overhead)
    scheduling = runtime.get("scheduling") or {}
    selector: JSON = pod_spec.get("nodeSelector") or {}
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            at = f"nodeSelector[{key}]"
            return f"conflict: runtimeClass.scheduling.{at} = {value}; pod.spec.{at} = {selector[key]}"
        pod_spec.setdefault("nodeSelector", selector)[key] = value
    tolerations: list[JSON] = pod_spec.setdefault("tolerations", [])
    tolerations += [each for each in scheduling.get("tolerations") or [] if each not in tolerations]
    return ""
