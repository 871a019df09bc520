"""What a resize comes to: room on the node, restarts, what is told."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.core import Container, ContainerStatus, Pod, PodSpec, PodStatus
from twinstack.api.meta import Condition, ObjectMeta
from twinstack.node import resizing
from twinstack.node.status import status_patch

ROOM = {"cpu": "2", "memory": "1Gi"}


def pod(cpu: str, memory: str = "1Mi", **status: Any) -> Pod:
    container = Container(name="c", resources={"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": "4"}})
    return Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(containers=[container]), status=PodStatus(**status))


@pytest.mark.parametrize(
    ("asked", "others", "reason", "message"),
    [
        (("2", "1Gi"), [], "", ""),
        (("2100m", "1Mi"), [], "Infeasible", "Node didn't have enough capacity: cpu, requested: 2100, capacity: 2000"),
        (("3", "2Gi"), [], "Infeasible", "capacity: memory, requested: 2147483648, capacity: 1073741824"),
        (("1", "1Mi"), ["600m", "500m"], "Deferred", "resource: cpu, requested: 1000, used: 1100, capacity: 2000"),
        (("1", "1Mi"), ["600m", "400m"], "", ""),
    ],
)
def test_room_on_the_node(asked: tuple[str, str], others: list[str], reason: str, message: str) -> None:
    refused = resizing.refusal(pod(*asked), [pod(cpu) for cpu in others], ROOM)
    assert (refused.reason if refused else "") == reason
    assert (refused.message if refused else "").endswith(message)


def test_the_same_amount_in_other_words_is_no_change() -> None:
    old = {"requests": {"cpu": "1", "memory": "1Gi"}}
    assert resizing.changes({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {}}, old) == []
    assert resizing.changes({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}, old) == [
        "cpu",
        "memory",
    ]


def test_a_restart_is_for_the_resource_that_says_so() -> None:
    container = Container(resize_policy=[{"resourceName": "memory", "restartPolicy": "RestartContainer"}])
    assert resizing.needs_restart(container, ["cpu", "memory"])
    assert not resizing.needs_restart(container, ["cpu"])


def test_a_pod_holds_what_was_reported_until_it_gets_more() -> None:
    wanted = pod("2", container_statuses=[ContainerStatus(name="c", resources={"requests": {"cpu": "1"}})])
    held = resizing.reported(wanted)
    assert held == {"c": {"requests": {"cpu": "1"}}}
    assert resizing.with_resources(wanted, held).spec.containers[0].resources == {"requests": {"cpu": "1"}}
    assert wanted.spec.containers[0].resources["requests"]["cpu"] == "2"
    assert resizing.reported(pod("2")) == resizing.wanted(pod("2"))


def test_what_events_and_conditions_say() -> None:
    told = '{"containers":[{"name":"c","resources":{"limits":{"cpu":"4"},"requests":{"cpu":"1","memory":"1Mi"}}}]'
    assert resizing.summary(pod("1"), 2) == f'{told},"generation":2}}'
    assert resizing.summary(pod("1"), 3, "no") == f'{told},"generation":3,"error":"no"}}'
    one = 'attempting to set container "a" memory limit (1) below current usage (2)'
    assert resizing.memory_error([("a", 1, 2)]) == f"cannot decrease memory limits: {one}"
    assert resizing.memory_error([("a", 1, 2), ("a", 1, 2)]) == f"cannot decrease memory limits: [{one}, {one}]"
    assert resizing.memory_error([]) == ""


def test_conditions_of_a_resize_go_with_it() -> None:
    others = Condition(type="example.com/Gate", status="True")
    known = PodStatus(conditions=[Condition(type="PodResizeInProgress", status="True"), others])
    patch = status_patch("u", known, PodStatus())
    assert patch is not None
    assert patch["status"] == {"conditions": [{"$patch": "delete", "type": "PodResizeInProgress"}]}


def test_a_pod_holds_what_it_has_as_a_whole() -> None:
    wants = pod("1")
    wants.spec.resources = {"requests": {"cpu": "2"}}
    wants.status.resources = {"requests": {"cpu": "1"}}
    held = resizing.reported(wants)
    assert held[resizing.WHOLE] == {"requests": {"cpu": "1"}}
    assert resizing.with_resources(wants, held).spec.resources == {"requests": {"cpu": "1"}}
    assert resizing.with_resources(wants, {"c": wants.spec.containers[0].resources}).spec.resources is None
    assert resizing.with_resources(wants, {}) is wants
    assert resizing.memory_error([(resizing.WHOLE, 1, 2)]).endswith("set pod memory limit (1) below current usage (2)")
