"""What runs Pods: deployments, sets, jobs, autoscalers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.times import parse_time
from twinstack.server.tables.ages import age, duration
from twinstack.server.tables.cells import (
    NONE,
    UNSET,
    Cells,
    Table,
    age_of,
    labels_text,
    name_of,
    selector_of,
    template_cells,
)

JSON = dict[str, Any]

_REPLICAS = "Name|Desired:integer|Current:integer|Ready:integer|Age|Containers*|Images*|Selector*"
_DAEMON_COLUMNS = (
    "Name|Desired:integer|Current:integer|Ready:integer|Up-to-date:integer|Available:integer|Node Selector|Age|"
    "Containers*|Images*|Selector*"
)
_UNKNOWN = "<unknown>"
_JOB_STATES = ("FailureTarget", "SuccessCriteriaMet")
_METRIC_LIMIT = 2  # how many metrics fit


def _deployment(obj: JSON, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        name_of(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age_of(obj, now),
        *template_cells(spec["template"]),
        selector_of(spec.get("selector")),
    ]


def _replicas(obj: JSON, now: float) -> Cells:
    """Up to the images: of ReplicaSets and ReplicationControllers."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [name_of(obj), *counts, age_of(obj, now), *template_cells(spec.get("template") or {})]


def _replica_set(obj: JSON, now: float) -> Cells:
    return [*_replicas(obj, now), selector_of(obj["spec"].get("selector"))]


def _replication_controller(obj: JSON, now: float) -> Cells:
    return [*_replicas(obj, now), labels_text((obj.get("spec") or {}).get("selector"))]


def _stateful_set(obj: JSON, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [name_of(obj), ready, age_of(obj, now), *template_cells(spec["template"])]


def _daemon_set(obj: JSON, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    counts = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady")
    return [
        name_of(obj),
        *(status.get(count, 0) for count in (*counts, "updatedNumberScheduled", "numberAvailable")),
        labels_text((spec["template"].get("spec") or {}).get("nodeSelector")),
        age_of(obj, now),
        *template_cells(spec["template"]),
        selector_of(spec.get("selector")),
    ]


def _pod_template(obj: JSON, _now: float) -> Cells:
    template = obj.get("template") or {}
    return [name_of(obj), *template_cells(template), labels_text((template.get("metadata") or {}).get("labels"))]


def _controller_revision(obj: JSON, now: float) -> Cells:
    owners: Sequence[JSON] = obj["metadata"].get("ownerReferences") or []
    owner = next((each for each in owners if each.get("controller")), None)
    shown = NONE
    if owner:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        kind = ".".join(filter(None, (owner.get("kind", "").lower(), group)))
        shown = f"{kind}/{owner.get('name', '')}"
    return [name_of(obj), shown, obj.get("revision", 0), age_of(obj, now)]


def _job(obj: JSON, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    started, ended = status.get("startTime"), status.get("completionTime")
    took = duration((parse_time(ended) if ended else now) - parse_time(started)) if started else ""
    return [
        name_of(obj),
        _job_state(obj["metadata"], status),
        _completions(spec, status.get("succeeded", 0)),
        took,
        age_of(obj, now),
        *template_cells(spec["template"]),
        selector_of(spec.get("selector")),
    ]


def _job_state(meta: JSON, status: JSON) -> str:
    true = {each.get("type") for each in status.get("conditions") or [] if each.get("status") == "True"}
    for kind in ("Complete", "Failed"):
        if kind in true:
            return kind
    if meta.get("deletionTimestamp"):
        return "Terminating"
    return next((kind for kind in ("Suspended", *_JOB_STATES) if kind in true), "Running")


def _completions(spec: JSON, succeeded: int) -> str:
    if "completions" in spec:
        return f"{succeeded}/{spec['completions']}"
    parallel = spec.get("parallelism", 0)
    return f"{succeeded}/1 of {parallel}" if parallel > 1 else f"{succeeded}/1"


def _cron_job(obj: JSON, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    last = status.get("lastScheduleTime")
    suspended = spec.get("suspend")
    return [
        name_of(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        UNSET if suspended is None else str(suspended),
        len(status.get("active") or []),
        age(last, now) if last else NONE,
        age_of(obj, now),
        *template_cells(job.get("template") or {}),
        selector_of(job.get("selector")),
    ]


def _autoscaler(obj: JSON, now: float) -> Cells:
    """Of either version."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    low = spec.get("minReplicas")
    return [
        name_of(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        _targets(spec, status),
        UNSET if low is None else str(low),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age_of(obj, now),
    ]


def _targets(spec: JSON, status: JSON) -> str:
    if "targetCPUUtilizationPercentage" in spec:
        used = status.get("currentCPUUtilizationPercentage")
        return f"cpu: {_percent(used)}/{spec['targetCPUUtilizationPercentage']}%"
    metrics: Sequence[JSON] = spec.get("metrics") or []
    current: Sequence[JSON] = status.get("currentMetrics") or []
    texts = [_metric(metric, current[i] if i < len(current) else {}) for i, metric in enumerate(metrics)]
    if not texts:
        return NONE
    shown = ", ".join(texts[:_METRIC_LIMIT])
    more = len(texts) - _METRIC_LIMIT
    return f"{shown} + {more} more..." if more > 0 else shown


def _metric(metric: JSON, status: JSON) -> str:
    kind = metric.get("type", "")
    field = kind[:1].lower() + kind[1:]
    wanted, current = metric.get(field) or {}, (status.get(field) or {}).get("current") or {}
    target = wanted.get("target") or {}
    if target.get("averageUtilization") is not None:
        text = f"{_percent(current.get('averageUtilization'))}/{target['averageUtilization']}%"
    elif "averageValue" in target:
        average = " (avg)" if kind in ("External", "Object") else ""
        text = f"{current.get('averageValue', _UNKNOWN)}/{target['averageValue']}{average}"
    else:
        text = f"{current.get('value', _UNKNOWN)}/{target.get('value', _UNKNOWN)}"
    return f"{wanted.get('name')}: {text}" if kind in ("Resource", "ContainerResource") else text


def _percent(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value}%"


TABLES: dict[tuple[str, str], Table] = {
    ("", "podtemplates"): ("Name|Containers|Images|Pod Labels", _pod_template),
    ("", "replicationcontrollers"): (_REPLICAS, _replication_controller),
    ("apps", "controllerrevisions"): ("Name|Controller|Revision|Age", _controller_revision),
    ("apps", "daemonsets"): (_DAEMON_COLUMNS, _daemon_set),
    ("apps", "deployments"): ("Name|Ready|Up-to-date|Available|Age|Containers*|Images*|Selector*", _deployment),
    ("apps", "replicasets"): (_REPLICAS, _replica_set),
    ("apps", "statefulsets"): ("Name|Ready|Age|Containers*|Images*", _stateful_set),
    ("autoscaling", "horizontalpodautoscalers"): (
        "Name|Reference|Targets|MinPods|MaxPods|Replicas|Age",
        _autoscaler,
    ),
    ("batch", "cronjobs"): (
        "Name|Schedule|Timezone|Suspend:boolean|Active:integer|Last Schedule|Age|Containers*|Images*|Selector*",
        _cron_job,
    ),
    ("batch", "jobs"): ("Name|Status|Completions|Duration|Age|Containers*|Images*|Selector*", _job),
}
