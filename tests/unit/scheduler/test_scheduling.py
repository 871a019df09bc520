from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api.core import (
    Container,
    ContainerPort,
    ContainerStatus,
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodSpec,
    Taint,
    Toleration,
)
from twinstack.api.meta import Condition, ObjectMeta, OwnerReference
from twinstack.api.selectors import LabelSelector
from twinstack.scheduler.decision import Decision, decide
from twinstack.scheduler.filters import refusal
from twinstack.scheduler.loads import HIGHEST, Load, Loads
from twinstack.scheduler.nodes import preference, tolerated
from twinstack.scheduler.nominations import Nominations
from twinstack.scheduler.preemption import Budget, Room
from twinstack.scheduler.quantities import thousandths
from twinstack.scheduler.requests import Footprint, collide, footprint


def node(
    name: str = "n1",
    *,
    ready: str | None = "True",
    labels: dict[str, str] | None = None,
    taints: list[Taint] | None = None,
    unschedulable: bool = False,
    **allocatable: str,
) -> Node:
    return Node(
        metadata=ObjectMeta(name=name, labels=labels or {}),
        spec=NodeSpec(taints=taints or [], unschedulable=unschedulable),
        status=NodeStatus(
            conditions=[Condition(type="Ready", status=ready)] if ready else [], allocatable=dict(allocatable)
        ),
    )


def pod(name: str = "p", owner: str = "", **spec: Any) -> Pod:
    references = [OwnerReference(uid=owner, controller=True)] if owner else []
    return Pod(metadata=ObjectMeta(name=name, uid=f"uid-{name}", owner_references=references), spec=PodSpec(**spec))


def container(requests: dict[str, str] | None = None, **more: Any) -> Container:
    return Container(name="c", resources={"requests": requests} if requests else {}, **more)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1", 1000),
        ("100m", 100),
        ("1.5", 1500),
        (".5", 500),
        ("1e3", 1_000_000),
        ("12E-1", 1200),
        ("2k", 2_000_000),
        ("1Ki", 1_024_000),
        ("1.5Gi", 1_610_612_736_000),
        ("1E", 10**21),
        ("1n", 1),
        ("-1", -1000),
    ],
)
def test_quantities(text: str, expected: int) -> None:
    assert thousandths(text) == expected


