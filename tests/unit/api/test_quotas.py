"""What objects take of a quota."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.quotas import pods, scopes, usage
from twinstack.api.quotas.amounts import added, equal, subtracted
from twinstack.api.scalars import quantity

JSON = dict[str, Any]


def container(name: str = "c", *, always: bool = False, **resources: JSON) -> JSON:
    return {"name": name, "resources": resources} | ({"restartPolicy": "Always"} if always else {})


def pod(*containers: JSON, status: JSON | None = None, **spec: Any) -> JSON:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}, "status": status or {}}


NOTHING = {"services.nodeports": "0", "services.loadbalancers": "0"}


@pytest.mark.parametrize(
    ("kind", "obj", "expected"),
    [
        (("", "configmaps"), {}, {"count/configmaps": "1", "configmaps": "1"}),
        (("", "serviceaccounts"), {}, {"count/serviceaccounts": "1"}),
        (("apps", "deployments"), {}, {"count/deployments.apps": "1"}),
        (("example.com", "secrets"), {}, {"count/secrets.example.com": "1"}),
        (("", "services"), {"spec": {"type": "ClusterIP", "ports": [{}]}}, NOTHING),
        (("", "services"), {"spec": {"type": "NodePort", "ports": [{}, {}]}}, NOTHING | {"services.nodeports": "2"}),
        (
            ("", "services"),
            {"spec": {"type": "LoadBalancer", "ports": [{}]}},
            {"services.nodeports": "1", "services.loadbalancers": "1"},
        ),
        (
            ("", "services"),
            {
                "spec": {
                    "type": "LoadBalancer",
                    "ports": [{"nodePort": 30000}, {}],
                    "allocateLoadBalancerNodePorts": False,
                }
            },
            {"services.nodeports": "1", "services.loadbalancers": "1"},
        ),
        (
            ("", "persistentvolumeclaims"),
            {
                "metadata": {},
                "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
                "status": {"allocatedResources": {"storage": "2Gi"}},
            },
            {
                "count/persistentvolumeclaims": "1",
                "persistentvolumeclaims": "1",
                "requests.storage": "2Gi",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
                "gold.storageclass.storage.k8s.io/requests.storage": "2Gi",
            },
        ),
        (
            ("", "pods"),
            pod(container(requests={"cpu": "1", "example.com/gpu": "2"}, limits={"memory": "64Mi"})),
            {
                "count/pods": "1",
                "pods": "1",
                "cpu": "1",
                "requests.cpu": "1",
                "requests.example.com/gpu": "2",
                "limits.memory": "64Mi",
            },
        ),
        (("", "pods"), pod(container(requests={"cpu": "1"}), status={"phase": "Failed"}), {"count/pods": "1"}),
    ],
)
def test_what_an_object_takes(kind: tuple[str, str], obj: JSON, expected: JSON) -> None:
    taken = usage.usage(kind, obj)
    if kind == ("", "services"):
        expected = {"count/services": "1", "services": "1"} | expected
    assert taken == expected
    assert usage.taken_by(kind, taken) == list(taken)


def test_a_pod_that_should_have_gone_takes_only_its_place() -> None:
    going = pod(container())
    going["metadata"] |= {"deletionTimestamp": "1970-01-01T00:01:40Z", "deletionGracePeriodSeconds": 30}
    assert "pods" in usage.usage(usage.PODS, going, 130.0)
    assert usage.usage(usage.PODS, going, 130.5) == {"count/pods": "1"}


def test_a_pod_takes_what_it_needs_at_its_busiest() -> None:
    spec = pod(
        container("main", requests={"cpu": "500m"}, limits={"cpu": "1"}),
        initContainers=[
            container("sidecar", always=True, requests={"cpu": "250m"}),
            container("setup", requests={"cpu": "1", "memory": "1Gi"}),
        ],
        overhead={"cpu": "10m", "memory": "8Mi"},
    )["spec"]
    assert pods.requested(spec) == {"cpu": "1260m", "memory": "1032Mi"}
    assert pods.limited(spec) == {"cpu": "1010m"}
    assert pods.requested(spec | {"resources": {"requests": {"cpu": "2"}}})["cpu"] == "2010m"


def test_containers_must_say_what_a_quota_counts() -> None:
    spoken = container("a", requests={"cpu": "1", "memory": "1"}, limits={"memory": "1"})
    wanted = ["limits.cpu", "memory", "pods", "requests.ephemeral-storage"]
    assert pods.lacks(pod(spoken, container("c"), initContainers=[container("b")]), wanted) == (
        "must specify limits.cpu for: a,b,c; must specify memory for: b,c"
    )
    assert pods.lacks(pod(container("c"), resources={"limits": {"cpu": "1"}}), ["limits.cpu"]) == ""


def needs(scope: str, operator: str = "Exists", *values: str) -> JSON:
    return {"scopeSelector": {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]}}


FAR: JSON = {"podAffinityTerm": {"namespaceSelector": {}}}
NEAR = {"topologyKey": "zone"}


@pytest.mark.parametrize(
    ("spec", "obj", "expected"),
    [
        ({}, pod(), True),
        ({"scopes": ["Terminating"]}, pod(activeDeadlineSeconds=0), True),
        ({"scopes": ["Terminating"]}, pod(), False),
        ({"scopes": ["NotTerminating"]}, pod(), True),
        ({"scopes": ["BestEffort"]}, pod(status={"qosClass": "BestEffort"}), True),
        ({"scopes": ["NotBestEffort"]}, pod(status={"qosClass": "BestEffort"}), False),
        ({"scopes": ["NotBestEffort", "Terminating"]}, pod(status={"qosClass": "Burstable"}), False),
        (needs("PriorityClass", "In", "high"), pod(priorityClassName="high"), True),
        (needs("PriorityClass", "In", "high"), pod(), False),
        (needs("PriorityClass", "NotIn", "high"), pod(), True),
        (needs("PriorityClass"), pod(), False),
        (needs("PriorityClass", "DoesNotExist"), pod(), True),
        (
            needs("CrossNamespacePodAffinity"),
            pod(affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [FAR]}}),
            True,
        ),
        (
            needs("CrossNamespacePodAffinity"),
            pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [NEAR]}}),
            False,
        ),
    ],
)
def test_scopes_of_pods(spec: JSON, obj: JSON, expected: bool) -> None:
    assert scopes.includes_pod(spec, obj) is expected
    assert usage.includes(usage.SERVICES, spec, {}) is not bool(spec)


AMOUNTS = st.dictionaries(
    st.sampled_from(["cpu", "memory", "example.com/gpu"]), st.sampled_from(["0", "1", "250m", "64Mi", "1500M", "3e3"])
)


@st.composite
def some_pods(draw: st.DrawFn) -> JSON:
    told = [container(f"c{n}", requests=draw(AMOUNTS), limits=draw(AMOUNTS)) for n in range(draw(st.integers(1, 3)))]
    return pod(*told, status={"phase": draw(st.sampled_from(["Running", "Succeeded"]))})


@given(st.lists(some_pods(), max_size=6))
def test_what_is_used_is_the_sum_of_what_each_takes(found: list[JSON]) -> None:
    hard = dict.fromkeys(("pods", "count/pods", "cpu", "limits.memory", "requests.example.com/gpu"), "1")
    used = usage.total(usage.PODS, {"hard": hard}, found)
    for name in hard:
        assert quantity(used[name]) == sum(quantity(usage.usage(usage.PODS, each).get(name, "0")) for each in found)


@given(AMOUNTS, AMOUNTS)
def test_what_is_taken_can_be_given_back(first: JSON, second: JSON) -> None:
    back = subtracted(added(first, second), second)
    assert equal(back, first | dict.fromkeys(second.keys() - first.keys(), "0"))
