"""Topology spread constraints that forbid a node: whenUnsatisfiable DoNotSchedule (KEP-895, KEP-3022). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from twinstack.api.core import Node, Pod
from twinstack.api.nodeaffinity import matches_node
from twinstack.api.selectors import LabelSelector
from twinstack.scheduler.loads import Loads
from twinstack.scheduler.nodes import untolerated
from twinstack.scheduler.refusals import Refusal
from twinstack.scheduler.requests import Footprint
from twinstack.scheduler.terms import read_selector, with_keys

SKEWED = Refusal(("node(s) didn't match pod topology spread constraints",))
UNLABELED = Refusal(
    ("node(s) didn't match pod topology spread constraints (missing required label)",), resolvable=False
)


class _Constraint(NamedTuple):
    key: str
    most: int  # Pods that a domain may have, this one among them
    counts: dict[str, int]  # domain → matching Pods
    adds: bool  # this Pod counts itself


class Spread:
    """The constraints of one Pod, counted once for a decision."""

    def __init__(self, pod: Pod, taken: Footprint, nodes: Mapping[str, Node], loads: Loads) -> None:
        hard = [
            entry
            for entry in pod.spec.topology_spread_constraints
            if entry.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
        ]
        self._constraints = [_count(entry, hard, pod, taken, nodes, loads) for entry in hard]

    def refusal(self, node: Node) -> Refusal | None:
        labels = node.metadata.labels
        for constraint in self._constraints:
            value = labels.get(constraint.key)
            if value is None:
                return UNLABELED
            if constraint.counts.get(value, 0) + constraint.adds > constraint.most:
                return SKEWED
        return None


def _count(
    entry: dict[str, Any],
    all_of_them: list[dict[str, Any]],
    pod: Pod,
    taken: Footprint,
    nodes: Mapping[str, Node],
    loads: Loads,
) -> _Constraint:
    key = entry["topologyKey"]
    selector = with_keys(read_selector(entry.get("labelSelector")), pod, entry)
    keys = [other["topologyKey"] for other in all_of_them]
    eligible = {name: node for name, node in nodes.items() if _is_eligible(entry, keys, pod, node)}
    counts = {node.metadata.labels[key]: 0 for node in eligible.values()}
    for node, other in loads.in_namespace(taken.namespace):
        if node in eligible and not other.ending and selector.matches(other.labels):
            counts[eligible[node].metadata.labels[key]] += 1
    fewest = min(counts.values(), default=0)
    if len(counts) < (entry.get("minDomains") or 1):
        fewest = 0
    return _Constraint(key, fewest + entry["maxSkew"], counts, _adds(selector, taken))


def _is_eligible(entry: dict[str, Any], keys: list[str], pod: Pod, node: Node) -> bool:
    """Whether a node's domain counts for this constraint at all."""
    if any(key not in node.metadata.labels for key in keys):
        return False
    if entry.get("nodeAffinityPolicy", "Honor") == "Honor" and not matches_node(pod.spec, node):
        return False
    return entry.get("nodeTaintsPolicy", "Ignore") == "Ignore" or not untolerated(pod, node)


def _adds(selector: LabelSelector, taken: Footprint) -> bool:
    return selector.matches(taken.labels)
