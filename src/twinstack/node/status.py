"""A pod's status on its way to the API: only what changed, as a strategic merge patch. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api import core
from twinstack.api.meta import Condition
from twinstack.node.resizing import CONDITIONS

JSON = dict[str, Any]

_PLAIN = (
    *("phase", "reason", "message", "hostIP", "podIP", "startTime", "observedGeneration"),
    *("resources", "allocatedResources"),
)
_ATOMIC = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_BY_IP = ("hostIPs", "podIPs")


def status_patch(uid: str, known: core.PodStatus, wanted: core.PodStatus) -> JSON | None:
    """What turns the known status into the wanted one; None when nothing does.

    The uid in it makes the server refuse the patch for a new pod of the same name. Conditions that are not in
    `wanted` belong to others and stay, but for those of a resize, which go with it.
    """
    old, new = msgspec.to_builtins(known), msgspec.to_builtins(wanted)
    if known.start_time:
        new["startTime"] = known.start_time  # the first that was written counts
    status: JSON = {}
    for field in (*_PLAIN, *_ATOMIC):
        if old.get(field) != new.get(field):
            status[field] = new.get(field)
    for field in _BY_IP:
        if old.get(field) != new.get(field):
            # Merged by address: without the directive old addresses would stay.
            directive = [{"$patch": "replace"}] if old.get(field) else []
            status[field] = directive + new.get(field, [])
    conditions = _conditions(known.conditions, wanted.conditions)
    if conditions:
        status["conditions"] = conditions
        if len(conditions) > 1:
            status["$setElementOrder/conditions"] = [{"type": condition.type} for condition in wanted.conditions]
    return {"metadata": {"uid": uid}, "status": status} if status else None


def _conditions(known: list[Condition], wanted: list[Condition]) -> list[JSON]:
    """Merged by type; a field that went away has to be taken away by null."""
    before = {condition.type: msgspec.to_builtins(condition) for condition in known}
    present = {condition.type for condition in wanted}
    changed = [{"$patch": "delete", "type": kind} for kind in CONDITIONS if kind in before.keys() - present]
    for condition in wanted:
        old, new = before.get(condition.type, {}), msgspec.to_builtins(condition)
        if old.get("status") == condition.status and "lastTransitionTime" in old:
            new["lastTransitionTime"] = old["lastTransitionTime"]
        if any(old.get(field) != new.get(field) for field in new.keys() | (old.keys() - {"lastProbeTime"})):
            changed.append(dict.fromkeys(old.keys() - new.keys() - {"lastProbeTime"}) | new)
    return changed
