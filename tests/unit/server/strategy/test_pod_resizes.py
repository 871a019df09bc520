"""pods/resize: what of a Pod it changes, what it refuses, and what its node has to say."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.service_server import MemoryStore
from tests.unit.server.strategy.strategy_context import context, create, stored

from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.server.strategy import pod_resizes
from twinstack.server.strategy.registry import strategy_for

JSON = dict[str, Any]

PODS, NODES = resource("", "pods"), resource("", "nodes")
INIT: JSON = {"name": "i", "image": "i:1", "resources": {"requests": {"cpu": "1"}}}
SIDECAR: JSON = INIT | {"name": "s", "restartPolicy": "Always"}
MAIN: JSON = {
    "name": "c",
    "image": "c:1",
    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "ephemeral-storage": "1Gi"}},
}


def pod(**fields: Any) -> JSON:
    return create(PODS, {"spec": {"containers": [copy.deepcopy(MAIN)]} | fields}).object


def resize(old: JSON, **spec: Any) -> JSON:
    new = stored(PODS, copy.deepcopy(old))
    new["spec"] |= spec
    strategy = strategy_for(PODS)
    strategy.default(new)
    return strategy.update_subresource(context(PODS), "resize", new, old).object


def with_resources(container: JSON, **resources: Any) -> JSON:
    return container | {"resources": container["resources"] | resources}


def test_only_what_is_requested_and_limited_changes() -> None:
    old = pod(initContainers=[SIDECAR])
    wanted = with_resources(MAIN, limits={"cpu": "1", "ephemeral-storage": "1Gi", "memory": "1Gi"})
    changed = resize(
        old,
        containers=[wanted | {"image": "other:2"}],
        initContainers=[with_resources(SIDECAR, requests={"cpu": "2"})],
        activeDeadlineSeconds=5,
    )["spec"]
    assert changed["containers"][0]["resources"] == wanted["resources"]
    assert changed["initContainers"][0]["resources"] == {"requests": {"cpu": "2"}}
    assert changed["containers"][0]["image"] == "c:1"
    assert "activeDeadlineSeconds" not in changed


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"containers": [with_resources(MAIN, requests={"cpu": "100m"})]},
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ),
        (
            {"containers": [with_resources(MAIN, limits={"cpu": "300m"})]},
            (
                "[spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed, "
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed, "
                "spec: Forbidden: only cpu and memory resources are mutable]"
            ),
        ),
        (
            {"containers": [with_resources(MAIN, limits={"cpu": "200m", "ephemeral-storage": "2Gi"})]},
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            {"containers": [MAIN | {"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]}]},
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            {"containers": [MAIN | {"name": "d"}]},
            "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
        ),
        (
            {"containers": [MAIN, MAIN | {"name": "d"}]},
            "spec.containers: Forbidden: containers may not be added or removed on resize",
        ),
        (
            {"initContainers": [with_resources(INIT, requests={"cpu": "1", "memory": "1"}), SIDECAR]},
            "spec.initContainers: Forbidden: initContainers may not be added or removed on resize",
        ),
        (
            {"resources": {"limits": {"hugepages-2Mi": "2Mi"}, "requests": {"hugepages-2Mi": "2Mi"}}},
            (
                '[spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing, '
                "spec: Forbidden: only cpu and memory resources are mutable at pod-level]"
            ),
        ),
        (
            {
                "initContainers": [
                    with_resources(INIT, requests={"cpu": "2"})
                    | {"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}
                ]
            },
            (
                "spec.initContainers[0]: Forbidden: "
                "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
            ),
        ),
    ],
)
def test_what_a_resize_cannot_do(wanted: JSON, message: str) -> None:
    policies = [each for each in wanted.get("initContainers", []) if "resizePolicy" in each]
    old = pod(initContainers=[INIT | ({"resizePolicy": policies[0]["resizePolicy"]} if policies else {})])
    with pytest.raises(StatusError) as caught:
        resize(old, **wanted)
    assert caught.value.message == f'Pod "a" is invalid: {message}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}, "static pods cannot be resized"),
        (
            {"status": {"containerStatuses": [{"name": "c", "state": {"running": {"startedAt": None}}}]}},
            "Pod running on node without support for resize",
        ),
    ],
)
def test_pods_that_cannot_be_resized(change: JSON, message: str) -> None:
    old = pod()
    for part, fields in change.items():
        old[part] |= fields
    with pytest.raises(StatusError, match=f"Forbidden: {message}"):
        resize(old, containers=[with_resources(MAIN, requests={"cpu": "150m", "memory": "64Mi"})])


def test_restarts_for_a_resize_need_a_pod_that_restarts() -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}, {"resourceName": "disk"}]
    with pytest.raises(StatusError) as caught:
        pod(containers=[MAIN | {"resizePolicy": policy}], restartPolicy="Never")
    told = [f"{cause['field']}: {cause['message']}" for cause in (caught.value.details or {})["causes"]]
    never = "must be 'NotRequired' when `restartPolicy` is 'Never'"
    field = "spec.containers[0].resizePolicy"
    assert told == [
        f'{field}: Invalid value: "RestartContainer": {never}',
        f'{field}: Unsupported value: "disk": supported values: "cpu", "memory"',
        f"{field}: Required value",
        f'{field}: Invalid value: "": {never}',
    ]


NODE: JSON = {
    "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}},
    "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}},
}


@pytest.mark.parametrize(
    ("node", "changed", "message"),
    [
        (None, {}, ""),
        (None, {"cpu": "1"}, 'node "n" not found'),
        (NODE, {"cpu": "2"}, ""),
        (
            NODE,
            {"cpu": "2100m", "memory": "2Gi"},
            (
                "Node didn't have enough allocatable resources: cpu, requested: 2100, allocatable: 2000; "
                "memory, requested: 2147483648, allocatable: 1073741824"
            ),
        ),
        (
            NODE | {"metadata": {"name": "n", "labels": {"kubernetes.io/os": "plan9"}}},
            {"cpu": "1"},
            'pod resize is only supported on linux nodes, node "n" is "plan9"',
        ),
    ],
)
def test_the_node_has_to_have_what_is_asked_for(node: JSON | None, changed: JSON, message: str) -> None:
    reader = MemoryStore()
    if node is not None:
        reader.records[NODES.key("", "n")] = json.dumps(node).encode()
    old: JSON = {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {"cpu": "10m"}}}]}
    new: JSON = old | {"containers": [{"name": "c", "resources": {"requests": {"cpu": "10m"} | changed}}]}
    told = ""
    try:
        pod_resizes.check_node(reader, "a", new, old)
    except StatusError as error:
        told = error.message
    assert told == (f'pods "a" is forbidden: {message}' if message else "")


def test_a_pod_as_a_whole_is_resized_where_the_node_can() -> None:
    reader = MemoryStore()
    old: JSON = {"nodeName": "n", "containers": [], "resources": {"requests": {"cpu": "1"}}}
    new = old | {"resources": {"requests": {"cpu": "2"}}}
    can = NODE | {"status": NODE["status"] | {"declaredFeatures": ["InPlacePodLevelResourcesVerticalScaling"]}}
    reader.records[NODES.key("", "n")] = json.dumps(can).encode()
    pod_resizes.check_node(reader, "a", new, old)
    reader.records[NODES.key("", "n")] = json.dumps(NODE).encode()
    with pytest.raises(StatusError, match=r"requires features InPlacePod.* which are not available on node \"n\""):
        pod_resizes.check_node(reader, "a", new, old)


def test_nobody_owns_by_a_resize_what_it_does_not_change() -> None:
    reset = strategy_for(PODS).reset_fields(PODS, "resize")
    assert {"f:metadata", "f:status"} <= reset.keys()
    assert not reset["f:spec"].keys() & {"f:containers", "f:initContainers", "f:resources"}
    assert {"f:nodeName", "f:ephemeralContainers", "f:volumes"} <= reset["f:spec"].keys()
