"""A HorizontalPodAutoscaler in its two forms: autoscaling/v2, which is stored, and autoscaling/v1.

v1 knows one metric, the use of CPU. Whatever else the stored object says is shown in annotations, and read from them.
"""

from __future__ import annotations

from typing import Any

import msgspec

JSON = dict[str, Any]

_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS, _BEHAVIOR = f"{_PREFIX}metrics", f"{_PREFIX}behavior"
_CURRENT, _CONDITIONS = f"{_PREFIX}current-metrics", f"{_PREFIX}conditions"
_TARGET, _IN_USE = "targetCPUUtilizationPercentage", "currentCPUUtilizationPercentage"
DEFAULT_UTILIZATION = 80  # percent


def cpu_metric(percent: int) -> JSON:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _utilization(metric: JSON, part: str) -> int | None:
    """The percentage of a metric that is the use of CPU; `part` is target or current."""
    resource = metric.get("resource") or {}
    if metric.get("type") != "Resource" or resource.get("name") != "cpu":
        return None
    value: int | None = (resource.get(part) or {}).get("averageUtilization")
    return value


def _divide(metrics: list[JSON], part: str) -> tuple[int | None, list[JSON]]:
    """The use of CPU, and the metrics that v1 has no field for."""
    percent = next((found for found in (_utilization(each, part) for each in metrics) if found is not None), None)
    return percent, [each for each in metrics if _utilization(each, part) is None]


def to_v1(stored: JSON) -> JSON:
    """The object as autoscaling/v1; `stored` may be changed."""
    meta, spec, status = stored["metadata"], dict(stored.get("spec") or {}), dict(stored.get("status") or {})
    target, metrics = _divide(spec.pop("metrics", None) or [], "target")
    in_use, current = _divide(status.pop("currentMetrics", None) or [], "current")
    hidden = {
        _METRICS: metrics,
        _BEHAVIOR: spec.pop("behavior", None),
        _CURRENT: current,
        _CONDITIONS: status.pop("conditions", None),
    }
    told = {name: msgspec.json.encode(value).decode() for name, value in hidden.items() if value}
    if told:
        meta["annotations"] = (meta.get("annotations") or {}) | told
    if target is not None:
        spec[_TARGET] = target
    if in_use is not None:
        status[_IN_USE] = in_use
    status.setdefault("currentReplicas", 0)
    return stored | {"apiVersion": "autoscaling/v1", "spec": spec, "status": status}


def to_v2(obj: JSON) -> JSON:
    """The stored form of an autoscaling/v1 object, which is consumed."""
    meta, spec, status = obj["metadata"], dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations: JSON = dict(meta.get("annotations") or {})
    metrics = _told(annotations, _METRICS) or []
    current, conditions, behavior = (_told(annotations, name) for name in (_CURRENT, _CONDITIONS, _BEHAVIOR))
    target, in_use = spec.pop(_TARGET, None), status.pop(_IN_USE, None)
    if target is not None or not metrics:
        metrics = [cpu_metric(DEFAULT_UTILIZATION if target is None else target), *metrics]
    if in_use is not None:
        used = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": in_use}}}
        current = [used, *(current or [])]
    spec["metrics"] = metrics
    for where, name, value in ((spec, "behavior", behavior), (status, "conditions", conditions)):
        if value:
            where[name] = value
    if current:
        status["currentMetrics"] = current
    if not status.get("currentReplicas"):
        status.pop("currentReplicas", None)
    shown = {name: value for name, value in meta.items() if name != "annotations"}
    if annotations:
        shown["annotations"] = annotations
    return obj | {"apiVersion": "autoscaling/v2", "metadata": shown, "spec": spec, "status": status}


def _told(annotations: JSON, name: str) -> Any:
    """What an annotation says, which it loses thereby; nonsense says nothing."""
    text = annotations.pop(name, "")
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return None
