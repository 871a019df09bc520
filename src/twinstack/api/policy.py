"""Types of policy/v1."""

from __future__ import annotations

import msgspec

from twinstack.api.meta import Condition, LabelSelector, Object, Struct


class PodDisruptionBudgetSpec(Struct):
    """`min_available` and `max_unavailable` are numbers of Pods or percentages, such as `20%`; one at most is set."""

    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    selector: LabelSelector | None = None
    unhealthy_pod_eviction_policy: str | None = None


class PodDisruptionBudgetStatus(Struct):
    """`disrupted_pods`: by name, when their eviction was allowed; they are expected to go."""

    observed_generation: int = 0
    disrupted_pods: dict[str, str] = {}
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    conditions: list[Condition] = []


class PodDisruptionBudget(Object):
    spec: PodDisruptionBudgetSpec = msgspec.field(default_factory=PodDisruptionBudgetSpec)
    status: PodDisruptionBudgetStatus = msgspec.field(default_factory=PodDisruptionBudgetStatus)