@pytest.mark.parametrize("text", ["", "x", "1K", "1 Gi", "Gi", "1.2.3"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        thousandths(text)


def test_a_footprint_is_what_runs_together_or_the_heaviest_step_before() -> None:
    busy = pod(
        owner="rs",
        containers=[container({"cpu": "100m", "memory": "1Ki"}), container({"cpu": "200m"})],
        init_containers=[
            container({"cpu": "50m"}, restart_policy="Always"),
            container({"cpu": "400m"}),
            container({"memory": "1Ki"}),
        ],
    )
    assert footprint(busy) == Footprint(
        {"cpu": 450, "memory": 1_024_000, "pods": 1000}, frozenset(), "rs"
    )  # 50m sidecar + 400m step outweighs 50m + 300m


def test_what_the_pod_requests_as_a_whole_counts_and_its_overhead_on_top() -> None:
    busy = pod(
        containers=[container({"cpu": "100m", "memory": "1Ki"})],
        resources={"requests": {"cpu": "300m"}},
        overhead={"cpu": "50m"},
    )
    assert footprint(busy).resources == {"cpu": 350, "memory": 1_024_000, "pods": 1000}


def test_a_pod_that_is_resized_takes_what_it_has_until_it_has_what_it_wants() -> None:
    wants = pod(containers=[container({"cpu": "2", "memory": "1"})])
    has = {"requests": {"cpu": "1", "memory": "4"}}
    wants.status.container_statuses = [ContainerStatus(name=wants.spec.containers[0].name, resources=has)]
    assert footprint(wants).resources == {"cpu": 2000, "memory": 4000, "pods": 1000}
    wants.status.container_statuses[0].allocated_resources = {"cpu": "3"}
    assert footprint(wants).resources["cpu"] == 3000
    wants.status.conditions = [Condition(type="PodResizePending", status="True", reason="Infeasible")]
    wants.status.container_statuses[0].allocated_resources = {"cpu": "1"}
    assert footprint(wants).resources["cpu"] == 1000


def test_host_ports() -> None:
    ports = [
        ContainerPort(container_port=1, host_port=80),
        ContainerPort(container_port=1, host_port=81, host_ip="0.0.0.0", protocol="UDP"),
        ContainerPort(container_port=2),
        ContainerPort(container_port=1, host_port=82, host_ip="10.0.0.1"),
    ]
    before = [
        container(ports=[ContainerPort(container_port=1, host_port=90)], restart_policy="Always"),
        container(ports=[ContainerPort(container_port=1, host_port=91)]),
    ]
    taken = footprint(pod(containers=[container(ports=ports)], init_containers=before)).ports
    assert taken == {("", "TCP", 80), ("", "UDP", 81), ("10.0.0.1", "TCP", 82), ("", "TCP", 90)}
    assert collide(taken, {("fd00::1", "TCP", 80)})
    assert collide(taken, {("", "TCP", 82)})
    assert not collide(taken, {("", "UDP", 80), ("10.0.0.2", "TCP", 82)})


TAINT = Taint(key="k", value="v", effect="NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        (Toleration(key="k", value="v"), True),
        (Toleration(key="k", operator="Equal", value="v", effect="NoSchedule"), True),
        (Toleration(key="k", value="w"), False),
        (Toleration(key="k", operator="Exists"), True),
        (Toleration(key="k", operator="Exists", effect="NoExecute"), False),
        (Toleration(operator="Exists"), True),
        (Toleration(operator="Exists", effect="NoSchedule"), True),
        (Toleration(key="other", operator="Exists"), False),
        (Toleration(value="v"), False),
        (Toleration(key="k", operator="Unknown", value="v"), False),
    ],
)
def test_tolerations(toleration: Toleration, expected: bool) -> None:
    assert tolerated(TAINT, [toleration]) is expected


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


SELECTOR = "node(s) didn't match Pod's node affinity/selector"
TAINTED = "node(s) had untolerated taint(s)"


@pytest.mark.parametrize(
    ("wish", "offer", "reasons"),
    [
        ({}, {}, []),
        ({}, {"ready": "False"}, []),  # the taint that follows keeps Pods away
        ({}, {"unschedulable": True}, ["node(s) were unschedulable"]),
        ({"tolerations": [Toleration(operator="Exists")]}, {"unschedulable": True}, []),
        ({}, {"taints": [TAINT]}, [TAINTED]),
        ({}, {"taints": [Taint(key="k", effect="NoExecute")]}, [TAINTED]),
        ({}, {"taints": [Taint(key="k", effect="PreferNoSchedule")]}, []),
        ({"node_selector": {"disk": "ssd"}}, {"labels": {"disk": "ssd"}}, []),
        ({"node_selector": {"disk": "ssd"}}, {"labels": {"disk": "hdd"}}, [SELECTOR]),
        ({"node_selector": {"disk": ""}}, {}, [SELECTOR]),
        ({"affinity": affinity(expression("a", "In", "x", "y"))}, {"labels": {"a": "y"}}, []),
        ({"affinity": affinity(expression("a", "NotIn", "x"))}, {"labels": {"a": "x"}}, [SELECTOR]),
        ({"affinity": affinity(expression("a", "Exists"))}, {}, [SELECTOR]),
        ({"affinity": affinity(expression("a", "Gt", "4"))}, {"labels": {"a": "5"}}, []),
        ({"affinity": affinity(expression("a", "Exists"), expression("b", "DoesNotExist"))}, {}, []),
        ({"affinity": affinity({})}, {}, [SELECTOR]),
        (
            {"affinity": affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})},
            {},
            [],
        ),
        (
            {"affinity": affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]})},
            {},
            [SELECTOR],
        ),
        ({"containers": [container({"cpu": "2"})]}, {"cpu": "2"}, []),
        (
            {"containers": [container({"cpu": "2", "memory": "1Gi"})]},
            {"cpu": "1", "memory": "1Mi"},
            ["Insufficient cpu", "Insufficient memory"],
        ),
        ({"containers": [container({"example.com/gpu": "1"})]}, {"cpu": "1"}, ["Insufficient example.com/gpu"]),
        ({"containers": [container({"cpu": "0"})]}, {}, []),
        ({}, {"pods": "0"}, ["Too many pods"]),
        ({}, {"pods": "1"}, []),
    ],
)
def test_obstacles(wish: dict[str, Any], offer: dict[str, Any], reasons: list[str]) -> None:
    wanted = pod(**wish)
    assert against(wanted, node(**offer)) == reasons


def against(wanted: Pod, offer: Node, load: Load | None = None) -> list[str]:
    found = refusal(wanted, footprint(wanted), offer, load or Load())
    return list(found.reasons) if found is not None else []


@pytest.mark.parametrize(
    ("cpu", "running", "resolvable"),
    [("1", "1500m", True), ("3", "0", False), ("2", "1m", True), ("2001m", "1m", False)],
)
def test_others_could_make_room_for_what_the_node_is_large_enough_for(cpu: str, running: str, resolvable: bool) -> None:
    loads = Loads()
    loads.place("other", "n1", footprint(pod(containers=[container({"cpu": running})])))
    heavy = pod(containers=[container({"cpu": cpu})])
    found = refusal(heavy, footprint(heavy), node(cpu="2"), loads["n1"])
    assert found is not None
    assert (found.reasons, found.resolvable) == (("Insufficient cpu",), resolvable)


