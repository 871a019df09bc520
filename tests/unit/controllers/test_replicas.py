from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controllers.workloads import NOW, pod, replica_set

from twinstack.api.apps import ReplicaSetStatus
from twinstack.api.core import PodTemplateSpec
from twinstack.api.meta import Condition, ObjectMeta
from twinstack.api.replication import ReplicationController, ReplicationControllerSpec
from twinstack.controllers.replicas import (
    DELETION_COST,
    next_available,
    pod_body,
    selector,
    status_of,
    surplus,
    wanted,
)
from twinstack.controllers.statuswriting import status_patch

BETTER: dict[str, Any] = {"name": "better", "node": "n2", "age": 2}


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"node": ""}, {"ready_for": None}),
        ({"phase": "Pending", "ready_for": None}, {"phase": "Running", "ready_for": None}),
        ({"phase": "Unknown"}, {"phase": "Running", "ready_for": None}),
        ({"ready_for": None}, {"annotations": {DELETION_COST: "-5"}}),
        ({"annotations": {DELETION_COST: "-5"}}, {"ready_for": 1}),
        ({"annotations": {DELETION_COST: "no number"}}, {"annotations": {DELETION_COST: "1"}}),
        ({"ready_for": 10}, {"ready_for": 1000, "restarts": 9}),
        ({"restarts": 3, "age": 5}, {"restarts": 2}),
        ({"age": 1}, {"age": 2}),
        ({"ready_for": 900, "age": 1}, {"ready_for": 600, "age": 2}),  # the same power of two
    ],
)
def test_what_serves_least_goes_first(worse: dict[str, Any], better: dict[str, Any]) -> None:
    other: dict[str, Any] = {"name": "worse", "age": 2} | worse
    pods = [pod(**(BETTER | better)), pod(**other)]
    assert [victim.metadata.name for victim in surplus(pods, 1, NOW)] == ["worse"]
    assert [victim.metadata.name for victim in surplus(pods[::-1], 1, NOW)] == ["worse"]


def test_crowded_nodes_give_up_first() -> None:
    pods = [pod("a", node="n1"), pod("b", node="n2"), pod("c", node="n2")]
    assert surplus(pods, 1, NOW)[0].spec.node_name == "n2"


def test_status_counts() -> None:
    owner = replica_set("web-1", 3)
    owner.metadata.generation = 7
    owner.spec.min_ready_seconds = 30
    pods = [
        pod("ready", ready_for=60),
        pod("fresh", ready_for=10),
        pod("unlabeled", ready_for=None, labels={}),
        pod("ending", deleted=True),
        pod("done", phase="Succeeded"),
    ]
    status = status_of(owner, pods, None, NOW)
    assert isinstance(status, ReplicaSetStatus)
    assert (status.replicas, status.fully_labeled_replicas, status.ready_replicas) == (3, 2, 2)
    assert (status.available_replicas, status.terminating_replicas, status.observed_generation) == (1, 1, 7)
    assert next_available(owner, pods, NOW) == pytest.approx(20)
    assert next_available(owner, pods[:1], NOW) is None


def test_a_failure_is_a_condition_and_goes_when_it_is_over() -> None:
    owner = replica_set("web-1", 1)
    failure = Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message="quota")
    owner.status.conditions = [failure, Condition(type="Theirs", status="True")]
    assert [entry.type for entry in status_of(owner, [], failure, NOW).conditions] == ["Theirs", "ReplicaFailure"]
    assert [entry.type for entry in status_of(owner, [], None, NOW).conditions] == ["Theirs"]


def test_the_body_of_a_pod_is_the_template_and_its_owner() -> None:
    owner = replica_set("web-1", 1)
    owner.spec.template = PodTemplateSpec(
        metadata={"labels": {"app": "web"}, "annotations": {"a": "b"}, "creationTimestamp": None, "name": "ignored"},
        spec={"containers": [], "anything": {"kept": True}},
    )
    body = pod_body(owner)
    assert body["spec"] == {"containers": [], "anything": {"kept": True}}
    assert body["metadata"] == {
        "labels": {"app": "web"},
        "annotations": {"a": "b"},
        "generateName": "web-1-",
        "namespace": "shop",
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "web-1",
                "uid": "uid-web-1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def test_unset_replicas_mean_one() -> None:
    owner = replica_set("web-1", 1)
    owner.spec.replicas = None
    assert wanted(owner) == 1


def controller(selector: dict[str, str] | None = None) -> ReplicationController:
    return ReplicationController(
        api_version="v1",
        kind="ReplicationController",
        metadata=ObjectMeta(name="old", namespace="shop", uid="rc1", generation=2),
        spec=ReplicationControllerSpec(
            replicas=2,
            selector={"app": "web"} if selector is None else selector,
            template=PodTemplateSpec(metadata={"labels": {"app": "web"}}),
        ),
    )


def test_a_replication_controller_is_the_same_but_for_its_selector() -> None:
    owner = controller()
    assert selector(owner).matches({"app": "web", "more": "x"})
    assert not selector(owner).matches({"app": "other"})
    assert not selector(controller({})).matches({"app": "web"}), "no selector is nobody's"
    body = pod_body(owner)
    assert body["metadata"]["generateName"] == "old-"
    assert body["metadata"]["ownerReferences"][0]["kind"] == "ReplicationController"
    status = status_of(owner, [pod("a"), pod("b", ready_for=None)], None, NOW)
    assert status_patch(status) == {
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 2,
        "conditions": [],
    }
    assert status_patch(status_of(replica_set("web-1", 1), [pod("a", deleted=True)], None, NOW)) == {
        "replicas": 0,
        "fullyLabeledReplicas": 0,
        "readyReplicas": 0,
        "availableReplicas": 0,
        "terminatingReplicas": 1,
        "observedGeneration": 0,
        "conditions": [],
    }
