from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.controllers.workloads import deployment, replica_set

from twinstack.api.apps import ReplicaSet
from twinstack.controllers.rollout import Limits, initial_size, is_scaled, limits, retired, rolled, scaled


def rolling(surge: Any, unavailable: Any) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


@pytest.mark.parametrize(
    ("replicas", "strategy", "expected"),
    [
        (10, {}, Limits(10, 3, 2, False)),
        (3, {"type": "RollingUpdate"}, Limits(3, 1, 0, False)),
        (None, {}, Limits(1, 1, 0, False)),
        (10, rolling(1, 0), Limits(10, 1, 0, False)),
        (10, rolling("0%", "0%"), Limits(10, 0, 1, False)),
        (10, rolling("100%", "100%"), Limits(10, 10, 10, False)),
        (2, rolling(0, 5), Limits(2, 0, 2, False)),
        (4, {"type": "Recreate"}, Limits(4, 0, 0, True)),
    ],
)
def test_limits(replicas: int | None, strategy: dict[str, Any], expected: Limits) -> None:
    assert limits(deployment(replicas, strategy=strategy)) == expected


@pytest.mark.parametrize(
    ("limit", "old", "expected"),
    [
        (Limits(3, 1, 0, False), [], 3),
        (Limits(3, 1, 0, False), [3], 1),
        (Limits(3, 1, 0, False), [2, 2], 0),
        (Limits(3, 1, 0, False), [1], 3),
        (Limits(3, 0, 3, True), [3], 3),
    ],
)
def test_initial_size(limit: Limits, old: list[int], expected: int) -> None:
    assert initial_size(limit, [replica_set(f"o{n}", size) for n, size in enumerate(old)]) == expected


LIMIT = Limits(10, 2, 3, False)


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (("new", 0), [("old", 10)], {"new": 2}),
        (("new", 2, 0), [("old", 10)], {"old": 7}),  # at the surge: what may be unavailable goes
        (("new", 2, 0), [("old", 7)], {"new": 5}),
        (("new", 5, 0), [("old", 7)], {}),  # nothing may go until the new ones serve
        (("new", 5, 2), [("old", 7)], {"old": 5}),
        (("new", 10, 10), [("old", 2)], {"old": 0}),
        (("new", 12, 10), [], {"new": 10}),
        (("new", 10, 10), [("old", 0)], {}),
        # Unhealthy old replicas go first, and do not count as serving.
        (("new", 2, 2), [("a", 5, 0), ("b", 5, 5)], {"a": 0}),
        # The oldest first.
        (("new", 8, 8), [("young", 2, 2, 1), ("old", 2, 2, 9)], {"old": 0, "young": 0}),
        (("new", 6, 6), [("young", 3, 3, 1), ("old", 3, 3, 9)], {"old": 0, "young": 1}),
    ],
)
def test_a_step(new: tuple[Any, ...], old: list[tuple[Any, ...]], expected: dict[str, int]) -> None:
    def made(entry: tuple[Any, ...]) -> ReplicaSet:
        name, replicas, *more = entry
        return replica_set(name, replicas, more[0] if more else None, age=more[1] if len(more) > 1 else 0)

    assert rolled(LIMIT, made(new), [made(entry) for entry in old]) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 12),
    st.integers(0, 6),
    st.integers(0, 6),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
def test_a_rollout_ends_and_keeps_its_promises(
    replicas: int, surge: int, unavailable: int, before: list[tuple[int, int]], random: Any
) -> None:
    """Steps and Pods turning available come in any order. Whatever was available stays so down to the promise."""
    limit = limits(deployment(replicas, strategy=rolling(surge, unavailable)))
    old = [replica_set(f"o{n}", size, min(size, up), age=n) for n, (size, up) in enumerate(before)]
    new = replica_set("new", initial_size(limit, old), 0)
    everything = [*old, new]
    least = limit.replicas - limit.unavailable

    def total() -> int:
        return sum(rs.spec.replicas or 0 for rs in everything)

    def available() -> int:
        return sum(rs.status.available_replicas for rs in everything)

    for _ in range(400):
        floor, ceiling = min(least, available()), max(limit.maximum, total())
        sizes = rolled(limit, new, old)
        for rs in everything:
            if rs.metadata.name in sizes:
                rs.spec.replicas = sizes[rs.metadata.name]
                assert rs.spec.replicas >= 0
                # Pods that do not serve are deleted first.
                rs.status.available_replicas = min(rs.status.available_replicas, rs.spec.replicas)
        assert total() <= ceiling
        assert available() >= floor
        if not sizes:
            waiting = [rs for rs in [new] if rs.status.available_replicas < (rs.spec.replicas or 0)]
            if not waiting:
                break
            random.choice(waiting).status.available_replicas += 1
        elif random.random() < 0.5 and new.status.available_replicas < (new.spec.replicas or 0):
            new.status.available_replicas += 1
    assert new.spec.replicas == limit.replicas
    assert all(rs.spec.replicas == 0 for rs in old)


