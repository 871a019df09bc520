"""What a LimitRange gives to Pods and claims, and what it forbids."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from tests.service_server import MemoryStore
from tests.unit.server.strategy.strategy_context import context, stored

from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource, resource
from twinstack.server.strategy.limitranges import PLUGIN, RANGES
from twinstack.server.strategy.registry import strategy_for

JSON = dict[str, Any]

PODS = resource("", "pods")
CLAIMS = resource("", "persistentvolumeclaims")
DEFAULTS = {
    "type": "Container",
    "default": {"cpu": "500m", "memory": "500Mi"},
    "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
}


def made(row: Resource, item: JSON, obj: JSON, **options: Any) -> JSON:
    ctx = context(row, **options)
    reader = cast("MemoryStore", ctx.reader)
    body = {"metadata": {"name": "r", "namespace": "default"}, "spec": {"limits": [item]}}
    reader.records[RANGES.key("default", "r")] = json.dumps(body).encode()
    return strategy_for(row).create(ctx, stored(row, obj)).object


def pod(*resources: JSON, **spec: Any) -> JSON:
    containers = [{"name": f"c{i}", "image": "x", "resources": each} for i, each in enumerate(resources)]
    return {"spec": {"containers": containers} | spec}


def test_what_containers_leave_out_is_filled_in() -> None:
    whole = pod({}, {"limits": {"cpu": "300m"}, "requests": {"memory": "150Mi"}})
    whole["spec"]["initContainers"] = [{"name": "i", "image": "x", "resources": DEFAULTS_TAKEN}]
    found = made(PODS, DEFAULTS, whole)
    first, second = (container["resources"] for container in found["spec"]["containers"])
    assert first == DEFAULTS_TAKEN
    assert second == {
        "limits": {"cpu": "300m", "memory": "500Mi"},
        "requests": {"cpu": "300m", "memory": "150Mi"},
    }
    assert found["status"]["qosClass"] == "Burstable"
    assert found["metadata"]["annotations"] == {
        "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu, memory request for container c0;"
        " cpu, memory limit for container c0; memory limit for container c1"
    }


DEFAULTS_TAKEN = {"requests": DEFAULTS["defaultRequest"], "limits": DEFAULTS["default"]}


@pytest.mark.parametrize(
    ("item", "resources", "error"),
    [
        (
            {"min": {"cpu": "50m"}},
            {"requests": {"cpu": "10m"}},
            "minimum cpu usage per Container is 50m, but request is 10m",
        ),
        ({"min": {"cpu": "50m"}}, {}, "minimum cpu usage per Container is 50m. No request is specified"),
        (
            {"max": {"cpu": "500m"}},
            {"limits": {"cpu": "600m"}},
            "maximum cpu usage per Container is 500m, but limit is 600m",
        ),
        ({"max": {"cpu": "500m"}}, {}, "maximum cpu usage per Container is 500m. No limit is specified"),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"limits": {"cpu": "3"}, "requests": {"cpu": "1"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {},
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            {"min": {"cpu": "50m", "memory": "1Gi"}},
            {"requests": {"cpu": "10m", "memory": "1Mi"}},
            (
                "[minimum cpu usage per Container is 50m, but request is 10m,"
                " minimum memory usage per Container is 1Gi, but request is 1Mi]"
            ),
        ),
    ],
)
def test_containers_keep_within_bounds(item: JSON, resources: JSON, error: str) -> None:
    with pytest.raises(StatusError) as caught:
        made(PODS, {"type": "Container"} | item, pod(resources))
    assert (caught.value.code, str(caught.value)) == (403, f'pods "a" is forbidden: {error}')


def test_a_pod_counts_as_a_whole() -> None:
    item = {"type": "Pod", "max": {"cpu": "1"}}
    half = {"limits": {"cpu": "500m"}}
    side = {"name": "s", "image": "x", "resources": half, "restartPolicy": "Always"}
    made(PODS, item, pod(half, half))
    made(PODS, item, pod(half, initContainers=[side]))
    for more in (pod(half, half, half), pod(half, half, initContainers=[side])):
        with pytest.raises(StatusError, match="maximum cpu usage per Pod is 1, but limit is 1500m"):
            made(PODS, item, more)


def test_claims_have_bounds() -> None:
    item = {"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"}, "max": {"storage": "3Gi"}}

    def claim(size: str) -> JSON:
        return {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}}

    made(CLAIMS, item, claim("2Gi"))
    for size, bound in (("1Gi", "minimum storage usage per PersistentVolumeClaim is 2Gi"), ("4Gi", "maximum")):
        with pytest.raises(StatusError, match=bound) as caught:
            made(CLAIMS, item, claim(size))
        assert f"but request is {size}" in str(caught.value)


def test_without_the_plugin_nothing_is_done() -> None:
    found = made(PODS, DEFAULTS, pod({}), disabled_plugins=frozenset({PLUGIN}))
    assert "resources" not in found["spec"]["containers"][0] or not found["spec"]["containers"][0]["resources"]
