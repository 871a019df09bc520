"""HorizontalPodAutoscalers in both versions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.server.autoscaler_forms import cpu_metric, to_v1, to_v2

JSON = dict[str, Any]

MEMORY = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}
PODS = {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "10"}}}


def stored(metrics: list[JSON], **spec: Any) -> JSON:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a", "annotations": {"own": "1"}},
        "spec": {"minReplicas": 1, "maxReplicas": 3, "metrics": metrics} | spec,
        "status": {"desiredReplicas": 0},
    }


def test_cpu_has_a_field_of_its_own() -> None:
    shown = to_v1(stored([cpu_metric(70)]))
    assert shown["apiVersion"] == "autoscaling/v1"
    assert shown["spec"] == {"minReplicas": 1, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70}
    assert shown["status"] == {"desiredReplicas": 0, "currentReplicas": 0}
    assert shown["metadata"]["annotations"] == {"own": "1"}


def test_what_v1_cannot_say_is_in_annotations() -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    shown = to_v1(stored([MEMORY], behavior=behavior))
    assert "targetCPUUtilizationPercentage" not in shown["spec"]
    assert {"autoscaling.alpha.kubernetes.io/metrics", "autoscaling.alpha.kubernetes.io/behavior"} <= set(
        shown["metadata"]["annotations"]
    )
    assert to_v2(shown)["spec"] == stored([MEMORY], behavior=behavior)["spec"]


@pytest.mark.parametrize("annotation", ["", "nonsense"])
def test_no_metric_is_the_use_of_cpu(annotation: str) -> None:
    obj = {"metadata": {"name": "a", "annotations": {"autoscaling.alpha.kubernetes.io/metrics": annotation}}}
    assert to_v2(obj | {"spec": {"maxReplicas": 2}})["spec"]["metrics"] == [cpu_metric(80)]


@given(
    st.lists(st.sampled_from([MEMORY, PODS]), max_size=3),
    st.integers(1, 200),
    st.booleans(),
    st.none() | st.just([{"type": "AbleToScale", "status": "True"}]),
)
def test_there_and_back(metrics: list[JSON], percent: int, scales: bool, conditions: list[JSON] | None) -> None:
    obj = stored([cpu_metric(percent), *metrics])
    if scales:
        obj["spec"]["behavior"] = {"scaleUp": {"selectPolicy": "Max"}}
    if conditions:
        obj["status"]["conditions"] = conditions
    assert to_v2(to_v1(copy.deepcopy(obj))) == obj