def test_scaling_is_noticed_by_what_the_sets_were_sized_for() -> None:
    limit = Limits(5, 1, 0, False)
    assert is_scaled(limit, [replica_set("a", 3, desired=3)])
    assert not is_scaled(limit, [replica_set("a", 5, desired=5)])
    assert not is_scaled(limit, [replica_set("a", 0, desired=3)])
    assert not is_scaled(limit, [replica_set("a", 3)])


def test_scaling_a_single_set() -> None:
    limit = Limits(5, 1, 0, False)
    new = replica_set("new", 3, desired=3)
    assert scaled(limit, new, []) == {"new": 5}
    assert scaled(limit, new, [replica_set("old", 0)]) == {"new": 5}
    assert scaled(limit, None, [replica_set("old", 3, desired=3)]) == {"old": 5}
    assert scaled(limit, replica_set("new", 0), [replica_set("old", 0)]) == {"new": 5}
    assert scaled(limit, None, []) == {}
    assert scaled(limit, replica_set("new", 5, desired=5), []) == {}


def test_a_finished_rollout_empties_what_is_left_of_the_old() -> None:
    new = replica_set("new", 5, 5, desired=5)
    assert scaled(Limits(5, 1, 0, False), new, [replica_set("old", 2)]) == {"old": 0}


@pytest.mark.parametrize(
    ("replicas", "surge", "sets", "expected"),
    [
        # Sized for 10 + 3 before; the sets keep their shares.
        (15, 3, [("new", 5, 1), ("old", 8, 9)], {"new": 7, "old": 11}),
        (5, 3, [("new", 5, 1), ("old", 8, 9)], {"new": 3, "old": 5}),
        (0, 0, [("new", 5, 1), ("old", 8, 9)], {"new": 0, "old": 0}),
        (10, 3, [("new", 5, 1), ("old", 8, 9)], {}),
    ],
)
def test_scaling_amid_a_rollout_is_shared(
    replicas: int, surge: int, sets: list[tuple[str, int, int]], expected: dict[str, int]
) -> None:
    new, old = (replica_set(name, size, 0, age=age, desired=10, maximum=13) for name, size, age in sets)
    assert scaled(Limits(replicas, surge, 0, False), new, [old]) == expected


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 50), st.integers(0, 10), st.lists(st.integers(1, 20), min_size=2, max_size=5))
def test_shares_add_up_to_the_whole(replicas: int, surge: int, sizes: list[int]) -> None:
    sets = [replica_set(f"s{n}", size, 0, age=n, desired=10, maximum=13) for n, size in enumerate(sizes)]
    result = scaled(Limits(replicas, surge, 0, False), sets[0], sets[1:])
    final = [result.get(rs.metadata.name, rs.spec.replicas or 0) for rs in sets]
    assert sum(final) == replicas + surge
    assert min(final) >= 0


def test_history_keeps_the_newest_empty_sets() -> None:
    old = [replica_set(f"o{n}", 0) for n in range(4)]
    busy = replica_set("busy", 1)
    revisions = {"o0": 4, "o1": 1, "o2": 3, "o3": 2, "busy": 0}
    assert [rs.metadata.name for rs in retired(3, [*old, busy], revisions)] == ["o1", "o3"]
    assert retired(5, [*old, busy], revisions) == []
    old[1].metadata.generation = 9
    assert [rs.metadata.name for rs in retired(3, [*old, busy], revisions)] == ["o3", "o2"]
