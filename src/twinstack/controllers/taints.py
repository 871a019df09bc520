"""Taints that follow the state of a Node: where Pods cannot run none goes, and those there leave (KEP-382). Pure."""

from __future__ import annotations

from twinstack.api.core import Node, Taint
from twinstack.controllers.podstate import condition

NO_SCHEDULE = "NoSchedule"
NO_EXECUTE = "NoExecute"
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_BY_CONDITION = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_OURS = {(key, NO_SCHEDULE) for key in (*_BY_CONDITION.values(), UNSCHEDULABLE)} | {
    (key, NO_EXECUTE) for key in (NOT_READY, UNREACHABLE)
}


def desired_taints(node: Node, now: str, *, evicts: bool) -> list[Taint]:
    """The taints a Node should have: its own, and one for each state that keeps Pods away.

    `evicts`: a Node that is not ready also sends away the Pods that it has. `now` is the meta/v1 Time written
    into new ones; those that are there already keep theirs.
    """
    wanted = [(UNSCHEDULABLE, NO_SCHEDULE)] if node.spec.unschedulable else []
    for (type_, status), key in _BY_CONDITION.items():
        found = condition(node.status.conditions, type_)
        if found is not None and found.status == status:
            wanted.append((key, NO_SCHEDULE))
            if evicts and type_ == "Ready":
                wanted.append((key, NO_EXECUTE))
    kept = [taint for taint in node.spec.taints if _identity(taint) not in _OURS or _identity(taint) in wanted]
    present = {_identity(taint) for taint in kept}
    missing = [identity for identity in wanted if identity not in present]
    return kept + [Taint(key=key, effect=effect, time_added=now) for key, effect in missing]


def is_evicting(node: Node) -> bool:
    """Whether a Node has been told to send its Pods away for not being ready."""
    return any(taint.effect == NO_EXECUTE and taint.key in (NOT_READY, UNREACHABLE) for taint in node.spec.taints)


def readiness(node: Node) -> str | None:
    """The status of the condition Ready: True, False or Unknown; None when the Node does not say."""
    ready = condition(node.status.conditions, "Ready")
    return ready.status if ready is not None else None


def _identity(taint: Taint) -> tuple[str, str]:
    return taint.key, taint.effect
