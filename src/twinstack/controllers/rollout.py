"""How a Deployment moves its replicas from old ReplicaSets to the new one, step by step (apps/v1). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from twinstack.api.apps import Deployment, ReplicaSet
from twinstack.controllers.replicas import wanted as spec_replicas
from twinstack.controllers.templates import DESIRED_REPLICAS, MAX_REPLICAS, annotated, wanted


class Limits(NamedTuple):
    """`surge` Pods more than `replicas` may exist, `unavailable` of them may be missing.

    With `recreate` all of them are missing for a while, and until they are back it is not available.
    """

    replicas: int
    surge: int
    unavailable: int
    recreate: bool

    @property
    def maximum(self) -> int:
        return self.replicas + self.surge


Sizes = dict[str, int]  # ReplicaSet name → replicas it should have; those that stay are left out


def limits(deployment: Deployment) -> Limits:
    """Resolve the strategy: percentages of the replicas, surge rounded up and unavailable down, never both 0."""
    replicas = wanted(deployment)
    if deployment.spec.strategy.get("type") == "Recreate":
        return Limits(replicas, 0, 0, True)
    rolling = deployment.spec.strategy.get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge", "25%"), replicas, math.ceil)
    unavailable = min(share(rolling.get("maxUnavailable", "25%"), replicas, math.floor), replicas)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Limits(replicas, surge, unavailable, False)


def share(value: Any, whole: int, rounded: Any) -> int:
    """A number, or a percentage of `whole`, rounded by `math.ceil` or `math.floor`."""
    if isinstance(value, int):
        return value
    return int(rounded(int(str(value).rstrip("%")) * whole / 100))


def is_scaled(limit: Limits, replica_sets: Sequence[ReplicaSet]) -> bool:
    """Whether the number of replicas was changed since the ReplicaSets were last sized."""
    return any(
        spec_replicas(rs) > 0
        and DESIRED_REPLICAS in rs.metadata.annotations
        and annotated(rs, DESIRED_REPLICAS) != limit.replicas
        for rs in replica_sets
    )


def initial_size(limit: Limits, old: Sequence[ReplicaSet]) -> int:
    """With how many replicas a new ReplicaSet starts."""
    if limit.recreate:
        return limit.replicas
    return max(0, min(limit.replicas, limit.maximum - _total(old)))


def rolled(limit: Limits, new: ReplicaSet, old: Sequence[ReplicaSet]) -> Sizes:
    """The next step of a rolling update: grow the new one as far as the surge allows, else shrink the old ones."""
    size = spec_replicas(new)
    target = limit.replicas if size > limit.replicas else size
    if size < limit.replicas:
        target = size + max(0, min(limit.replicas - size, limit.maximum - _total([new, *old])))
    if target != size:
        return {new.metadata.name: target}
    return _shrunk(limit, new, old)


def _shrunk(limit: Limits, new: ReplicaSet, old: Sequence[ReplicaSet]) -> Sizes:
    """Old replicas that may go: first those that do not serve anyway, then as many as availability allows."""
    least = limit.replicas - limit.unavailable
    missing = spec_replicas(new) - new.status.available_replicas
    budget = _total([new, *old]) - least - missing
    sizes = {rs.metadata.name: spec_replicas(rs) for rs in old}
    ordered = sorted((rs for rs in old if spec_replicas(rs) > 0), key=_age)
    for rs in ordered:
        cut = max(0, min(budget, spec_replicas(rs) - rs.status.available_replicas))
        sizes[rs.metadata.name] -= cut
        budget -= cut
    spare = min(budget, sum(rs.status.available_replicas for rs in [new, *old]) - least)
    for rs in ordered:
        cut = max(0, min(spare, sizes[rs.metadata.name]))
        sizes[rs.metadata.name] -= cut
        spare -= cut
    return {rs.metadata.name: sizes[rs.metadata.name] for rs in ordered if sizes[rs.metadata.name] != spec_replicas(rs)}


def scaled(limit: Limits, new: ReplicaSet | None, old: Sequence[ReplicaSet]) -> Sizes:
    """Follow a change of the number of replicas; during a rolling update it is shared in proportion."""
    everything = [*old, new] if new is not None else list(old)
    active = [rs for rs in everything if spec_replicas(rs) > 0]
    single = active[0] if len(active) == 1 else (new or max(old, key=_age, default=None)) if not active else None
    if single is not None:
        return _differing([single], {single.metadata.name: limit.replicas})
    if new is not None and _saturated(limit, new):
        return _differing(old, {rs.metadata.name: 0 for rs in old})
    if limit.recreate:
        return {}
    return _proportional(limit, active)


def _proportional(limit: Limits, active: list[ReplicaSet]) -> Sizes:
    allowed = limit.maximum if limit.replicas > 0 else 0
    change = allowed - _total(active)
    # When growing, the biggest and youngest first; when shrinking, the biggest and oldest first.
    ordered = sorted(active, key=_age, reverse=change > 0)
    ordered.sort(key=spec_replicas, reverse=True)
    sizes: Sizes = {}
    left = change
    for rs in ordered:
        part = _part(limit, rs, left) if change else 0
        sizes[rs.metadata.name] = spec_replicas(rs) + part
        left -= part
    for rs in ordered:  # what rounding leaves over goes to the first that can take it
        name = rs.metadata.name
        extra = max(left, -sizes[name])
        sizes[name] += extra
        left -= extra
    return _differing(active, sizes)


def _part(limit: Limits, rs: ReplicaSet, left: int) -> int:
    """The ReplicaSet's share of a change: its share of the Deployment, of at most what is `left`."""
    before = annotated(rs, MAX_REPLICAS) or limit.maximum
    size = spec_replicas(rs)
    part = math.floor(size * limit.maximum / before + 0.5) - size if limit.replicas else -size
    return min(part, left) if left > 0 else max(part, left)


def _saturated(limit: Limits, new: ReplicaSet) -> bool:
    return (
        spec_replicas(new) == limit.replicas
        and annotated(new, DESIRED_REPLICAS) == limit.replicas
        and new.status.available_replicas == limit.replicas
    )


def _differing(replica_sets: Sequence[ReplicaSet], sizes: Sizes) -> Sizes:
    return {
        rs.metadata.name: sizes[rs.metadata.name] for rs in replica_sets if sizes[rs.metadata.name] != spec_replicas(rs)
    }


def _total(replica_sets: Sequence[ReplicaSet]) -> int:
    return sum(spec_replicas(rs) for rs in replica_sets)


def _age(rs: ReplicaSet) -> tuple[str, str]:
    return rs.metadata.creation_timestamp, rs.metadata.name


def retired(history_limit: int, old: Sequence[ReplicaSet], revisions: dict[str, int]) -> list[ReplicaSet]:
    """Old ReplicaSets beyond the history to keep: empty ones, the lowest revision first."""
    empty = [
        rs
        for rs in old
        if rs.metadata.deletion_timestamp is None
        and spec_replicas(rs) == 0
        and rs.status.replicas == 0
        and rs.metadata.generation <= rs.status.observed_generation
    ]
    empty.sort(key=lambda rs: revisions[rs.metadata.name])
    return empty[: max(0, len(old) - history_limit)]
