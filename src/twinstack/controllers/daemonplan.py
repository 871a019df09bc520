"""The next step of a DaemonSet: where Pods are lacking, which are too many or outdated, and its numbers. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from twinstack.api.apps import DaemonSet, DaemonSetStatus
from twinstack.api.core import Node, Pod
from twinstack.controllers.daemonpods import HASH_LABEL, Eligibility, by_node
from twinstack.controllers.podstate import available_in, is_ready
from twinstack.controllers.rollout import share


class Standing(NamedTuple):
    """A node as a DaemonSet sees it: `present` has all of its Pods there, `staying` those that are to stay."""

    should_run: bool
    may_stay: bool
    present: Sequence[Pod]
    staying: Sequence[Pod]


@dataclass
class Plan:
    """Nodes that get a Pod, Pods that go, and of these the ones that have ended by themselves."""

    create: list[str] = field(default_factory=list)
    delete: list[Pod] = field(default_factory=list)
    failed: list[Pod] = field(default_factory=list)
    succeeded: list[Pod] = field(default_factory=list)


def standings(owner: DaemonSet, nodes: Iterable[Node], pods: Iterable[Pod], doomed: set[str]) -> dict[str, Standing]:
    """Every node by name, and those that are gone but still have Pods. `doomed`: uids of Pods on their way out."""
    eligible, placed = Eligibility(owner), by_node(pods)
    found: dict[str, Standing] = {}
    for node in nodes:
        name = node.metadata.name
        present = placed.pop(name, [])
        should, may = eligible.of(node)
        found[name] = Standing(should, may, present, [pod for pod in present if pod.metadata.uid not in doomed])
    for name, present in placed.items():
        # Bound Pods of a node that is gone are for the collector of such Pods.
        loose = [pod for pod in present if not pod.spec.node_name and pod.metadata.uid not in doomed]
        found[name] = Standing(False, False, present, loose)
    return found


def settled(owner: DaemonSet, found: Mapping[str, Standing], revision_hash: str, now: float) -> Plan:
    """A Pod where one is lacking, none where none should be, and one alone."""
    step = Plan()
    surging = limits(owner, 1).surge > 0
    for name, node in found.items():
        if not node.may_stay:
            step.delete += node.staying
            continue
        if not node.present:
            if node.should_run:
                step.create.append(name)
            continue
        step.failed += [pod for pod in node.staying if pod.status.phase == "Failed"]
        step.succeeded += [pod for pod in node.staying if pod.status.phase == "Succeeded"]
        running = [pod for pod in node.staying if pod.status.phase not in ("Failed", "Succeeded")]
        step.delete += _superfluous(owner, running, revision_hash, now) if surging else running[1:]
    return step


def _superfluous(owner: DaemonSet, running: list[Pod], revision_hash: str, now: float) -> list[Pod]:
    """While Pods overlap there may be one of each kind, until the new one serves or the old one does not."""
    new = [pod for pod in running if is_current(pod, revision_hash)]
    old = [pod for pod in running if not is_current(pod, revision_hash)]
    extra = new[1:] + old[1:]
    if new and old and (not is_ready(old[0]) or _is_available(owner, new[0], now)):
        extra.append(old[0])
    return extra


class Limits(NamedTuple):
    unavailable: int
    surge: int


def limits(owner: DaemonSet, desired: int) -> Limits:
    """Resolve the strategy: percentages of the desired Pods, rounded up, never both 0."""
    rolling = owner.spec.update_strategy.get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge", 0), desired, math.ceil)
    unavailable = share(rolling.get("maxUnavailable", 1), desired, math.ceil)
    return Limits(unavailable if unavailable or surge else 1, surge)


def rolled(owner: DaemonSet, found: Mapping[str, Standing], revision_hash: str, now: float) -> Plan:
    """The next step of a rolling update."""
    if owner.spec.update_strategy.get("type") == "OnDelete":
        return Plan()
    limit = limits(owner, sum(node.should_run for node in found.values()))
    return (
        _surged(owner, found, revision_hash, limit, now)
        if limit.surge
        else _replaced(owner, found, revision_hash, limit, now)
    )


def _replaced(owner: DaemonSet, found: Mapping[str, Standing], revision_hash: str, limit: Limits, now: float) -> Plan:
    """Old Pods that do not serve go at once, others as far as availability allows."""
    candidates: list[Pod] = []
    missing, step = 0, Plan()
    for node in found.values():
        if not node.should_run and not node.present:
            continue
        new, old = _pair(node, revision_hash)
        if old is None or new is not None:
            missing += new is None or old is not None or not _is_available(owner, new, now)
        elif _is_available(owner, old, now):
            candidates.append(old)
        else:
            step.delete.append(old)
    step.delete += candidates[: max(0, limit.unavailable - missing - len(step.delete))]
    return step


def _surged(owner: DaemonSet, found: Mapping[str, Standing], revision_hash: str, limit: Limits, now: float) -> Plan:
    """New Pods come beside old ones, which go once the new ones serve."""
    candidates: list[str] = []
    under_way, step = 0, Plan()
    for name, node in found.items():
        new, old = _pair(node, revision_hash)
        if old is None or not node.should_run:
            continue
        if new is None:
            (candidates if _is_available(owner, old, now) else step.create).append(name)
        elif _is_available(owner, new, now):
            step.delete.append(old)
        else:
            under_way += 1
    step.create += candidates[: max(0, limit.surge - under_way - len(step.create))]
    return step


def _pair(node: Standing, revision_hash: str) -> tuple[Pod | None, Pod | None]:
    new = next((pod for pod in node.staying if is_current(pod, revision_hash)), None)
    return new, next((pod for pod in node.staying if not is_current(pod, revision_hash)), None)


def is_current(pod: Pod, revision_hash: str) -> bool:
    return pod.metadata.labels.get(HASH_LABEL) == revision_hash


def _is_available(owner: DaemonSet, pod: Pod, now: float) -> bool:
    return available_in(pod, owner.spec.min_ready_seconds, now) == 0.0


def status_of(
    owner: DaemonSet, found: Mapping[str, Standing], revision_hash: str, collisions: int, now: float
) -> DaemonSetStatus:
    """What a DaemonSet reports: of every node its first Pod."""
    first = [node.present[0] for node in found.values() if node.should_run and node.present]
    desired = sum(node.should_run for node in found.values())
    available = sum(_is_available(owner, pod, now) for pod in first)
    return DaemonSetStatus(
        current_number_scheduled=len(first),
        number_misscheduled=sum(bool(node.present) and not node.should_run for node in found.values()),
        desired_number_scheduled=desired,
        number_ready=sum(map(is_ready, first)),
        observed_generation=owner.metadata.generation,
        updated_number_scheduled=sum(is_current(pod, revision_hash) for pod in first),
        number_available=available,
        number_unavailable=desired - available,
        collision_count=collisions or None,
    )


def next_available(owner: DaemonSet, found: Mapping[str, Standing], now: float) -> float | None:
    """Seconds until the next ready Pod counts as available."""
    waits = [available_in(pod, owner.spec.min_ready_seconds, now) for node in found.values() for pod in node.staying]
    return min((wait for wait in waits if wait), default=None)
