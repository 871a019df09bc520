"""Whom to send away so that a Pod of higher priority fits, chosen as kube-scheduler's DefaultPreemption does. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from twinstack.api.core import Node
from twinstack.api.selectors import LabelSelector
from twinstack.scheduler.loads import Loads
from twinstack.scheduler.refusals import Refusal
from twinstack.scheduler.requests import Footprint

MOST_CANDIDATES = 100  # nodes that are looked at, as upstream at least

Fits = Callable[[Node], Refusal | None]  # on what `Loads` says at the moment
_Placed = tuple[str, Footprint]  # uid of a Pod, what it takes
_LOWEST = -(1 << 31)


class Budget(NamedTuple):
    """A PodDisruptionBudget: how many of the Pods that `selector` matches may go now. An empty one matches none."""

    namespace: str
    selector: LabelSelector
    allowed: int


class Room(NamedTuple):
    """Where the Pod fits once the `victims`, by uid, are gone."""

    node: str
    victims: tuple[str, ...]


class _Candidate(NamedTuple):
    """Less is better: broken budgets, the most important victim, all of them, their number; then the name."""

    broken: int
    highest: int
    total: int
    number: int
    room: Room


def make_room(
    priority: int,
    nodes: Mapping[str, Node],
    refusals: Mapping[str, Refusal],
    loads: Loads,
    fits: Fits,
    budgets: Sequence[Budget],
) -> tuple[Room | None, Counter[str]]:
    """The best room for a Pod of this priority, and why the other nodes have none. `loads` is left as it was."""
    reasons: Counter[str] = Counter()
    found: list[_Candidate] = []
    for name, against in refusals.items():
        if not against.resolvable:
            reasons["Preemption is not helpful for scheduling"] += 1
        elif loads[name].lowest_priority >= priority:
            reasons["No preemption victims found for incoming pod"] += 1
        elif len(found) < MOST_CANDIDATES:
            candidate = _candidate(priority, nodes[name], loads, fits, budgets)
            if isinstance(candidate, _Candidate):
                found.append(candidate)
            else:
                reasons.update(candidate.reasons)
    return (min(found).room if found else None), reasons


def _candidate(priority: int, node: Node, loads: Loads, fits: Fits, budgets: Sequence[Budget]) -> _Candidate | Refusal:
    """The fewest victims on one node: all lower ones go, then come back, those whose budget would break first."""
    name = node.metadata.name
    lower = sorted(
        ((uid, other) for uid, other in loads.on(name) if other.priority < priority),
        key=lambda entry: (-entry[1].priority, entry[0]),
    )
    breaking = _breaking(lower, budgets)
    victims: list[_Placed] = []
    try:
        for uid, _ in lower:
            loads.remove(uid)
        against = fits(node)
        if against is not None:
            return against
        for uid, other in sorted(lower, key=lambda entry: entry[0] not in breaking):
            loads.place(uid, name, other)
            if fits(node) is not None:
                loads.remove(uid)
                victims.append((uid, other))
    finally:
        for uid, other in lower:
            loads.place(uid, name, other)
    return _Candidate(
        broken=sum(uid in breaking for uid, _ in victims),
        highest=max((other.priority for _, other in victims), default=_LOWEST),
        total=sum(other.priority - _LOWEST for _, other in victims),
        number=len(victims),
        room=Room(name, tuple(uid for uid, _ in victims)),
    )


def _breaking(pods: Iterable[_Placed], budgets: Sequence[Budget]) -> set[str]:
    """Those whose end a budget does not allow, the ones before them gone."""
    left = [budget.allowed for budget in budgets]
    found = set()
    for uid, pod in pods:
        for index, budget in enumerate(budgets):
            if budget.namespace != pod.namespace or not budget.selector.requirements:
                continue
            if budget.selector.matches(pod.labels):
                left[index] -= 1
                if left[index] < 0:
                    found.add(uid)
    return found
