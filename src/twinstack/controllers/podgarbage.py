"""Which Pods nobody will remove but us, and why (pod garbage collection). Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from twinstack.api.core import Node, Pod
from twinstack.controllers.podstate import is_finished
from twinstack.controllers.taints import readiness

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


class Reason(enum.Enum):
    """In words for a log."""

    ORPHANED = "its node is gone"
    OUT_OF_SERVICE = "its node is out of service"
    UNSCHEDULED = "it never had a node"


def reason_to_remove(pod: Pod, node: Node | None) -> Reason | None:
    """`node` is the Pod's, None when there is none of that name. Finished Pods are counted elsewhere."""
    terminating = pod.metadata.deletion_timestamp is not None
    if not pod.spec.node_name:
        return Reason.UNSCHEDULED if terminating else None
    if node is None:
        return Reason.ORPHANED
    if terminating and is_out_of_service(node):
        return Reason.OUT_OF_SERVICE
    return None


def is_out_of_service(node: Node) -> bool:
    """Whether somebody has declared that a Node that is not ready will not come back as it was (KEP-2268)."""
    return readiness(node) != "True" and any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)


def surplus_finished(pods: Iterable[Pod], threshold: int) -> list[Pod]:
    """Finished Pods beyond `threshold`, 0: none. Evicted ones go first, then the oldest."""
    finished = [pod for pod in pods if is_finished(pod)]
    if threshold <= 0 or len(finished) <= threshold:
        return []
    finished.sort(key=lambda pod: (not _is_evicted(pod), pod.metadata.creation_timestamp, pod.metadata.name))
    return finished[: len(finished) - threshold]


def _is_evicted(pod: Pod) -> bool:
    return pod.status.phase == "Failed" and pod.status.reason == "Evicted"
