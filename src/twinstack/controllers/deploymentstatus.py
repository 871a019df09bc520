"""What a Deployment reports: counts and the Available and Progressing conditions (apps/v1 DeploymentStatus). Pure.

Progress is told in steps: the ReplicaSet of a template is created, Pods of it come (each time anew the deadline
starts), all are there. A Deployment that is complete stays so until its template changes, however it is scaled.
"""

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
AVAILABLE, PROGRESSING, FAILURE = "Available", "Progressing", "ReplicaFailure"
CREATED, FOUND, UPDATED, COMPLETE = (
    "NewReplicaSetCreated",
    "FoundNewReplicaSet",
    "ReplicaSetUpdated",
    "NewReplicaSetAvailable",
)
PAUSED, RESUMED, TIMED_OUT, CREATE_FAILED = (
    "DeploymentPaused",
    "DeploymentResumed",
    "ProgressDeadlineExceeded",
    "ReplicaSetCreateError",
)


def status_of(
    deployment: Deployment,
    limit: Limits,
    new: ReplicaSet | None,
    old: Sequence[ReplicaSet],
    now: float,
    news: Condition | None = None,
) -> DeploymentStatus:
    """The status at Unix time `now`, given the ReplicaSet of the present template and the others.

    `news` is what this round itself did to the condition Progressing: `created`, `creation_failed`.
    """
    status = _counts(deployment, [*old, new] if new is not None else list(old), new)
    conditions = _Conditions(deployment.status.conditions, now)
    estimated = _deadline_seconds(deployment) is not None
    if estimated:
        _tell_pause(deployment, conditions)
        _tell_news(news, new, conditions)
    conditions.set(_available(limit, status.available_replicas))
    if not estimated:
        conditions.drop(PROGRESSING)
    elif not deployment.spec.paused and (news is None or news.status == "True"):
        _estimate(deployment, limit, status, new, conditions, now)
    _tell_failure([new, *old] if new is not None else old, conditions)
    status.conditions = conditions.entries
    return status


class _Conditions:
    """Conditions as the API's own code sets them: one that says nothing new stays, one that does goes to the end."""

    def __init__(self, entries: Sequence[Condition], now: float) -> None:
        self.entries = list(entries)
        self._stamp = times.format_time(now)

    def get(self, type_: str) -> Condition | None:
        return condition(self.entries, type_)

    def drop(self, type_: str) -> None:
        self.entries = [entry for entry in self.entries if entry.type != type_]

    def set(self, new: Condition, *, touch: bool = False) -> None:
        """`touch`: write its time of update also when status and reason are as they were."""
        known = self.get(new.type)
        if known is not None and (known.status, known.reason) == (new.status, new.reason) and not touch:
            return
        turned = known.last_transition_time if known is not None and known.status == new.status else None
        self.drop(new.type)
        stamped = msgspec.structs.replace(
            new,
            last_update_time=new.last_update_time or self._stamp,
            last_transition_time=turned or new.last_transition_time or self._stamp,
        )
        self.entries.append(stamped)


def _counts(deployment: Deployment, everything: Sequence[ReplicaSet], new: ReplicaSet | None) -> DeploymentStatus:
    available = sum(rs.status.available_replicas for rs in everything)
    return DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=sum(rs.status.replicas for rs in everything),
        updated_replicas=new.status.replicas if new is not None else 0,
        ready_replicas=sum(rs.status.ready_replicas for rs in everything),
        available_replicas=available,
        unavailable_replicas=max(0, sum(spec_replicas(rs) for rs in everything) - available),
        terminating_replicas=sum(rs.status.terminating_replicas or 0 for rs in everything),
        collision_count=deployment.status.collision_count,
    )


