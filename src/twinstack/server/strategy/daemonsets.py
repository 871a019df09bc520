"""DaemonSets (apps/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, invalid, not_supported, required
from twinstack.api.validation import non_negative
from twinstack.server.strategy import pod_templates
from twinstack.server.strategy.amounts import amount, amount_errors, at_most_all
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.label_selectors import selector_errors
from twinstack.server.strategy.pod_defaults import default_pod_spec

JSON = dict[str, Any]

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_STRATEGIES = ("RollingUpdate", "OnDelete")
_COUNTS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
)


class DaemonSetStrategy(Strategy):
    """An annotation, which nobody else may set, counts the changes of the template."""

    metadata_twice = False

    def default(self, obj: JSON) -> None:
        spec = obj["spec"]
        spec.setdefault("revisionHistoryLimit", 10)
        strategy: JSON = spec.setdefault("updateStrategy", {})
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        default_pod_spec(spec["template"]["spec"])

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        obj["metadata"].setdefault("annotations", {})[TEMPLATE_GENERATION] = "1"

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        counted = int((old["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "1"))
        if new["spec"]["template"] != old["spec"]["template"]:
            counted += 1
        new["metadata"].setdefault("annotations", {})[TEMPLATE_GENERATION] = str(counted)

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        wanted, template = spec.get("selector"), spec["template"]
        errors = [] if old is None else pod_templates.selector_change(spec, old)
        if wanted is not None:
            errors += selector_errors(wanted, "spec.selector")
        errors += pod_templates.mismatch(spec)
        if wanted is not None and pod_templates.is_empty(wanted):
            errors.append(invalid("spec.selector", wanted, "empty selector is invalid for daemonset"))
        errors += pod_templates.template_errors(template, "spec.template")
        errors += pod_templates.always_restarted(template, "spec.template")
        errors += pod_templates.deadline_errors(template, "DaemonSet")
        errors += non_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
        errors += _strategy_errors(spec["updateStrategy"], "spec.updateStrategy")
        return errors + non_negative("spec.revisionHistoryLimit", spec["revisionHistoryLimit"])

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        return pod_templates.count_errors(obj.get("status") or {}, _COUNTS)

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return pod_templates.template_warnings(obj, old)


def _strategy_errors(strategy: JSON, field: str) -> list[FieldError]:
    kind, rolling = strategy["type"], strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        return [not_supported(field, strategy, _STRATEGIES)]
    at = f"{field}.rollingUpdate"
    if rolling is None:
        return [required(at)]
    unavailable, surge = rolling["maxUnavailable"], rolling["maxSurge"]
    errors: list[FieldError] = []
    if amount(unavailable) and amount(surge):
        errors.append(invalid(f"{at}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    if not amount(unavailable) and not amount(surge):
        errors.append(required(f"{at}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    for name, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        errors += amount_errors(value, f"{at}.{name}") + at_most_all(value, f"{at}.{name}")
    return errors
