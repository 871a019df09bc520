"""Why a node cannot take a Pod, in kube-scheduler's words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twinstack.api.core import Node, Pod, Taint, Toleration
from twinstack.api.selectors import Operator, Requirement
from twinstack.scheduler.loads import Load
from twinstack.scheduler.quantities import thousandths
from twinstack.scheduler.requests import PODS, Footprint, collide

NOT_READY = Taint(key="node.kubernetes.io/not-ready", effect="NoSchedule")
UNSCHEDULABLE = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")


def obstacles(pod: Pod, taken: Footprint, node: Node, load: Load) -> list[str]:
    """The reasons against a node; empty when the Pod fits. The first filter that refuses ends the list, as upstream."""
    tolerations = pod.spec.tolerations
    if node.spec.unschedulable and not tolerated(UNSCHEDULABLE, tolerations):
        return ["node(s) were unschedulable"]
    if not _is_ready(node) and not tolerated(NOT_READY, tolerations):
        return ["node(s) were not ready"]
    if any(taint.effect != "PreferNoSchedule" and not tolerated(taint, tolerations) for taint in node.spec.taints):
        return ["node(s) had untolerated taint(s)"]
    if not matches_node(pod, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    if collide(taken.ports, set(load.ports)):
        return ["node(s) didn't have free ports for the requested pod ports"]
    return _insufficient(taken, node, load)


def tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    """Whether one of the tolerations is for this taint (core/v1 Toleration)."""
    return any(toleration.tolerates(taint) for toleration in tolerations)


def matches_node(pod: Pod, node: Node) -> bool:
    """nodeSelector and the required node affinity."""
    labels = node.metadata.labels
    if any(labels.get(name) != value for name, value in pod.spec.node_selector.items()):
        return False
    affinity = ((pod.spec.affinity or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    return affinity is None or any(_term_matches(term, node) for term in affinity.get("nodeSelectorTerms") or [])


def _term_matches(term: dict[str, Any], node: Node) -> bool:
    """All requirements of a term must hold; a term without any selects nothing."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    own_fields = {"metadata.name": node.metadata.name}
    return bool(expressions or fields) and (
        all(_requirement(entry).matches(node.metadata.labels) for entry in expressions)
        and all(_requirement(entry).matches(own_fields) for entry in fields)
    )


def _requirement(entry: dict[str, Any]) -> Requirement:
    return Requirement(entry["key"], Operator(entry["operator"]), frozenset(entry.get("values") or []))


def _insufficient(taken: Footprint, node: Node, load: Load) -> list[str]:
    """Every resource that does not suffice. A node that says nothing of Pods takes any number."""
    allocatable = node.status.allocatable
    reasons = []
    for name, amount in taken.resources.items():
        if amount == 0 or (name == PODS and PODS not in allocatable):
            continue
        if load.resources[name] + amount > thousandths(str(allocatable.get(name, "0"))):
            reasons.append("Too many pods" if name == PODS else f"Insufficient {name}")
    return reasons


def _is_ready(node: Node) -> bool:
    return any(entry.type == "Ready" and entry.status == "True" for entry in node.status.conditions)


def not_considered(pod: Pod) -> list[str]:
    """Required constraints of a Pod that this scheduler does not look at."""
    affinity = pod.spec.affinity or {}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    result = [kind for kind in ("podAffinity", "podAntiAffinity") if (affinity.get(kind) or {}).get(required)]
    spread = pod.spec.topology_spread_constraints
    if any(entry.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule" for entry in spread):
        result.append("topologySpreadConstraints")
    return result
