"""Rules of DaemonSets, and that any state of nodes and Pods ends in one current Pod a node."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api.apps import DaemonSet
from twinstack.api.core import Node, NodeSpec, Pod, PodSpec, PodStatus, Taint
from twinstack.api.meta import Condition, ObjectMeta
from twinstack.api.times import format_time
from twinstack.controllers import daemonplan
from twinstack.controllers.daemonpods import HASH_LABEL, Eligibility, node_of, pod_body

NOW = 1_800_000_000.0
NEW, OLD = "new", "old"


def daemon_set(pod: dict[str, Any] | None = None, **rolling: Any) -> DaemonSet:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]} | (pod or {})}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0} | rolling}
    annotations = {"deprecated.daemonset.template.generation": "3"}
    meta = {"name": "d", "namespace": "n", "uid": "u", "annotations": annotations}
    return msgspec.convert({"metadata": meta, "spec": {"template": template, "updateStrategy": strategy}}, DaemonSet)


def node(name: str, *taints: tuple[str, str], **labels: str) -> Node:
    found = [Taint(key=key, effect=effect) for key, effect in taints]
    return Node(metadata=ObjectMeta(name=name, labels=labels), spec=NodeSpec(taints=found))


def pod(name: str, home: str, revision: str, *, ready: bool = True, phase: str = "Running") -> Pod:
    condition = Condition(type="Ready", status="True" if ready else "False", last_transition_time=format_time(NOW - 60))
    return Pod(
        metadata=ObjectMeta(
            name=name, uid=name, labels={HASH_LABEL: revision}, creation_timestamp=format_time(NOW - 60)
        ),
        spec=PodSpec(node_name=home),
        status=PodStatus(phase=phase, conditions=[condition]),
    )


@pytest.mark.parametrize(
    ("spec", "taints", "expected"),
    [
        ({}, (), (True, True)),
        ({}, (("own", "NoSchedule"),), (False, True)),
        ({}, (("own", "NoExecute"),), (False, False)),
        ({}, (("own", "PreferNoSchedule"),), (True, True)),
        ({}, (("node.kubernetes.io/not-ready", "NoExecute"),), (True, True)),
        ({}, (("node.kubernetes.io/unschedulable", "NoSchedule"),), (True, True)),
        ({}, (("node.kubernetes.io/network-unavailable", "NoSchedule"),), (False, True)),
        ({"hostNetwork": True}, (("node.kubernetes.io/network-unavailable", "NoSchedule"),), (True, True)),
        ({"tolerations": [{"operator": "Exists"}]}, (("own", "NoExecute"),), (True, True)),
        ({"nodeSelector": {"role": "web"}}, (), (True, True)),
        ({"nodeSelector": {"role": "db"}}, (), (False, False)),
        ({"nodeName": "other"}, (), (False, False)),
    ],
)
def test_which_nodes_it_is_for(
    spec: dict[str, Any], taints: tuple[tuple[str, str], ...], expected: tuple[bool, bool]
) -> None:
    assert Eligibility(daemon_set(spec)).of(node("n1", *taints, role="web")) == expected


def test_its_pod_is_bound_by_affinity_and_keeps_what_the_template_prefers() -> None:
    preferred = [{"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}]
    name = "preferredDuringSchedulingIgnoredDuringExecution"
    body = pod_body(daemon_set({"affinity": {"nodeAffinity": {name: preferred}}}), "n1", NEW)
    affinity = body["spec"]["affinity"]["nodeAffinity"]
    assert affinity.pop(name) == preferred
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]
    assert affinity == {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    assert body["metadata"]["labels"] == {"a": "b", HASH_LABEL: NEW, "pod-template-generation": "3"}
    assert len(body["spec"]["tolerations"]) == 6
    assert node_of(msgspec.convert(body, Pod)) == "n1"


def test_pods_that_have_ended_or_are_too_many_go() -> None:
    pods = [pod("a", "n1", NEW), pod("b", "n1", NEW), pod("c", "n2", NEW, phase="Failed"), pod("e", "n3", NEW)]
    owner = daemon_set()
    found = daemonplan.standings(owner, [node("n1"), node("n2"), node("n3", ("x", "NoExecute"))], pods, set())
    step = daemonplan.settled(owner, found, NEW, NOW)
    assert ([p.metadata.name for p in step.delete], [p.metadata.name for p in step.failed]) == (["b", "e"], ["c"])
    assert step.create == []
    status = daemonplan.status_of(owner, found, NEW, 0, NOW)
    assert (status.desired_number_scheduled, status.current_number_scheduled, status.number_misscheduled) == (2, 2, 1)
    assert (status.number_ready, status.number_available, status.number_unavailable) == (2, 2, 0)


NODES = st.lists(st.booleans(), min_size=1, max_size=5)  # tainted or not
PODS = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans(), st.booleans()), max_size=8)
LIMITS = st.sampled_from([(1, 0), (2, 0), ("50%", 0), (0, 1), (0, "50%"), (0, 2)])


@given(NODES, PODS, LIMITS)
@settings(deadline=None)
def test_any_state_ends_in_one_current_pod_a_node(
    tainted: list[bool], there: list[tuple[int, bool, bool, bool]], limits: tuple[Any, Any]
) -> None:
    owner = daemon_set(maxUnavailable=limits[0], maxSurge=limits[1])
    nodes = [node(f"n{at}", *([("x", "NoExecute")] if out else [])) for at, out in enumerate(tainted)]
    pods = {
        f"p{at}": pod(
            f"p{at}", f"n{home % len(nodes)}", NEW if new else OLD, ready=ready, phase="Failed" if failed else "Running"
        )
        for at, (home, new, ready, failed) in enumerate(there)
    }
    made = 0
    for _ in range(60):
        changed = False
        for think in (daemonplan.settled, daemonplan.rolled):
            found = daemonplan.standings(owner, nodes, pods.values(), set())
            step = think(owner, found, NEW, NOW)
            for gone in (*step.delete, *step.failed, *step.succeeded):
                del pods[gone.metadata.uid]
            for home in step.create:
                made += 1
                pods[f"m{made}"] = pod(f"m{made}", home, NEW, ready=False)
            changed = changed or bool(step.create or step.delete or step.failed)
        for present in pods.values():  # what is made turns ready
            changed = changed or present.status.conditions[0].status == "False"
            present.status.conditions[0].status = "True"
        if not changed:
            break
    wanted = sorted(f"n{at}" for at, out in enumerate(tainted) if not out)
    assert sorted(one.spec.node_name for one in pods.values()) == wanted
    assert {one.metadata.labels[HASH_LABEL] for one in pods.values()} <= {NEW}


@given(st.integers(1, 6), LIMITS)
@settings(deadline=None)
def test_a_rollout_keeps_its_bounds(count: int, limits: tuple[Any, Any]) -> None:
    owner = daemon_set(maxUnavailable=limits[0], maxSurge=limits[1])
    nodes = [node(f"n{at}") for at in range(count)]
    pods = {f"p{at}": pod(f"p{at}", f"n{at}", OLD) for at in range(count)}
    limit = daemonplan.limits(owner, count)
    found = daemonplan.standings(owner, nodes, pods.values(), set())
    step = daemonplan.rolled(owner, found, NEW, NOW)
    assert len(step.delete) == min(limit.unavailable, count)
    assert len(step.create) == min(limit.surge, count)
