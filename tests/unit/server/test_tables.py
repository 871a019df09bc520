"""Objects as rows: columns, cells and ages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api import times
from twinstack.api.resources import RESOURCES, resource
from twinstack.api.schema import zero_object
from twinstack.server.tables import columns, row
from twinstack.server.tables.ages import age, duration

JSON = dict[str, Any]

NOW = 1_700_000_000.0
CREATED = times.format_time(NOW - 300)
META = {"name": "a", "namespace": "n", "creationTimestamp": CREATED}
PODS = resource("", "pods")


def cells(group: str, plural: str, obj: JSON) -> list[Any]:
    shown: list[Any] = row(resource(group, plural), {"metadata": META} | obj, NOW, "None")["cells"]
    return shown


def test_every_kind_has_as_many_cells_as_columns_even_when_empty() -> None:
    for kind in RESOURCES:
        empty = zero_object(kind.schema) | {"metadata": META}
        shown = row(kind, empty, NOW, "Metadata")
        unnamed = kind.plural == "ipaddresses"  # the age, as upstream
        assert len(shown["cells"]) == len(columns(kind)) + unnamed, kind.plural
        assert shown["object"] == {
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": META,
        }  # fmt: skip
        names = [column["name"] for column in columns(kind)]
        assert sum(column["format"] == "name" for column in columns(kind)) == names.count("Name") == 1


def test_what_a_row_carries() -> None:
    obj = {"metadata": META, "data": {"a": "b"}}
    config_maps = resource("", "configmaps")
    assert row(config_maps, obj, NOW, "Object")["object"] == {"kind": "ConfigMap", "apiVersion": "v1"} | obj
    assert row(config_maps, obj, NOW, "None") == {"cells": ["a", 1, "5m"], "object": None}
    assert row(config_maps, obj, NOW, "Metadata", "v1beta1")["object"]["apiVersion"] == "meta.k8s.io/v1beta1"


@pytest.mark.parametrize(
    ("spec", "status", "external"),
    [
        ({"type": "ClusterIP"}, {}, "<none>"),
        ({"type": "NodePort", "externalIPs": ["192.0.2.1", "2001:db8::1"]}, {}, "192.0.2.1,2001:db8::1"),
        ({"type": "LoadBalancer"}, {}, "<pending>"),
        ({"type": "LoadBalancer", "externalIPs": ["192.0.2.9"]},
         {"ingress": [{"ip": "192.0.2.2"}, {"hostname": "lb.example.com"}, {"ip": "192.0.2.1"}]},
         "192.0.2.1,192.0.2.2,lb.example.com,192.0.2.9"),
        ({"type": "ExternalName", "externalName": "example.com"}, {}, "example.com"),
    ],
)  # fmt: skip
def test_external_addresses_of_services(spec: JSON, status: JSON, external: str) -> None:
    assert cells("", "services", {"spec": spec, "status": {"loadBalancer": status}})[3] == external


def test_services() -> None:
    spec = {
        "type": "NodePort", "clusterIPs": ["10.96.0.1", "fd00::1"], "selector": {"b": "2", "a": "1"},
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
    }  # fmt: skip
    assert cells("", "services", {"spec": spec}) == [
        "a", "NodePort", "10.96.0.1", "<none>", "80:30080/TCP,53/UDP", "5m", "a=1,b=2",
    ]  # fmt: skip


def test_nodes() -> None:
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "172.30.0.2"}, {"type": "InternalIP", "address": "fd00::2"}],
        "nodeInfo": {"kubeletVersion": "v1", "osImage": "os"},
    }
    labels = {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "b", "node-role.kubernetes.io/": ""}
    obj = {"metadata": META | {"labels": labels}, "spec": {"unschedulable": True}, "status": status}
    assert cells("", "nodes", obj) == [
        "a", "Ready,SchedulingDisabled", "b,worker", "5m", "v1", "172.30.0.2", "<none>", "os", "<unknown>", "<unknown>",
    ]  # fmt: skip
    assert cells("", "nodes", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})[1] == "NotReady"
    assert cells("", "nodes", {})[1] == "Unknown"


def test_slices_show_the_first_few() -> None:
    endpoints = [{"addresses": [f"10.0.0.{n}"]} for n in range(5)]
    ports = [{"port": 80, "name": "a"}, {"name": "web"}, {}]
    assert cells("discovery.k8s.io", "endpointslices", {"endpoints": endpoints, "ports": ports})[2:4] == [
        "80,web,*", "10.0.0.0,10.0.0.1,10.0.0.2 + 2 more...",
    ]  # fmt: skip
    assert cells("discovery.k8s.io", "endpointslices", {"endpoints": None, "ports": None})[2:4] == ["<unset>"] * 2


def test_events_of_both_forms() -> None:
    core = {
        "involvedObject": {"kind": "Pod", "name": "p"}, "message": " text ", "type": "Normal", "reason": "R",
        "lastTimestamp": CREATED, "source": {"component": "kubelet", "host": "n1"},
    }  # fmt: skip
    new = {
        "regarding": {"kind": "Pod", "name": "p"}, "note": "text", "type": "Normal", "reason": "R",
        "eventTime": CREATED, "reportingController": "kubelet", "reportingInstance": "n1",
    }  # fmt: skip
    first = cells("", "events", core)
    assert first == ["5m", "Normal", "R", "pod/p", "", "kubelet, n1", "text", "<unknown>", 1, "a"]
    second = cells("events.k8s.io", "events", new)
    assert second == [*first[:7], "5m", 1, "a"]
    series = {"series": {"count": 7, "lastObservedTime": times.format_time(NOW - 5)}}
    assert cells("", "events", core | series)[0] == "5s"
    assert cells("", "events", core | series)[8] == 7


def pod(*statuses: JSON, init: tuple[JSON, ...] = (), spec: JSON | None = None, **status: Any) -> list[Any]:
    containers = [{"name": f"c{i}"} for i in range(max(1, len(statuses)))]
    body = {"containers": containers, "initContainers": [{"name": f"i{n}"} for n in range(len(init))]} | (spec or {})
    states = {"containerStatuses": list(statuses), "initContainerStatuses": list(init)}
    return cells("", "pods", {"spec": body, "status": {"phase": "Running"} | states | status})


RUNNING = {"ready": True, "restartCount": 0, "state": {"running": {}}}


def waiting(reason: str) -> JSON:
    return {"state": {"waiting": {"reason": reason}}}


def ended(**terminated: Any) -> JSON:
    return {"state": {"terminated": terminated}}


@pytest.mark.parametrize(
    ("shown", "ready", "reason"),
    [
        (pod(phase="Pending"), "0/1", "Pending"),
        (pod(RUNNING), "1/1", "Running"),
        (pod(waiting("CrashLoopBackOff")), "0/1", "CrashLoopBackOff"),
        (pod(ended(exitCode=3)), "0/1", "ExitCode:3"),
        (pod(ended(signal=9, exitCode=137)), "0/1", "Signal:9"),
        (pod(ended(reason="Completed"), phase="Succeeded"), "0/1", "Completed"),
        (pod(ended(reason="Completed"), RUNNING), "1/2", "NotReady"),
        (pod(ended(reason="Completed"), RUNNING, conditions=[{"type": "Ready", "status": "True"}]), "1/2", "Running"),
        (pod(phase="Failed", reason="Evicted"), "0/1", "Evicted"),
        (pod(init=(waiting("PodInitializing"),)), "0/1", "Init:0/1"),
        (pod(init=(waiting("ErrImagePull"),)), "0/1", "Init:ErrImagePull"),
        (pod(init=(ended(exitCode=0), ended(exitCode=1))), "0/1", "Init:ExitCode:1"),
        (pod(RUNNING, init=(ended(exitCode=0),)), "1/1", "Running"),
        (pod(phase="Pending", conditions=[{"type": "PodScheduled", "reason": "SchedulingGated"}]), "0/1",
         "SchedulingGated"),
    ],
)  # fmt: skip
def test_the_state_of_a_pod_in_one_word(shown: list[Any], ready: str, reason: str) -> None:
    assert shown[1:3] == [ready, reason]


def test_sidecars_restarts_and_deletion() -> None:
    spec = {"initContainers": [{"name": "i0", "restartPolicy": "Always"}]}
    sidecar = {"name": "i0", "started": True, "ready": True, "restartCount": 1, "state": {"running": {}}}
    again = RUNNING | {"restartCount": 2, "lastState": {"terminated": {"finishedAt": times.format_time(NOW - 65)}}}
    assert pod(again, init=(sidecar,), spec=spec)[1:4] == ["2/2", "Running", "3 (65s ago)"]
    deleting = {"metadata": META | {"deletionTimestamp": CREATED}, "spec": {"containers": []}}
    assert cells("", "pods", deleting | {"status": {"phase": "Running"}})[2] == "Terminating"
    assert cells("", "pods", deleting | {"status": {"phase": "Failed"}})[2] == "Failed"
    assert cells("", "pods", deleting | {"status": {"reason": "NodeLost"}})[2] == "Unknown"


def test_the_wide_columns_of_pods() -> None:
    gates = {"readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}], "nodeName": "n1"}
    ready = [{"type": "x", "status": "True"}]
    assert pod(spec=gates, conditions=ready, podIPs=[{"ip": "10.0.0.1"}])[5:] == ["10.0.0.1", "n1", "<none>", "1/2"]
    done = row(PODS, {"metadata": META, "spec": {}, "status": {"phase": "Succeeded"}}, NOW, "None")
    assert done["conditions"][0]["type"] == "Completed"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (-0.5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (121, "2m1s"), (599, "9m59s"),
        (600, "10m"), (10799, "179m"), (10800, "3h"), (10860, "3h1m"), (28799, "7h59m"), (28800, "8h"),
        (172799, "47h"), (172800, "2d"), (176400, "2d1h"), (691199, "7d23h"), (691200, "8d"), (63071999, "729d"),
        (63072000, "2y"), (63158400, "2y1d"), (252287999, "7y364d"), (252288000, "8y"),
    ],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.integers(0, 10**9))
def test_an_age_says_no_more_than_has_passed(seconds: int) -> None:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}
    total, number = 0, ""
    for char in duration(seconds):
        if char.isdigit():
            number += char
        else:
            total, number = total + int(number) * units[char], ""
    assert total <= seconds
    assert seconds - total < max(60, seconds * 0.2)


def test_an_unknown_instant() -> None:
    assert age(None, NOW) == age("", NOW) == "<unknown>"
