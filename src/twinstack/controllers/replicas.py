"""How many Pods a ReplicaSet lacks, which ones it gives up, and what it reports (apps/v1 ReplicaSet). Pure.

A ReplicationController (core/v1) is the same but for the form of its selector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from twinstack.api.apps import ReplicaSet, ReplicaSetStatus
from twinstack.api.core import Pod
from twinstack.api.meta import Condition
from twinstack.api.replication import ReplicationController, ReplicationControllerStatus
from twinstack.api.selectors import LabelSelector
from twinstack.controllers.ownedpods import pod_metadata
from twinstack.controllers.podstate import available_in, is_active, is_ready, ready_since

Replicated = ReplicaSet | ReplicationController

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def selector(owner: Replicated) -> LabelSelector:
    """Which Pods may be the owner's."""
    if isinstance(owner, ReplicationController):
        return (
            LabelSelector.from_labels(owner.spec.selector) if owner.spec.selector else LabelSelector.from_object(None)
        )
    return LabelSelector.from_object(owner.spec.selector)


def wanted(replica_set: Replicated) -> int:
    return 1 if replica_set.spec.replicas is None else replica_set.spec.replicas


def pod_body(replica_set: Replicated) -> dict[str, Any]:
    """The Pod that the template describes; the server names it."""
    template = replica_set.spec.template
    metadata = pod_metadata(replica_set, template) | {"generateName": f"{replica_set.metadata.name}-"}
    return {"metadata": metadata, "spec": template.spec}


def surplus(active: Sequence[Pod], count: int, now: float) -> list[Pod]:
    """The `count` Pods to delete: what serves least goes first.

    In order: not assigned, Pending before Running, not ready, the lower deletion cost (KEP-2255), more
    replicas on the same node, ready for a shorter time (in powers of two, KEP-2185), more restarts, younger.
    """
    crowd = Counter(pod.spec.node_name for pod in active)

    def rank(pod: Pod) -> tuple[Any, ...]:
        ready = is_ready(pod)
        ready_for = int(max(now - ready_since(pod), 0)) if ready else 0
        restarts = max((status.restart_count for status in pod.status.container_statuses), default=0)
        return (
            pod.spec.node_name != "",
            _PHASES.get(pod.status.phase, 0),
            ready,
            _deletion_cost(pod),
            -crowd[pod.spec.node_name],
            ready_for.bit_length(),
            -restarts,
            _Later(pod.metadata.creation_timestamp),
            pod.metadata.uid,
        )

    return sorted(active, key=rank)[:count]


class _Later(str):
    """Text that sorts the greatest first: of two times the later one."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def _deletion_cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def status_of(
    replica_set: Replicated, pods: Iterable[Pod], failure: Condition | None, now: float
) -> ReplicaSetStatus | ReplicationControllerStatus:
    """What the ReplicaSet reports of its Pods. `failure` is the ReplicaFailure condition, if it has one."""
    pods = list(pods)
    active = [pod for pod in pods if is_active(pod)]
    template_labels = (replica_set.spec.template.metadata.get("labels") or {}).items()
    minimum = replica_set.spec.min_ready_seconds
    others = [entry for entry in replica_set.status.conditions if entry.type != "ReplicaFailure"]
    counts: dict[str, Any] = {
        "replicas": len(active),
        "fully_labeled_replicas": sum(template_labels <= pod.metadata.labels.items() for pod in active),
        "ready_replicas": sum(is_ready(pod) for pod in active),
        "available_replicas": sum(available_in(pod, minimum, now) == 0.0 for pod in active),
        "observed_generation": replica_set.metadata.generation,
        "conditions": [*others, failure] if failure is not None else others,
    }
    if isinstance(replica_set, ReplicationController):
        return ReplicationControllerStatus(**counts)
    terminating = sum(pod.metadata.deletion_timestamp is not None for pod in pods)
    return ReplicaSetStatus(terminating_replicas=terminating, **counts)


def next_available(replica_set: Replicated, pods: Iterable[Pod], now: float) -> float | None:
    """Seconds until the next ready Pod counts as available, None when none waits for that."""
    waits = (available_in(pod, replica_set.spec.min_ready_seconds, now) for pod in pods if is_active(pod))
    return min((wait for wait in waits if wait), default=None)
