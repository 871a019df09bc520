"""What the server says of itself: groups it serves, components, priority and fairness."""

from __future__ import annotations

from typing import Any

from twinstack.server.tables.cells import NONE, Cells, Table, age_of, name_of

JSON = dict[str, Any]

_FLOW_CONTROL = "flowcontrol.apiserver.k8s.io"


def _condition(obj: JSON, kind: str) -> JSON:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((item for item in conditions if item.get("type") == kind), {})


def _api_service(obj: JSON, now: float) -> Cells:
    service = (obj.get("spec") or {}).get("service")
    target = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    condition = _condition(obj, "Available")
    available = str(condition.get("status", "Unknown"))
    if available != "True" and condition.get("reason"):
        available = f"{available} ({condition['reason']})"
    return [name_of(obj), target, available, age_of(obj, now)]


def _component(obj: JSON, now: float) -> Cells:
    told: JSON = next((item for item in obj.get("conditions") or () if item.get("type") == "Healthy"), {})
    status = "Unknown" if not told else "Healthy" if told.get("status") == "True" else "Unhealthy"
    return [name_of(obj), status, told.get("message", ""), told.get("error", "")]


def _flow_schema(obj: JSON, now: float) -> Cells:
    spec = obj.get("spec") or {}
    return [
        name_of(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        spec.get("matchingPrecedence", 0),
        (spec.get("distinguisherMethod") or {}).get("type", NONE),
        age_of(obj, now),
        str(_condition(obj, "Dangling").get("status", "?")),
    ]


def _priority_level(obj: JSON, now: float) -> Cells:
    spec = obj.get("spec") or {}
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    return [
        name_of(obj),
        spec.get("type", ""),
        str(limited.get("nominalConcurrencyShares", NONE)),
        *(str(queuing.get(field, NONE)) for field in ("queues", "handSize", "queueLengthLimit")),
        age_of(obj, now),
    ]


TABLES: dict[tuple[str, str], Table] = {
    ("", "componentstatuses"): ("Name|Status|Message|Error", _component),
    ("apiregistration.k8s.io", "apiservices"): ("Name|Service|Available|Age", _api_service),
    (_FLOW_CONTROL, "flowschemas"): (
        "Name|PriorityLevel|MatchingPrecedence|DistinguisherMethod|Age|MissingPL",
        _flow_schema,
    ),
    (_FLOW_CONTROL, "prioritylevelconfigurations"): (
        "Name|Type|NominalConcurrencyShares|Queues|HandSize|QueueLengthLimit|Age",
        _priority_level,
    ),
}
