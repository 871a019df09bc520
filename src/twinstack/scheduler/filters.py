"""Why a node cannot take a Pod, in kube-scheduler's words. Pure."""

from __future__ import annotations

from twinstack.api.core import Node, Pod, Taint
from twinstack.api.nodeaffinity import matches_node
from twinstack.scheduler.loads import Load
from twinstack.scheduler.nodes import tolerated, untolerated
from twinstack.scheduler.quantities import thousandths
from twinstack.scheduler.refusals import Refusal
from twinstack.scheduler.requests import PODS, Footprint, collide

_UNSCHEDULABLE = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")

CORDONED = Refusal(("node(s) were unschedulable",), resolvable=False)
TAINTED = Refusal(("node(s) had untolerated taint(s)",), resolvable=False)
UNSELECTED = Refusal(("node(s) didn't match Pod's node affinity/selector",), resolvable=False)
PORTS_TAKEN = Refusal(("node(s) didn't have free ports for the requested pod ports",))


def refusal(pod: Pod, taken: Footprint, node: Node, load: Load) -> Refusal | None:
    """Why not, on account of the node itself; None when it fits. The first filter that refuses ends it, as upstream."""
    if node.spec.unschedulable and not tolerated(_UNSCHEDULABLE, pod.spec.tolerations):
        return CORDONED
    if untolerated(pod, node):
        return TAINTED
    if not matches_node(pod.spec, node):
        return UNSELECTED
    if taken.ports and collide(taken.ports, set(load.ports)):
        return PORTS_TAKEN
    return _insufficient(taken, node, load)


def _insufficient(taken: Footprint, node: Node, load: Load) -> Refusal | None:
    """Every resource that does not suffice. A node that says nothing of Pods takes any number."""
    allocatable = node.status.allocatable
    reasons, resolvable = [], True
    for name, amount in taken.resources.items():
        if amount == 0 or (name == PODS and PODS not in allocatable):
            continue
        there = thousandths(str(allocatable.get(name, "0")))
        if load.resources[name] + amount > there:
            reasons.append("Too many pods" if name == PODS else f"Insufficient {name}")
            resolvable = resolvable and amount <= there
    return Refusal(tuple(reasons), resolvable) if reasons else None
