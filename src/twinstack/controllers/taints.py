"""Taints that follow the state of a Node, so that no new Pod goes where it cannot run (KEP-382). Pure."""

from __future__ import annotations

from twinstack.api.core import Node, Taint
from twinstack.controllers.podstate import condition

NO_SCHEDULE = "NoSchedule"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_BY_CONDITION = {
    ("Ready", "False"): "node.kubernetes.io/not-ready",
    ("Ready", "Unknown"): "node.kubernetes.io/unreachable",
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_KEYS = frozenset(_BY_CONDITION.values()) | {UNSCHEDULABLE}


def desired_taints(node: Node, now: str) -> list[Taint]:
    """The taints a Node should have: its own, and one for each state that keeps Pods away.

    `now` is the meta/v1 Time written into new ones; those that are there already keep theirs.
    """
    wanted = [UNSCHEDULABLE] if node.spec.unschedulable else []
    for (type_, status), key in _BY_CONDITION.items():
        found = condition(node.status.conditions, type_)
        if found is not None and found.status == status:
            wanted.append(key)
    kept = [taint for taint in node.spec.taints if not _is_ours(taint) or taint.key in wanted]
    present = {taint.key for taint in kept if _is_ours(taint)}
    return kept + [Taint(key=key, effect=NO_SCHEDULE, time_added=now) for key in wanted if key not in present]


def _is_ours(taint: Taint) -> bool:
    return taint.effect == NO_SCHEDULE and taint.key in _KEYS
