"""What a Deployment reports: counts and the Available and Progressing conditions (apps/v1 DeploymentStatus). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.apps import Deployment, DeploymentStatus, ReplicaSet
from twinstack.api.meta import Condition
from twinstack.controllers.podstate import condition
from twinstack.controllers.replicas import wanted as spec_replicas
from twinstack.controllers.rollout import Limits

NO_DEADLINE = 2**31 - 1  # progressDeadlineSeconds that never ends


def status_of(
    deployment: Deployment, limit: Limits, new: ReplicaSet | None, old: Sequence[ReplicaSet], now: float
) -> DeploymentStatus:
    """The status at Unix time `now`, given the ReplicaSet of the present template and the others."""
    everything = [*old, new] if new is not None else list(old)
    available = sum(rs.status.available_replicas for rs in everything)
    before = deployment.status
    status = DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=sum(rs.status.replicas for rs in everything),
        updated_replicas=new.status.replicas if new is not None else 0,
        ready_replicas=sum(rs.status.ready_replicas for rs in everything),
        available_replicas=available,
        unavailable_replicas=max(0, sum(spec_replicas(rs) for rs in everything) - available),
        terminating_replicas=sum(rs.status.terminating_replicas or 0 for rs in everything),
        collision_count=before.collision_count,
    )
    status.conditions = [entry for entry in before.conditions if entry.type not in _OURS]
    status.conditions.append(_settle(before, _available(limit, available), now))
    progressing = _progressing(deployment, limit, status, new, now)
    if progressing is not None:
        status.conditions.append(_settle(before, progressing, now))
    failing = next((c for rs in everything if (c := condition(rs.status.conditions, "ReplicaFailure"))), None)
    if failing is not None:
        copied = Condition(type=failing.type, status=failing.status, reason=failing.reason, message=failing.message)
        status.conditions.append(_settle(before, copied, now))
    return status


_OURS = frozenset({"Available", "Progressing", "ReplicaFailure"})


def to_patch(status: DeploymentStatus) -> dict[str, Any]:
    """The status for a merge patch: every number is said, also 0."""
    counts = {
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "updatedReplicas": status.updated_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "unavailableReplicas": status.unavailable_replicas,
        "terminatingReplicas": status.terminating_replicas,
        "conditions": msgspec.to_builtins(status.conditions),
    }
    return counts | ({"collisionCount": status.collision_count} if status.collision_count is not None else {})


def is_complete(limit: Limits, status: DeploymentStatus) -> bool:
    """Whether the rollout is over: all replicas are of the new template, available, and no other is left."""
    return status.updated_replicas == limit.replicas == status.replicas == status.available_replicas


def deadline(deployment: Deployment, status: DeploymentStatus, now: float) -> float | None:
    """Seconds until the rollout counts as stuck; None when it is over, stuck already or has no deadline."""
    limit = _deadline_seconds(deployment)
    progressing = condition(status.conditions, "Progressing")
    if progressing is None or limit is None or progressing.status != "True" or not progressing.last_update_time:
        return None
    if progressing.reason in ("NewReplicaSetAvailable", "DeploymentPaused"):
        return None
    return max(0.0, times.parse_time(progressing.last_update_time) + limit - now)


def _deadline_seconds(deployment: Deployment) -> int | None:
    seconds = deployment.spec.progress_deadline_seconds
    return None if seconds is None or seconds == NO_DEADLINE else seconds


def _available(limit: Limits, available: int) -> Condition:
    if available >= limit.replicas - limit.unavailable:
        return _condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    return _condition(
        "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    )


def _progressing(
    deployment: Deployment, limit: Limits, status: DeploymentStatus, new: ReplicaSet | None, now: float
) -> Condition | None:
    """None without progressDeadlineSeconds: then upstream says nothing of progress."""
    before = condition(deployment.status.conditions, "Progressing")
    if _deadline_seconds(deployment) is None:
        return None
    if deployment.spec.paused:
        return _condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    if new is None:
        return before
    name = f'ReplicaSet "{new.metadata.name}"'
    if is_complete(limit, status):
        return _condition("Progressing", "True", "NewReplicaSetAvailable", f"{name} has successfully progressed.")
    if before is None or before.reason == "DeploymentPaused":
        created = f'Created new replica set "{new.metadata.name}"'
        return _condition("Progressing", "True", "NewReplicaSetCreated", created)
    if _has_progressed(deployment.status, status):
        fresh = _condition("Progressing", "True", "ReplicaSetUpdated", f"{name} is progressing.")
        fresh.last_update_time = times.format_time(now)
        return fresh
    left = deadline(deployment, deployment.status, now)
    if left is not None and left <= 0:
        return _condition("Progressing", "False", "ProgressDeadlineExceeded", f"{name} has timed out progressing.")
    return before


def _has_progressed(before: DeploymentStatus, after: DeploymentStatus) -> bool:
    return (
        after.updated_replicas > before.updated_replicas
        or after.replicas - after.updated_replicas < before.replicas - before.updated_replicas
        or after.ready_replicas > before.ready_replicas
        or after.available_replicas > before.available_replicas
    )


def _condition(type_: str, status: str, reason: str, message: str) -> Condition:
    return Condition(type=type_, status=status, reason=reason, message=message)


def _settle(before: DeploymentStatus, after: Condition, now: float) -> Condition:
    """Keep the times of a condition that says nothing new."""
    known = condition(before.conditions, after.type)
    stamp = times.format_time(now)
    if known is None:
        after.last_transition_time = after.last_update_time = stamp
        return after
    same = (known.status, known.reason, known.message) == (after.status, after.reason, after.message)
    if same and after.last_update_time is None:
        return known
    after.last_transition_time = known.last_transition_time if known.status == after.status else stamp
    after.last_update_time = after.last_update_time or stamp
    return after