def _available(limit: Limits, available: int) -> Condition:
    if available >= limit.replicas - limit.unavailable:
        return _condition(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    return _condition(
        AVAILABLE, "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    )


def _tell_pause(deployment: Deployment, conditions: _Conditions) -> None:
    """A rollout that has timed out stays so, paused or not."""
    known = conditions.get(PROGRESSING)
    reason = known.reason if known is not None else ""
    if reason == TIMED_OUT:
        return
    if deployment.spec.paused:
        conditions.set(_condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused"))
    elif reason == PAUSED:
        conditions.set(_condition(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed"))


def _tell_news(news: Condition | None, new: ReplicaSet | None, conditions: _Conditions) -> None:
    if news is not None:
        conditions.set(news)
    elif new is not None and conditions.get(PROGRESSING) is None:
        found = f'Found new replica set "{new.metadata.name}"'
        conditions.set(_condition(PROGRESSING, "True", FOUND, found))


def created(name: str) -> Condition:
    """The ReplicaSet of the present template was just made."""
    return _condition(PROGRESSING, "True", CREATED, f'Created new replica set "{name}"')


def creation_failed(name: str, why: str) -> Condition:
    return _condition(PROGRESSING, "False", CREATE_FAILED, f'Failed to create new replica set "{name}": {why}')


def _estimate(
    deployment: Deployment,
    limit: Limits,
    status: DeploymentStatus,
    new: ReplicaSet | None,
    conditions: _Conditions,
    now: float,
) -> None:
    known = conditions.get(PROGRESSING)
    if known is not None and known.reason == COMPLETE and status.replicas == status.updated_replicas:
        return
    name = f'ReplicaSet "{new.metadata.name}"' if new is not None else f'Deployment "{deployment.metadata.name}"'
    if is_complete(limit, status):
        conditions.set(_condition(PROGRESSING, "True", COMPLETE, f"{name} has successfully progressed."))
    elif _has_progressed(deployment.status, status):
        conditions.set(_condition(PROGRESSING, "True", UPDATED, f"{name} is progressing."), touch=True)
    elif _is_late(deployment, conditions, now):
        conditions.set(_condition(PROGRESSING, "False", TIMED_OUT, f"{name} has timed out progressing."))


def _has_progressed(before: DeploymentStatus, after: DeploymentStatus) -> bool:
    return (
        after.updated_replicas > before.updated_replicas
        or after.replicas - after.updated_replicas < before.replicas - before.updated_replicas
        or after.ready_replicas > before.ready_replicas
        or after.available_replicas > before.available_replicas
    )


def _is_late(deployment: Deployment, conditions: _Conditions, now: float) -> bool:
    known = conditions.get(PROGRESSING)
    limit = _deadline_seconds(deployment)
    if known is None or limit is None or known.reason == COMPLETE or not known.last_update_time:
        return False
    return known.reason == TIMED_OUT or times.parse_time(known.last_update_time) + limit < now


def _tell_failure(new_first: Sequence[ReplicaSet], conditions: _Conditions) -> None:
    failing = next((c for rs in new_first if (c := condition(rs.status.conditions, FAILURE))), None)
    if failing is None:
        conditions.drop(FAILURE)
        return
    since = failing.last_transition_time
    copied = _condition(FAILURE, failing.status, failing.reason, failing.message)
    conditions.set(msgspec.structs.replace(copied, last_update_time=since, last_transition_time=since))


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


def deadline(deployment: Deployment, limit: Limits, status: DeploymentStatus, now: float) -> float | None:
    """Seconds until the rollout counts as stuck; None when it is over, stuck already or has no deadline."""
    seconds = _deadline_seconds(deployment)
    progressing = condition(status.conditions, PROGRESSING)
    if progressing is None or seconds is None or not progressing.last_update_time or is_complete(limit, status):
        return None
    if progressing.reason in (COMPLETE, TIMED_OUT, PAUSED):
        return None
    return max(0.0, times.parse_time(progressing.last_update_time) + seconds - now)


def _deadline_seconds(deployment: Deployment) -> int | None:
    seconds = deployment.spec.progress_deadline_seconds
    return None if seconds is None or seconds == NO_DEADLINE else seconds


def _condition(type_: str, status: str, reason: str, message: str) -> Condition:
    return Condition(type=type_, status=status, reason=reason, message=message)