@pytest.mark.parametrize(
    ("labels", "expected"), [({}, 0), ({"a": "x"}, 7), ({"b": "1"}, 3), ({"a": "x", "b": "1"}, 10), ({"a": "y"}, 0)]
)
def test_preferred_terms_add_up(labels: dict[str, str], expected: int) -> None:
    preferred = [
        {"weight": 7, "preference": expression("a", "In", "x")},
        {"weight": 3, "preference": expression("b", "Exists")},
        {"weight": 50, "preference": {}},
    ]
    wish = pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})
    assert preference(wish, node(labels=labels)) == expected


def test_what_runs_already_counts() -> None:
    loads = Loads()
    ports = [ContainerPort(container_port=1, host_port=80)]
    loads.place("other", "n1", footprint(pod(containers=[container({"cpu": "1500m"}, ports=ports)])))
    heavy, bound = pod(containers=[container({"cpu": "1"})]), pod(containers=[container(ports=ports)])
    offer = node(cpu="2", pods="10")
    assert against(heavy, offer, loads["n1"]) == ["Insufficient cpu"]
    assert against(bound, offer, loads["n1"]) == ["node(s) didn't have free ports for the requested pod ports"]
    assert against(heavy, offer, loads["n2"]) == []


def choose(wish: Pod, nodes: list[Node], loads: Loads) -> Decision:
    return decide(wish, footprint(wish), {n.metadata.name: n for n in nodes}, loads, lambda namespace: {})


def test_messages() -> None:
    assert choose(pod(), [], Loads()) == Decision(None, "no nodes available to schedule pods")
    picky = pod(node_selector={"disk": "ssd"})
    nodes = [node("a"), node("b", taints=[TAINT]), node("c"), node("d", unschedulable=True)]
    assert choose(picky, nodes, Loads()) == Decision(
        None,
        f"0/4 nodes are available: 1 {TAINTED}, 1 node(s) were unschedulable, 2 {SELECTOR}. "
        "preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.",
    )


