"""What a Pod makes of a node's taints, and which nodes it prefers (tolerations, nodeAffinity). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.api.core import Node, Pod, Taint, Toleration
from twinstack.api.nodeaffinity import node_affinity, term_matches
from twinstack.scheduler.terms import PREFERRED


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


def preference(pod: Pod, node: Node) -> int:
    """The sum of the weights of the preferred terms that the node matches; one without requirements matches none."""
    return sum(
        entry["weight"]
        for entry in node_affinity(pod.spec).get(PREFERRED) or ()
        if term_matches(entry.get("preference") or {}, node)
    )
