"""Scale, finalize and binding."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.server.messages import Route
from twinstack.server.subresources import bind, binding_target, check_binding, selector_text, shape_of

JSON = dict[str, Any]
DEPLOYMENTS, NAMESPACES, PODS = resource("apps", "deployments"), resource("", "namespaces"), resource("", "pods")


def deployment() -> JSON:
    return {
        "metadata": {
            "name": "d",
            "namespace": "ns",
            "uid": "u",
            "resourceVersion": "7",
            "creationTimestamp": "t",
            "labels": {"not": "shown"},
        },
        "spec": {"replicas": 2, "selector": {"matchLabels": {"b": "2", "a": "1"}}},
        "status": {"replicas": 1},
    }


def test_scale_shows_and_sets_replicas() -> None:
    shape = shape_of(Route(DEPLOYMENTS, "ns", "d", "scale"))
    meta = {"name": "d", "namespace": "ns", "uid": "u", "resourceVersion": "7", "creationTimestamp": "t"}
    shown = shape.show(deployment())
    assert shown == {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {"replicas": 2},
        "status": {"replicas": 1, "selector": "a=1,b=2"},
    }
    changed = shape.apply(deployment(), shown | {"spec": {"replicas": 5}})
    assert changed == deployment() | {"spec": deployment()["spec"] | {"replicas": 5}}
    assert shape.apply(deployment(), shown | {"spec": {}})["spec"]["replicas"] == 0
    stale = shape.apply(deployment(), shown | {"metadata": meta | {"resourceVersion": "6"}})
    assert stale["metadata"]["resourceVersion"] == "6"
    free = shape.apply(deployment(), shown | {"metadata": {"name": "d"}})
    assert free["metadata"]["resourceVersion"] == ""
    with pytest.raises(StatusError) as caught:
        shape.apply(deployment(), shown | {"spec": {"replicas": -1}})
    assert caught.value.message == (
        'Scale.autoscaling "d" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    )


def test_selectors_as_text() -> None:
    selector = {
        "matchLabels": {"z": "1"},
        "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]},
            {"key": "b", "operator": "NotIn", "values": ["x"]},
            {"key": "c", "operator": "Exists"},
            {"key": "d", "operator": "DoesNotExist"},
        ],
    }
    assert selector_text(selector) == "a in (x,y),b notin (x),c,!d,z=1"


def test_finalize_changes_finalizers_only() -> None:
    shape = shape_of(Route(NAMESPACES, "", "n", "finalize"))
    stored = {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}}
    sent = {"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {}, "status": {"phase": "Active"}}
    assert shape.direct
    assert shape.apply(stored, sent) == {
        "metadata": {"name": "n", "labels": {"a": "b"}},
        "spec": {},
        "status": {"phase": "Terminating"},
    }
    with pytest.raises(StatusError, match="name is neither a standard finalizer name nor is it fully qualified"):
        shape.apply(stored, {"metadata": {"name": "n"}, "spec": {"finalizers": ["bad"]}})


def pod(**spec: Any) -> JSON:
    old = {"type": "PodScheduled", "status": "False"}
    return {"metadata": {"name": "p", "uid": "u", "labels": {"a": "1"}}, "spec": spec, "status": {"conditions": [old]}}


def binding(**more: Any) -> JSON:
    return {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}} | more


def test_a_bound_pod() -> None:
    bound = bind(pod(), binding(metadata={"name": "p", "labels": {"zone": "z"}}))
    assert bound["spec"] == {"nodeName": "n"}
    assert bound["metadata"]["labels"] == {"a": "1", "zone": "z"}
    (condition,) = bound["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")


@pytest.mark.parametrize(
    ("refused", "wanted", "problem"),
    [
        (pod(nodeName="m"), binding(), 'pod p is already assigned to node "m"'),
        (pod(schedulingGates=[{"name": "g"}]), binding(), "pod p has non-empty .spec.schedulingGates"),
        (
            pod() | {"metadata": {"name": "p", "uid": "u", "deletionTimestamp": "t"}},
            binding(),
            "pod p is being deleted, cannot be assigned to a host",
        ),
        (
            pod(),
            binding(metadata={"uid": "other"}),
            "Precondition failed: UID in precondition: other, UID in object meta: u",
        ),
    ],
)
def test_pods_that_cannot_be_bound(refused: JSON, wanted: JSON, problem: str) -> None:
    with pytest.raises(StatusError) as caught:
        bind(refused, wanted)
    assert caught.value.message == f'Operation cannot be fulfilled on pods/binding "p": {problem}'


def test_which_pod_a_binding_means() -> None:
    pods = Route(PODS, "ns", "p")
    assert binding_target(Route(resource("", "bindings"), "ns"), binding()) == pods
    assert binding_target(Route(PODS, "ns", "p", "binding"), binding()) == pods
    assert binding_target(Route(PODS, "ns", "p", "binding"), binding(metadata={})) == pods
    assert binding_target(Route(PODS, "ns"), {}) is None
    with pytest.raises(StatusError, match="name in URL does not match name in Binding object"):
        binding_target(Route(PODS, "ns", "q", "binding"), binding())
    check_binding(binding(target={"name": "n"}))
    for target in ({}, {"kind": "Pod", "name": "n"}):
        with pytest.raises(StatusError) as caught:
            check_binding(binding(target=target))
        assert caught.value.code == 500
