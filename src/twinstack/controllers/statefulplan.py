"""The next step of a StatefulSet: which Pod is made, which goes, and its numbers (apps/v1 StatefulSet). Pure.

Pods come in ascending order and go in descending order, each only when those before it serve; with podManagementPolicy
Parallel all come and go at once, and only updates wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from twinstack.api.apps import StatefulSet, StatefulSetStatus
from twinstack.api.core import Pod
from twinstack.controllers.podstate import available_in, is_finished, is_ready
from twinstack.controllers.rollout import share
from twinstack.controllers.statefulpods import REVISION_LABEL, ordinal_of

Doomed = Callable[[Pod], bool]


@dataclass
class Plan:
    """`create` has numbers with the name of the revision to use; `ended` are those of `delete` that had finished."""

    create: list[tuple[int, str]] = field(default_factory=list)
    delete: list[Pod] = field(default_factory=list)
    ended: list[Pod] = field(default_factory=list)
    condemned: list[Pod] = field(default_factory=list)  # those of `delete` whose numbers are no longer wanted


def wanted(owner: StatefulSet) -> range:
    """The numbers that a set should have (spec.ordinals, KEP-3335)."""
    start = owner.spec.ordinals.start if owner.spec.ordinals is not None else 0
    return range(start, start + (1 if owner.spec.replicas is None else owner.spec.replicas))


class _Step:
    """One walk over the Pods; each method returns whether the walk may go on."""

    def __init__(self, owner: StatefulSet, pods: Sequence[Pod], doomed: Doomed, now: float) -> None:
        self.plan = Plan()
        self._owner, self._doomed, self._now = owner, doomed, now
        self._ordered = owner.spec.pod_management_policy != "Parallel"
        self._present = {ordinal: pod for pod in pods if (ordinal := ordinal_of(owner, pod)) >= 0}
        unhealthy = (ordinal for ordinal, pod in sorted(self._present.items()) if not self._is_healthy(pod))
        self._first_unhealthy = next(unhealthy, None)

    def fill(self, current: str, update: str) -> bool:
        for ordinal in wanted(self._owner):
            pod = self._present.get(ordinal)
            if pod is None:
                self.plan.create.append((ordinal, current if _keeps_current(self._owner, ordinal) else update))
            elif is_finished(pod) and not self._doomed(pod):
                self.plan.delete.append(pod)
                self.plan.ended.append(pod)
            elif self._is_available(pod):
                continue
            if self._ordered:
                return False
        return True

    def empty(self) -> bool:
        left_over = set(self._present) - set(wanted(self._owner))
        for ordinal in sorted(left_over, reverse=True):
            pod = self._present[ordinal]
            if not self._doomed(pod):
                waits = not self._is_available(pod) and not is_finished(pod) and ordinal != self._first_unhealthy
                if self._ordered and waits:
                    return False
                self.plan.delete.append(pod)
                self.plan.condemned.append(pod)
            if self._ordered:
                return False
        return True

    def update(self, update: str) -> None:
        """From the last down to the partition; at most maxUnavailable are under way."""
        strategy = self._owner.spec.update_strategy
        if strategy.get("type") == "OnDelete":
            return
        rolling, numbers = strategy.get("rollingUpdate") or {}, wanted(self._owner)
        most = max(1, share(rolling.get("maxUnavailable") or 1, len(numbers), math.ceil))
        under_way = 0
        for ordinal in reversed(numbers[rolling.get("partition") or 0 :]):
            pod = self._present.get(ordinal)
            if pod is None or not self._is_available(pod):
                under_way += 1
            if pod is not None and not self._doomed(pod) and revision_of(pod) != update:
                if self._is_available(pod):
                    under_way += 1
                if pod not in self.plan.delete:
                    self.plan.delete.append(pod)
            if under_way >= most:
                return

    def _is_healthy(self, pod: Pod) -> bool:
        return is_running(pod) and not self._doomed(pod)

    def _is_available(self, pod: Pod) -> bool:
        return self._is_healthy(pod) and available_in(pod, self._owner.spec.min_ready_seconds, self._now) == 0.0


def plan(owner: StatefulSet, pods: Sequence[Pod], doomed: Doomed, current: str, update: str, now: float) -> Plan:
    """What to do next. `current` and `update` name the revisions before and after an update."""
    step = _Step(owner, pods, doomed, now)
    if step.fill(current, update) and step.empty():
        step.update(update)
    return step.plan


def _keeps_current(owner: StatefulSet, ordinal: int) -> bool:
    """Whether a Pod that is made during an update still gets the template from before it."""
    strategy = owner.spec.update_strategy
    if strategy.get("type") == "OnDelete":
        return False
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    return ordinal < wanted(owner).start + (partition or owner.status.current_replicas)


def revision_of(pod: Pod) -> str:
    return pod.metadata.labels.get(REVISION_LABEL, "")


def is_running(pod: Pod) -> bool:
    return pod.status.phase == "Running" and is_ready(pod)


def status_of(
    owner: StatefulSet, pods: Sequence[Pod], doomed: Doomed, current: str, update: str, collisions: int, now: float
) -> StatefulSetStatus:
    """What a StatefulSet reports. An update is complete when every Pod has the new template and serves."""
    own = [pod for pod in pods if ordinal_of(owner, pod) >= 0]
    staying = [pod for pod in own if not doomed(pod)]
    minimum = owner.spec.min_ready_seconds
    status = StatefulSetStatus(
        observed_generation=owner.metadata.generation,
        replicas=len(own),
        ready_replicas=sum(map(is_running, own)),
        available_replicas=sum(is_running(pod) and available_in(pod, minimum, now) == 0.0 for pod in own),
        current_replicas=sum(revision_of(pod) == current for pod in staying),
        updated_replicas=sum(revision_of(pod) == update for pod in staying),
        current_revision=current,
        update_revision=update,
        collision_count=collisions,
        conditions=owner.status.conditions,
    )
    rolls = owner.spec.update_strategy.get("type") != "OnDelete"
    if rolls and status.updated_replicas == status.replicas == status.ready_replicas == len(wanted(owner)):
        status.current_replicas, status.current_revision = status.updated_replicas, update
    return status


def next_available(owner: StatefulSet, pods: Sequence[Pod], now: float) -> float | None:
    """Seconds until the next ready Pod counts as available."""
    waits = (available_in(pod, owner.spec.min_ready_seconds, now) for pod in pods)
    return min((wait for wait in waits if wait), default=None)
