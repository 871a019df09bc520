"""Rules about Nodes and the Pods on them: taints, disruption, eviction, garbage, the TTL of what kubelets read."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.controllers.workloads import pod

from twinstack.api.core import Node, NodeSpec, NodeStatus, Taint, Toleration
from twinstack.api.meta import Condition, ObjectMeta
from twinstack.controllers.disruption import Health, Pace, Rates, health_of, zone_of, zone_rates
from twinstack.controllers.evictions import evicting_taints, leaves_at
from twinstack.controllers.nodettl import step_for, ttl_of
from twinstack.controllers.podgarbage import OUT_OF_SERVICE, Reason, reason_to_remove, surplus_finished
from twinstack.controllers.taints import desired_taints, is_evicting, readiness


def node(
    conditions: dict[str, str], taints: list[Taint] | None = None, unschedulable: bool = False, zone: str = ""
) -> Node:
    return Node(
        metadata=ObjectMeta(name="n", labels={"topology.kubernetes.io/zone": zone} if zone else {}),
        spec=NodeSpec(taints=taints or [], unschedulable=unschedulable),
        status=NodeStatus(conditions=[Condition(type=t, status=s) for t, s in conditions.items()]),
    )


def identities(taints: list[Taint]) -> list[tuple[str, str]]:
    return [(taint.key.removeprefix("node.kubernetes.io/"), taint.effect) for taint in taints]


@pytest.mark.parametrize(
    ("conditions", "unschedulable", "keys"),
    [
        ({"Ready": "True"}, False, []),
        ({}, False, []),
        ({"Ready": "False"}, False, ["not-ready"]),
        ({"Ready": "Unknown"}, False, ["unreachable"]),
        ({"Ready": "True", "MemoryPressure": "True", "DiskPressure": "Unknown"}, False, ["memory-pressure"]),
        ({"DiskPressure": "True", "PIDPressure": "True"}, False, ["disk-pressure", "pid-pressure"]),
        ({"NetworkUnavailable": "True"}, True, ["unschedulable", "network-unavailable"]),
    ],
)
@pytest.mark.parametrize("evicts", [False, True])
def test_taints_follow_conditions(
    conditions: dict[str, str], unschedulable: bool, keys: list[str], evicts: bool
) -> None:
    taints = desired_taints(node(conditions, unschedulable=unschedulable), "now", evicts=evicts)
    expected = [(key, "NoSchedule") for key in keys]
    if evicts:
        expected += [(key, "NoExecute") for key in keys if key in ("not-ready", "unreachable")]
    assert identities(taints) == expected
    assert all(taint.time_added == "now" for taint in taints)


KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "example.com/theirs")
BEFORE = [Taint(key=key, effect=effect, time_added="before") for key in KEYS for effect in ("NoSchedule", "NoExecute")]


@pytest.mark.parametrize("status", ["True", "False", "Unknown", None])
@pytest.mark.parametrize("evicts", [False, True])
def test_only_our_taints_go_and_those_that_stay_keep_their_time(status: str | None, evicts: bool) -> None:
    for size in (0, 1, 2, 6):
        for before in itertools.combinations(BEFORE, size):
            made = node({"Ready": status} if status else {}, list(before))
            after = desired_taints(made, "now", evicts=evicts)
            theirs = [taint for taint in before if taint.key == KEYS[2]]
            assert [taint for taint in after if taint.key == KEYS[2]] == theirs
            wanted = {"False": KEYS[0], "Unknown": KEYS[1]}.get(status or "")
            effects = ("NoSchedule", "NoExecute") if evicts else ("NoSchedule",)
            expected = {(wanted, effect) for effect in effects} if wanted else set()
            ours = {(taint.key, taint.effect): taint.time_added for taint in after if taint.key != KEYS[2]}
            assert ours.keys() == expected
            for identity, time in ours.items():
                assert time == ("before" if identity in {(t.key, t.effect) for t in before} else "now")
            made.spec.taints = after
            assert desired_taints(made, "later", evicts=evicts) == after, "then there is nothing left to do"
            assert is_evicting(made) == (evicts and wanted is not None)


def test_readiness_is_what_the_condition_says() -> None:
    assert [readiness(node({"Ready": s})) for s in ("True", "False", "Unknown")] == ["True", "False", "Unknown"]
    assert readiness(node({"MemoryPressure": "True"})) is None


@pytest.mark.parametrize(
    ("ready", "not_ready", "health"),
    [
        (0, 0, Health.NORMAL),
        (1, 0, Health.NORMAL),
        (0, 1, Health.FULL),
        (0, 9, Health.FULL),
        (1, 1, Health.NORMAL),
        (1, 2, Health.NORMAL),  # two are too few to speak of a disruption
        (1, 3, Health.PARTIAL),
        (2, 3, Health.PARTIAL),
        (3, 3, Health.NORMAL),
        (45, 55, Health.PARTIAL),
        (46, 54, Health.NORMAL),
    ],
)
def test_the_state_of_a_zone(ready: int, not_ready: int, health: Health) -> None:
    assert health_of(ready, not_ready, 0.55) is health


def zone(name: str, ready: int, not_ready: int) -> list[Node]:
    return [node({"Ready": "True"}, zone=name)] * ready + [node({"Ready": "Unknown"}, zone=name)] * not_ready


def test_rates_by_zone() -> None:
    rates = Rates()
    nodes = [*zone("fine", 3, 1), *zone("small", 1, 9), *zone("large", 20, 40), *zone("dark", 0, 5), *zone("", 1, 0)]
    by_zone = {name: rate for (_, name), rate in zone_rates(nodes, rates).items()}
    assert by_zone == {"fine": 0.1, "small": 0.0, "large": 0.01, "dark": 0.1, "": 0.1}
    assert zone_rates([*zone("a", 0, 3), *zone("b", 0, 1)], rates) == {}, "nobody is ready: it is us"
    assert zone_of(node({}, zone="z")) == ("", "z")


def test_one_goes_at_once_and_the_next_ones_in_turn() -> None:
    pace = Pace()
    assert pace.take(100.0, 0.1) == 0.0
    assert pace.take(103.0, 0.1) == 7.0
    assert pace.take(110.0, 0.1) == 0.0
    assert pace.take(111.0, 0.0) == math.inf
    assert pace.take(1000.0, 0.1) == 0.0
    assert pace.take(1001.0, 0.1) == 9.0, "no turns are saved up"


A = Taint(key="a", value="1", effect="NoExecute")
B = Taint(key="b", effect="NoExecute")
SINCE = {"a": 100.0, "b": 200.0}


def bears(key: str, seconds: int | None, **more: str) -> Toleration:
    return Toleration(key=key, operator="Exists", toleration_seconds=seconds, **more)


@pytest.mark.parametrize(
    ("taints", "tolerations", "when"),
    [
        ([], [], math.inf),
        ([A], [], -math.inf),
        ([A], [bears("a", None)], math.inf),
        ([A], [bears("a", 30)], 130.0),
        ([A], [bears("a", 0)], 100.0),
        ([A], [bears("a", -5)], 100.0),
        ([A], [bears("a", 30, effect="NoExecute")], 130.0),
        ([A], [bears("a", 30, effect="NoSchedule")], -math.inf),
        ([A], [bears("", None)], math.inf),
        ([A], [Toleration(key="a", operator="Equal", value="1", toleration_seconds=7)], 107.0),
        ([A], [Toleration(key="a", operator="Equal", value="2", toleration_seconds=7)], -math.inf),
        ([A], [bears("a", 30), bears("a", 60)], 130.0),
        ([A], [bears("b", 5), bears("a", 60)], 160.0),
        ([A, B], [bears("a", 60)], -math.inf),
        ([A, B], [bears("a", 500), bears("b", 60)], 260.0),
        ([A, B], [bears("a", None), bears("b", 60)], 260.0),
        ([A, B], [bears("", 10)], 110.0),
    ],
)
def test_when_a_pod_leaves(taints: list[Taint], tolerations: list[Toleration], when: float) -> None:
    assert leaves_at(tolerations, taints, lambda taint: SINCE[taint.key]) == when


def test_only_no_execute_sends_away() -> None:
    other = [Taint(key="a", effect=effect) for effect in ("NoSchedule", "PreferNoSchedule")]
    assert evicting_taints(node({}, [*other, B])) == [B]


@pytest.mark.parametrize("operator", ["", "Equal", "Exists"])
@pytest.mark.parametrize("key", ["", "k", "other"])
@pytest.mark.parametrize("value", ["", "v", "other"])
@pytest.mark.parametrize("effect", ["", "NoExecute", "NoSchedule"])
def test_what_a_toleration_tolerates(operator: str, key: str, value: str, effect: str) -> None:
    toleration = Toleration(key=key, operator=operator, value=value, effect=effect)
    taint = Taint(key="k", value="v", effect="NoExecute")
    right_key = key == "k" or (key == "" and operator == "Exists")
    right_value = operator == "Exists" or value == "v"
    assert toleration.tolerates(taint) == (right_key and right_value and effect in ("", "NoExecute"))


@pytest.mark.parametrize("ready", ["True", "False", "Unknown", None])
@pytest.mark.parametrize("tainted", [False, True])
@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("placed", ["gone", "there", ""])
def test_why_a_pod_is_removed(ready: str | None, tainted: bool, deleted: bool, placed: str) -> None:
    taints = [Taint(key=OUT_OF_SERVICE, value="nodeshutdown", effect="NoExecute")] if tainted else []
    there = node({"Ready": ready} if ready else {}, taints) if placed == "there" else None
    reason = reason_to_remove(pod("p", node=placed, deleted=deleted), there)
    if placed == "gone":
        assert reason is Reason.ORPHANED
    elif placed == "":
        assert reason is (Reason.UNSCHEDULED if deleted else None)
    else:
        assert reason is (Reason.OUT_OF_SERVICE if deleted and tainted and ready != "True" else None)


def test_of_finished_pods_the_evicted_ones_go_first_then_the_oldest() -> None:
    evicted = pod("evicted", phase="Failed", age=1)
    evicted.status.reason = "Evicted"
    old, young = pod("old", phase="Succeeded", age=9), pod("young", phase="Failed", age=2)
    pods = [pod("running", age=99), young, old, evicted]
    assert [p.metadata.name for p in surplus_finished(pods, 2)] == ["evicted"]
    assert [p.metadata.name for p in surplus_finished(pods, 1)] == ["evicted", "old"]
    assert surplus_finished(pods, 3) == []
    assert surplus_finished(pods, 0) == []


@given(st.integers(0, 5000), st.integers(0, 4))
def test_a_cluster_is_always_on_a_step_that_fits(nodes: int, before: int) -> None:
    bounds = ((0, 100), (90, 500), (450, 1000), (900, 2000), (1800, 10**9))
    step = step_for(nodes, before)
    low, high = bounds[step]
    assert low <= nodes <= high
    if bounds[before][0] <= nodes <= bounds[before][1]:
        assert step == before
    assert [ttl_of(n) for n in range(5)] == ["0", "15", "30", "60", "300"]
