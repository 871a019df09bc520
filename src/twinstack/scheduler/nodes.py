"""What a Pod asks of a node for itself: labels, fields and taints (nodeSelector, nodeAffinity, tolerations). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twinstack.api.core import Node, Pod, Taint, Toleration
from twinstack.api.selectors import Operator, Requirement
from twinstack.scheduler.terms import PREFERRED, REQUIRED


def tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    """Whether one of the tolerations is for this taint (core/v1 Toleration)."""
    return any(toleration.tolerates(taint) for toleration in tolerations)


def untolerated(pod: Pod, node: Node) -> bool:
    """Whether a taint of the node keeps the Pod away."""
    return any(
        taint.effect != "PreferNoSchedule" and not tolerated(taint, pod.spec.tolerations) for taint in node.spec.taints
    )


def disliked(pod: Pod, node: Node) -> int:
    """How many taints speak against the node without forbidding it."""
    return sum(
        taint.effect == "PreferNoSchedule" and not tolerated(taint, pod.spec.tolerations) for taint in node.spec.taints
    )


def matches_node(pod: Pod, node: Node) -> bool:
    """nodeSelector and the required node affinity."""
    labels = node.metadata.labels
    if any(labels.get(name) != value for name, value in pod.spec.node_selector.items()):
        return False
    required = _node_affinity(pod).get(REQUIRED)
    return required is None or any(_term_matches(term, node) for term in required.get("nodeSelectorTerms") or [])


def preference(pod: Pod, node: Node) -> int:
    """The sum of the weights of the preferred terms that the node matches; one without requirements matches none."""
    return sum(
        entry["weight"]
        for entry in _node_affinity(pod).get(PREFERRED) or ()
        if _term_matches(entry.get("preference") or {}, node)
    )


def _node_affinity(pod: Pod) -> dict[str, Any]:
    return (pod.spec.affinity or {}).get("nodeAffinity") or {}


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
