"""Nodes, namespaces, configuration, events, leases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinstack.server.tables import pods
from twinstack.server.tables.ages import UNKNOWN, age
from twinstack.server.tables.cells import NONE, Cells, Table, age_of, name_and_age, name_of

JSON = dict[str, Any]

_EVENT_COLUMNS = "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*"


def _node(obj: JSON, now: float) -> Cells:
    status, spec = obj.get("status") or {}, obj.get("spec") or {}
    info = status.get("nodeInfo") or {}
    ready = next((c["status"] == "True" for c in status.get("conditions") or [] if c.get("type") == "Ready"), None)
    state = "Unknown" if ready is None else "Ready" if ready else "NotReady"
    return [
        name_of(obj),
        f"{state},SchedulingDisabled" if spec.get("unschedulable") else state,
        ",".join(_roles(obj["metadata"].get("labels") or {})) or NONE,
        age_of(obj, now),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _roles(labels: Mapping[str, str]) -> list[str]:
    prefix = "node-role.kubernetes.io/"
    roles = {key.removeprefix(prefix) for key in labels if key.startswith(prefix)} | {
        value for key, value in labels.items() if key == "kubernetes.io/role"
    }
    return sorted(roles - {""})


def _address(status: JSON, kind: str) -> str:
    return next((a.get("address", "") for a in status.get("addresses") or [] if a.get("type") == kind), NONE)


def _namespace(obj: JSON, now: float) -> Cells:
    return [name_of(obj), (obj.get("status") or {}).get("phase", ""), age_of(obj, now)]


def _config_map(obj: JSON, now: float) -> Cells:
    return [name_of(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age_of(obj, now)]


def _secret(obj: JSON, now: float) -> Cells:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or {}), age_of(obj, now)]


def _lease(obj: JSON, now: float) -> Cells:
    return [name_of(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age_of(obj, now)]


def _event(obj: JSON, now: float) -> Cells:
    """An event of either form."""
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    series = obj.get("series")
    if series:
        last, count = series.get("lastObservedTime"), series.get("count", 0)
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    kind, name = about.get("kind", "").lower(), about.get("name", "")
    return [
        age(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        about.get("fieldPath", ""),
        _event_source(obj),
        (obj.get("message") or obj.get("note") or "").strip(),
        age(first, now),
        count,
        name_of(obj),
    ]


def _event_source(obj: JSON) -> str:
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController")
    host = source.get("host") or obj.get("reportingInstance")
    return ", ".join(filter(None, (component, host)))


TABLES: dict[tuple[str, str], Table] = {
    ("", "configmaps"): ("Name|Data|Age", _config_map),
    ("", "events"): (_EVENT_COLUMNS, _event),
    ("", "namespaces"): ("Name|Status|Age", _namespace),
    ("", "nodes"): (
        "Name|Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|Container-Runtime*",
        _node,
    ),
    ("", "pods"): ("Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*", pods.cells),
    ("", "secrets"): ("Name|Type|Data|Age", _secret),
    ("", "serviceaccounts"): ("Name|Age", name_and_age),
    ("coordination.k8s.io", "leases"): ("Name|Holder|Age", _lease),
    ("events.k8s.io", "events"): (_EVENT_COLUMNS, _event),
}
