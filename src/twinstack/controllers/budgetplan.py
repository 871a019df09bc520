"""How many Pods of a PodDisruptionBudget may be evicted (policy/v1). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from twinstack.api.core import Pod
from twinstack.api.meta import Condition
from twinstack.api.policy import PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus
from twinstack.api.times import format_time, parse_time
from twinstack.controllers.podstate import condition, is_ready
from twinstack.controllers.rollout import share

DELETION_TIMEOUT = 120.0  # seconds in which a Pod whose eviction was allowed is expected to go

ALLOWED = "DisruptionAllowed"


class Expected(NamedTuple):
    """Pods that there should be, and how many of them healthy."""

    pods: int
    healthy: int


class Disrupted(NamedTuple):
    """Of the Pods whose eviction was allowed: those that will go (when it was allowed), those that should have gone."""

    going: dict[str, str]
    overdue: list[Pod]
    next: float | None  # seconds until the next one is overdue


def needs_scale(spec: PodDisruptionBudgetSpec) -> bool:
    """Whether the numbers depend on how many replicas the Pods' owners want."""
    return spec.max_unavailable is not None or isinstance(spec.min_available, str)


def expected(spec: PodDisruptionBudgetSpec, matching: int, scale: int) -> Expected:
    """`matching` Pods are there, their owners want `scale`, which is only read where `needs_scale`."""
    if spec.max_unavailable is not None:
        return Expected(scale, max(0, scale - share(spec.max_unavailable, scale, math.ceil)))
    if isinstance(spec.min_available, str):
        return Expected(scale, share(spec.min_available, scale, math.ceil))
    if spec.min_available is not None:
        return Expected(matching, spec.min_available)
    return Expected(0, 0)


def disrupted(status: PodDisruptionBudgetStatus, pods: Sequence[Pod], now: float) -> Disrupted:
    """Pods that are on their way out, or gone, need no longer be remembered."""
    result = Disrupted({}, [], None)
    for pod in pods:
        allowed = status.disrupted_pods.get(pod.metadata.name)
        if allowed is None or pod.metadata.deletion_timestamp is not None:
            continue
        left = parse_time(allowed) + DELETION_TIMEOUT - now
        if left < 0:
            result.overdue.append(pod)
            continue
        result.going[pod.metadata.name] = allowed
        result = result._replace(next=left if result.next is None else min(result.next, left))
    return result


def healthy(pods: Sequence[Pod], going: Mapping[str, str]) -> int:
    """Ready Pods that are not about to go."""
    return sum(
        1
        for pod in pods
        if pod.metadata.deletion_timestamp is None and pod.metadata.name not in going and is_ready(pod)
    )


def judged(
    budget: PodDisruptionBudget, current: int, wanted: Expected, going: dict[str, str], now: float
) -> PodDisruptionBudgetStatus:
    """The status of a budget of which `current` Pods are healthy.

    Without expected Pods nothing is allowed, so that the first ones to come are not lost before they are counted.
    """
    allowed = max(0, current - wanted.healthy) if wanted.pods > 0 else 0
    generation = budget.metadata.generation
    return PodDisruptionBudgetStatus(
        observed_generation=generation,
        disrupted_pods=going,
        disruptions_allowed=allowed,
        current_healthy=current,
        desired_healthy=wanted.healthy,
        expected_pods=wanted.pods,
        conditions=_told(
            budget.status, allowed > 0, "SufficientPods" if allowed else "InsufficientPods", "", generation, now
        ),
    )


def failed(budget: PodDisruptionBudget, message: str, now: float) -> PodDisruptionBudgetStatus:
    """The status when nothing can be said of the Pods: none may go."""
    status = budget.status
    conditions = _told(status, False, "SyncFailed", message, status.observed_generation, now)
    return msgspec.structs.replace(status, disruptions_allowed=0, conditions=conditions)


def _told(
    status: PodDisruptionBudgetStatus, allowed: bool, reason: str, message: str, generation: int, now: float
) -> list[Condition]:
    """The conditions, with that of the budget's own brought up to date in its place."""
    word = "True" if allowed else "False"
    before = condition(status.conditions, ALLOWED)
    since = before.last_transition_time if before is not None and before.status == word else format_time(now)
    told = Condition(
        type=ALLOWED,
        status=word,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=since,
    )
    if before is None:
        return [*status.conditions, told]
    return [told if entry is before else entry for entry in status.conditions]
