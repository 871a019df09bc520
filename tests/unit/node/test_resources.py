"""What containers and pods are limited to, and which of them the kernel kills first."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.node.building import pod

from twinstack.api.core import Container, Pod, PodStatus
from twinstack.node.resources import limits, oom_score_adj, pod_limits
from twinstack.node.runtime.base import Limits

MIB, GIB = 1 << 20, 1 << 30


def using(cpu: str = "", memory: str = "", *, limit: bool = True) -> dict[str, Any]:
    """The same amounts as requests and limits, or as requests alone."""
    amounts = {name: amount for name, amount in (("cpu", cpu), ("memory", memory)) if amount}
    return {"requests": amounts} | ({"limits": amounts} if limit else {})


def built(*mains: dict[str, Any], init: tuple[Container, ...] = (), qos: str = "Burstable", **spec: Any) -> Pod:
    made = pod(status=PodStatus(qos_class=qos), **spec)
    made.spec.containers = [Container(name=f"c{i}", resources=resources) for i, resources in enumerate(mains)]
    made.spec.init_containers = list(init)
    return made


def test_limits_of_a_container() -> None:
    assert limits(pod(), Container()) == Limits(shares=2)  # as kubelet does where nothing is requested
    assert limits(pod(), Container(resources=using("200m", "1Mi"))) == Limits(MIB, 200, 204)
    whole = pod(resources={"limits": {"cpu": "2", "memory": "1Gi"}})
    assert limits(whole, Container(resources=using("200m", limit=False))) == Limits(GIB, 2000, 204)


@pytest.mark.parametrize(
    ("of", "found"),
    [
        (built({}, qos="BestEffort"), Limits(shares=2)),
        (built(using("1", "1Gi"), using("500m", "1Gi"), qos="Guaranteed"), Limits(2 * GIB, 1500, 1536)),
        (built(using("1", "1Gi"), using("1", "1Gi", limit=False)), Limits(shares=2048)),
        (built(using("1", "1Gi"), using("1")), Limits(cpu=2000, shares=2048)),  # not all say how much memory
        (built({}, resources=using("1", "1Gi")), Limits(GIB, 1000, 1024)),
        (built(using("1", "1Gi"), overhead={"cpu": "1", "memory": "1Gi"}), Limits(2 * GIB, 2000, 2048)),
        (built(using("1"), init=(Container(resources=using("3")),)), Limits(cpu=3000, shares=3072)),
        (
            built(
                using("1"),
                init=(Container(restart_policy="Always", resources=using("1")), Container(resources=using("500m"))),
            ),
            Limits(cpu=2000, shares=2048),
        ),
    ],
)
def test_limits_of_a_pod(of: Pod, found: Limits) -> None:
    assert pod_limits(of, -1) == found
    assert pod_limits(of, 100) == found._replace(pids=100)


@pytest.mark.parametrize(
    ("of", "score"),
    [
        (built(using("1", "1Gi"), qos="Guaranteed"), -997),
        (built({}, qos="BestEffort"), 1000),
        (built({}, qos="BestEffort", priority_class_name="system-node-critical"), -997),
        (built({}), 999),
        (built(using(memory="1Gi", limit=False)), 750),
        (built(using(memory="8Gi", limit=False)), 3),
        (built({}, {}, resources=using(memory="1Gi", limit=False)), 875),  # half of what the pod asks for
    ],
)
def test_who_is_killed_first(of: Pod, score: int) -> None:
    assert oom_score_adj(of, of.spec.containers[0], 4 * GIB) == score


def test_a_sidecar_does_not_go_before_those_whom_it_serves() -> None:
    sidecar = Container(name="s", restart_policy="Always", resources=using(memory="1Mi", limit=False))
    of = built(using(memory="2Gi", limit=False), using(memory="1Gi", limit=False), init=(sidecar,))
    assert oom_score_adj(of, sidecar, 4 * GIB) == 750
    assert oom_score_adj(of, of.spec.containers[0], 4 * GIB) == 500