def test_the_message_says_whether_others_could_be_sent_away() -> None:
    heavy: dict[str, Any] = {"containers": [container({"cpu": "1"})]}
    loads = Loads()
    loads.place("1", "full", footprint(pod("1", priority=5, **heavy)))
    nodes = [node("full", cpu="1"), node("small", cpu="1m"), node("other", taints=[TAINT])]
    assert choose(pod(**heavy), nodes, loads).message == (
        f"0/3 nodes are available: 1 {TAINTED}, 2 Insufficient cpu. preemption: 0/3 nodes are available: "
        "1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    )
    loads.place("2", "weak", footprint(pod("2", priority=-1, **heavy)))
    nodes.append(node("weak", cpu="1"))
    never = pod(preemption_policy="Never", **heavy)
    assert choose(never, nodes, loads) == Decision(
        None,
        f"0/4 nodes are available: 1 {TAINTED}, 3 Insufficient cpu. "
        "preemption: not eligible due to preemptionPolicy=Never.",
    )
    message = f"0/4 nodes are available: 1 {TAINTED}, 3 Insufficient cpu."
    assert choose(pod(**heavy), nodes, loads) == Decision(None, message, Room("weak", ("2",)))
    loads.remove("2")
    assert (loads["weak"].lowest_priority, loads["full"].lowest_priority) == (HIGHEST, 5)


def crowd(loads: Loads, name: str, *pods: tuple[str, int, str]) -> Node:
    """A node that is full of Pods: their uids, priorities and CPUs."""
    for uid, priority, cpus in pods:
        wish = pod(uid, priority=priority, containers=[container({"cpu": cpus})])
        wish.metadata.labels = {"app": uid}
        loads.place(uid, name, footprint(wish))
    return node(name, cpu="4")


@pytest.mark.parametrize(
    ("others", "budgets", "room"),
    [
        # The most important victim counts first, then their sum, then the name.
        ([[("a", 5, "4")], [("b", 3, "2"), ("c", 3, "2")]], [], Room("n1", ("b", "c"))),
        ([[("a", 3, "2"), ("b", 3, "2")], [("c", 3, "1"), ("d", 3, "3")]], [], Room("n1", ("d",))),
        ([[("a", 3, "4")], [("b", 3, "4")]], [], Room("n0", ("a",))),
        # Who can stay does, the more important one first.
        ([[("a", 1, "1"), ("b", 2, "1")]], [], Room("n0", ("a",))),
        ([[("a", 1, "1"), ("b", 2, "3")], [("c", 9, "4")]], [], Room("n0", ("b",))),
        # A budget weighs more than any priority, on a node and among nodes.
        ([[("a", 1, "1"), ("b", 2, "1")]], ["a"], Room("n0", ("b",))),
        ([[("a", 1, "4")], [("b", 5, "4")]], ["a"], Room("n1", ("b",))),
    ],
)
def test_who_makes_room(others: list[list[tuple[str, int, str]]], budgets: list[str], room: Room | None) -> None:
    loads = Loads()
    nodes = {f"n{i}": crowd(loads, f"n{i}", *pods) for i, pods in enumerate(others)}
    before = {name: (dict(loads[name].resources), dict(loads[name].priorities)) for name in nodes}
    wish = pod("w", priority=7, containers=[container({"cpu": "3"})])
    kept = [Budget("", LabelSelector.from_labels({"app": app}), 0) for app in budgets]
    decision = decide(wish, footprint(wish), nodes, loads, lambda namespace: {}, budgets=lambda: kept)
    assert decision.room == room
    assert {name: (dict(loads[name].resources), dict(loads[name].priorities)) for name in nodes} == before


def test_room_is_kept_until_the_victims_are_gone() -> None:
    loads, kept = Loads(), Nominations()
    offers = {"n1": crowd(loads, "n1", ("a", 1, "4"))}
    wish, other = (
        pod(name, priority=rank, containers=[container({"cpu": "3"})]) for name, rank in (("w", 7), ("o", 6))
    )
    kept.add("uid-w", Room("n1", ("a",)), footprint(wish))
    assert kept.awaits_victims("uid-w", loads)
    loads.remove("a")
    assert not kept.awaits_victims("uid-w", loads)
    for asking, found in ((other, None), (wish, "n1")):
        taken = footprint(asking)
        with kept.reserved(asking.metadata.uid, taken.priority, loads):
            assert decide(asking, taken, offers, loads, lambda namespace: {}).node == found
    assert loads["n1"].pods == 0
    assert (kept.remove("uid-w"), kept.remove("uid-w")) == (True, False)


def test_the_choice() -> None:
    loads = Loads()
    mine = pod(owner="rs")
    assert choose(mine, [node("b"), node("a")], loads).node == "a"
    loads.place("1", "a", footprint(pod()))
    assert choose(mine, [node("b"), node("a")], loads).node == "b"
    loads.place("2", "b", footprint(mine))  # a sibling weighs more than strangers
    loads.place("3", "a", footprint(pod()))
    assert choose(mine, [node("b"), node("a")], loads).node == "a"
    disliked = node("a", taints=[Taint(key="k", effect="PreferNoSchedule")])
    assert choose(mine, [node("b"), disliked], loads).node == "b"
    preferred = [{"weight": 1, "preference": expression("disk", "Exists")}]
    wish = pod(owner="rs", affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})
    assert choose(wish, [node("b", labels={"disk": ""}), node("a")], loads).node == "b"


def test_a_deployment_is_spread_evenly() -> None:
    loads, nodes = Loads(), [node(f"n{n}") for n in range(3)]
    for number in range(9):
        one = pod(str(number), owner="rs")
        chosen = choose(one, nodes, loads).node
        assert chosen is not None
        loads.place(one.metadata.uid, chosen, footprint(one))
    assert [loads[f"n{n}"].pods for n in range(3)] == [3, 3, 3]


_moves = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(["n1", "n2", None]), st.integers(0, 3), st.sampled_from(["", "a", "b"])
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(_moves)
def test_loads_are_the_sum_of_what_is_placed(moves: list[tuple[int, str | None, int, str]]) -> None:
    loads = Loads()
    model: dict[int, tuple[str, Footprint]] = {}
    for uid, target, cpu, owner in moves:
        taken = Footprint({"cpu": cpu, "pods": 1000}, frozenset({("", "TCP", cpu)}), owner, cpu, owner or "x")
        if target is None:
            assert loads.remove(str(uid)) == (model.pop(uid, None) is not None)
        else:
            loads.place(str(uid), target, taken)
            model[uid] = (target, taken)
        for name in ("n1", "n2"):
            here = [entry for place, entry in model.values() if place == name]
            load = loads[name]
            assert load.pods == len(here)
            assert load.resources["cpu"] == sum(entry.resources["cpu"] for entry in here)
            assert set(load.ports) == {port for entry in here for port in entry.ports}
            assert sum(load.owners.values()) == len(here)
            assert load.lowest_priority == min((entry.priority for entry in here), default=HIGHEST)
        assert set(loads.namespaces()) == {entry.namespace for _, entry in model.values()}
        for namespace in loads.namespaces():
            expected = sorted(place for place, entry in model.values() if entry.namespace == namespace)
            assert sorted(place for place, _ in loads.in_namespace(namespace)) == expected
