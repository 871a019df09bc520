"""Which nodes a Pod demands: nodeSelector and nodeAffinity (core/v1 NodeSelector). Pure."""

from __future__ import annotations

from typing import Any

from twinstack.api.core import Node, PodSpec
from twinstack.api.selectors import Operator, Requirement

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def matches_node(spec: PodSpec, node: Node) -> bool:
    """nodeSelector and the required node affinity."""
    labels = node.metadata.labels
    if any(labels.get(name) != value for name, value in spec.node_selector.items()):
        return False
    required = node_affinity(spec).get(REQUIRED)
    return required is None or any(term_matches(term, node) for term in required.get("nodeSelectorTerms") or [])


def node_affinity(spec: PodSpec) -> dict[str, Any]:
    return (spec.affinity or {}).get("nodeAffinity") or {}


def term_matches(term: dict[str, Any], node: Node) -> bool:
    """All requirements of a term must hold; a term without any selects nothing."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    own_fields = {"metadata.name": node.metadata.name}
    return bool(expressions or fields) and (
        all(_requirement(entry).matches(node.metadata.labels) for entry in expressions)
        and all(_requirement(entry).matches(own_fields) for entry in fields)
    )


def _requirement(entry: dict[str, Any]) -> Requirement:
    return Requirement(entry["key"], Operator(entry["operator"]), frozenset(entry.get("values") or []))
