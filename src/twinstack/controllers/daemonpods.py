"""The Pods of a DaemonSet: one a node, bound to it by affinity (apps/v1 DaemonSet). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from twinstack.api.apps import DaemonSet
from twinstack.api.core import Node, Pod, PodSpec, Toleration
from twinstack.api.nodeaffinity import REQUIRED, matches_node, node_affinity
from twinstack.controllers.ownedpods import pod_metadata

HASH_LABEL = "controller-revision-hash"
GENERATION_LABEL = "pod-template-generation"
GENERATION = "deprecated.daemonset.template.generation"  # annotation of the DaemonSet
_KEPT_THOUGH = ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")


def tolerations(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the template, and of every state of a node in which its daemons should run all the same."""
    added = [_tolerated(name, "NoExecute") for name in ("not-ready", "unreachable")]
    added += [_tolerated(name, "NoSchedule") for name in _KEPT_THOUGH]
    if spec.get("hostNetwork"):
        added.append(_tolerated("network-unavailable", "NoSchedule"))
    own = list(spec.get("tolerations") or ())
    return own + [one for one in added if one not in own]


def _tolerated(name: str, effect: str) -> dict[str, Any]:
    return {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}


def pod_body(owner: DaemonSet, node: str, revision_hash: str) -> dict[str, Any]:
    """The Pod for a node; the scheduler binds it, to this node alone."""
    metadata, spec = pod_metadata(owner, owner.spec.template), owner.spec.template.spec
    labels = {HASH_LABEL: revision_hash}
    if generation := owner.metadata.annotations.get(GENERATION):
        labels[GENERATION_LABEL] = generation
    metadata |= {"labels": metadata.get("labels", {}) | labels, "generateName": f"{owner.metadata.name}-"}
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = spec.get("affinity") or {}
    bound = (affinity.get("nodeAffinity") or {}) | {REQUIRED: {"nodeSelectorTerms": [{"matchFields": [field]}]}}
    own = {"affinity": affinity | {"nodeAffinity": bound}, "tolerations": tolerations(spec)}
    return {"metadata": metadata, "spec": spec | own}


def node_of(pod: Pod) -> str:
    """The node a daemon's Pod is on, or is meant for; empty when it does not say."""
    if pod.spec.node_name:
        return pod.spec.node_name
    for term in (node_affinity(pod.spec).get(REQUIRED) or {}).get("nodeSelectorTerms") or []:
        for field in term.get("matchFields") or []:
            if field["key"] == "metadata.name" and len(field.get("values") or []) == 1:
                return str(field["values"][0])
    return ""


class Eligibility:
    """Which nodes a DaemonSet is for."""

    def __init__(self, owner: DaemonSet) -> None:
        self._spec = msgspec.convert(owner.spec.template.spec, PodSpec)
        self._tolerations = msgspec.convert(tolerations(owner.spec.template.spec), list[Toleration])

    def of(self, node: Node) -> tuple[bool, bool]:
        """Whether a Pod should run there, and whether one that does may stay."""
        if self._spec.node_name not in ("", node.metadata.name) or not matches_node(self._spec, node):
            return False, False
        against = {taint.effect for taint in node.spec.taints if not self._tolerates(taint)}
        return not against & {"NoSchedule", "NoExecute"}, "NoExecute" not in against

    def _tolerates(self, taint: Any) -> bool:
        return any(one.tolerates(taint) for one in self._tolerations)


def by_node(pods: Iterable[Pod]) -> dict[str, list[Pod]]:
    """Pods by the node they are on or meant for: bound ones first, then the oldest."""
    found: dict[str, list[Pod]] = {}
    for pod in sorted(pods, key=lambda p: (p.spec.node_name == "", p.metadata.creation_timestamp, p.metadata.name)):
        found.setdefault(node_of(pod), []).append(pod)
    return found
