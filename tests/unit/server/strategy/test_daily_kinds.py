"""Defaults and rules of the kinds around workloads: sets, jobs, policies, roles, storage, quotas, classes."""

from __future__ import annotations

import copy
import functools
from typing import Any

import msgspec
import pytest
from tests.service_server import MemoryStore
from tests.unit.server.strategy.strategy_context import context, create, refusal, stored

from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource, resource
from twinstack.server.strategy.defaultclasses import default_class
from twinstack.server.strategy.priorities import class_of
from twinstack.server.strategy.registry import strategy_for
from twinstack.store import Put

JSON = dict[str, Any]

RC, ENDPOINTS = resource("", "replicationcontrollers"), resource("", "endpoints")
CLAIMS, VOLUMES = resource("", "persistentvolumeclaims"), resource("", "persistentvolumes")
QUOTAS, LIMITS = resource("", "resourcequotas"), resource("", "limitranges")
STATEFUL_SETS, DAEMON_SETS = resource("apps", "statefulsets"), resource("apps", "daemonsets")
REVISIONS = resource("apps", "controllerrevisions")
JOBS, CRON_JOBS = resource("batch", "jobs"), resource("batch", "cronjobs")
AUTOSCALERS = resource("autoscaling", "horizontalpodautoscalers")
CSRS = resource("certificates.k8s.io", "certificatesigningrequests")
INGRESSES, INGRESS_CLASSES = (
    resource("networking.k8s.io", "ingresses"),
    resource("networking.k8s.io", "ingressclasses"),
)
PRIORITIES, RUNTIMES = resource("scheduling.k8s.io", "priorityclasses"), resource("node.k8s.io", "runtimeclasses")
STORAGE_CLASSES = resource("storage.k8s.io", "storageclasses")
PODS = resource("", "pods")


def template(labels: JSON | None = None, **spec: Any) -> JSON:
    return {
        "metadata": {"labels": labels or {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]} | spec,
    }


def workload(**spec: Any) -> JSON:
    return {"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template()} | spec}


def store(*objects: tuple[Resource, JSON]) -> MemoryStore:
    found = MemoryStore()
    for row, obj in objects:
        meta = {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"} | obj.get("metadata", {})
        encoded = msgspec.json.encode(obj | {"metadata": meta})
        found.commit([Put(row.key("", meta["name"]), functools.partial(_constant, encoded), 0)])
    return found


def _constant(value: bytes, _revision: int) -> bytes:
    return value


# Sets


def test_defaults_of_stateful_sets() -> None:
    claim = {"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    spec = create(STATEFUL_SETS, workload(volumeClaimTemplates=[claim])).object["spec"]
    assert (spec["podManagementPolicy"], spec["replicas"], spec["revisionHistoryLimit"]) == ("OrderedReady", 1, 10)
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["volumeClaimTemplates"][0]["status"] == {"phase": "Pending"}
    assert spec["volumeClaimTemplates"][0]["spec"]["volumeMode"] == "Filesystem"


@pytest.mark.parametrize(
    ("spec", "listed"),
    [
        ({"podManagementPolicy": "Any"}, "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or"),
        ({"replicas": -1}, "spec.replicas: Invalid value: -1"),
        ({"selector": {}}, "spec.selector: Invalid value: {}: empty selector is invalid for statefulset"),
        ({"template": template({"app": "b"})}, "spec.template.metadata.labels: Invalid value"),
        ({"template": template(restartPolicy="Never")}, "spec.template.spec.restartPolicy: Unsupported value"),
        (
            {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Keep"}},
            "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value",
        ),
    ],
)
def test_rules_of_stateful_sets(spec: JSON, listed: str) -> None:
    assert any(message.startswith(listed) for message in refusal(STATEFUL_SETS, workload(**spec)))


def test_little_of_a_stateful_set_may_change() -> None:
    old = create(STATEFUL_SETS, workload(serviceName="a")).object
    assert refusal(STATEFUL_SETS, workload(serviceName="a", replicas=5, minReadySeconds=3), old) == []
    forbidden = refusal(STATEFUL_SETS, workload(serviceName="b"), old)
    assert len(forbidden) == 1
    assert forbidden[0].startswith("spec: Forbidden: updates to statefulset spec for fields other than 'replicas'")


def test_a_daemon_set_counts_changes_of_its_template() -> None:
    annotation = "deprecated.daemonset.template.generation"
    old = create(DAEMON_SETS, workload()).object
    assert old["metadata"]["annotations"] == {annotation: "1"}
    assert old["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    strategy = strategy_for(DAEMON_SETS)
    new = stored(DAEMON_SETS, workload(template=template(hostNetwork=True)))
    assert strategy.update(context(DAEMON_SETS), new, old).object["metadata"]["annotations"] == {annotation: "2"}
    same = stored(DAEMON_SETS, workload(minReadySeconds=1))
    assert strategy.update(context(DAEMON_SETS), same, old).object["metadata"]["annotations"] == {annotation: "1"}


@pytest.mark.parametrize(
    ("rolling", "listed"),
    [
        ({"maxUnavailable": 0}, "maxUnavailable: Required value: cannot be 0 when maxSurge is 0"),
        ({"maxSurge": 1}, "maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"),
        ({"maxUnavailable": "101%"}, 'maxUnavailable: Invalid value: "101%": must not be greater than 100%'),
        ({"maxUnavailable": "x"}, 'maxUnavailable: Invalid value: "x": a valid percent string'),
    ],
)
def test_rolling_updates_of_daemon_sets(rolling: JSON, listed: str) -> None:
    shown = refusal(DAEMON_SETS, workload(updateStrategy={"rollingUpdate": rolling}))
    assert any(message.startswith(f"spec.updateStrategy.rollingUpdate.{listed}") for message in shown)


def test_a_replication_controller_takes_the_labels_of_its_template() -> None:
    made = create(RC, {"spec": {"template": template()}}).object
    assert made["spec"]["selector"] == {"app": "a"} == made["metadata"]["labels"]
    assert made["spec"]["replicas"] == 1
    assert refusal(RC, {"spec": {"selector": {"app": "b"}, "template": template()}}) == [
        'spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template `labels`'
    ]
    assert refusal(RC, {"spec": {}}) == ["spec.selector: Required value", "spec.template: Required value"]


def test_revisions_keep_their_data() -> None:
    old = create(REVISIONS, {"data": {"a": 1}, "revision": 1}).object
    assert refusal(REVISIONS, {"data": {"a": 2}, "revision": 2}, old) == [
        'data: Invalid value: {"a":2}: field is immutable'
    ]
    assert refusal(REVISIONS, {"revision": 1}) == ["data: Required value: data is mandatory"]


# Jobs


def job(**spec: Any) -> JSON:
    return {"spec": {"template": {"spec": template(restartPolicy="Never")["spec"]}} | spec}


def test_a_job_selects_by_its_uid() -> None:
    spec = create(JOBS, job()).object["spec"]
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    assert spec["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "a",
        "controller-uid": "u", "job-name": "a",
    }  # fmt: skip
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (1, 1, 6)
    assert (spec["completionMode"], spec["suspend"], spec["podReplacementPolicy"]) == (
        "NonIndexed", False, "TerminatingOrFailed",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "listed"),
    [
        ({"template": template()}, 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure"'),
        ({"parallelism": -1}, "spec.parallelism: Invalid value: -1"),
        ({"completionMode": "Indexed", "parallelism": 1}, "spec.completions: Required value: when completion mode is"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "spec.selector: Invalid value: "),
        ({"managedBy": "me"}, 'spec.managedBy: Invalid value: "me": must be a domain-prefixed path'),
    ],
)
def test_rules_of_jobs(spec: JSON, listed: str) -> None:
    assert any(message.startswith(listed) for message in refusal(JOBS, job(**spec)))


INDEXED: JSON = {"completionMode": "Indexed", "completions": 3}
EXIT: JSON = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 3]}}
_HEAD = "spec.podFailurePolicy.rules[0]"


def failing(*changes: JSON, **spec: Any) -> JSON:
    """The spec of a Job with one rule about failed Pods."""
    rule = copy.deepcopy(EXIT)
    for change in changes:
        rule |= change
    return {"podFailurePolicy": {"rules": [rule]}} | spec


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"),
        (
            INDEXED | {"maxFailedIndexes": 1},
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        ),
        (
            INDEXED | {"backoffLimitPerIndex": 1, "maxFailedIndexes": 4},
            "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
        ),
        (
            INDEXED | {"completions": 100001, "backoffLimitPerIndex": 1},
            "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
        ),
        (
            INDEXED | {"parallelism": 100001},
            (
                "spec.parallelism: Invalid value: 100001: "
                "must be less than or equal to 100000 when completion mode is Indexed"
            ),
        ),
        (
            failing({"action": "FailIndex"}),
            f'{_HEAD}.action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set',
        ),
        (
            failing({"onExitCodes": {"operator": "In", "values": [0]}}),
            f"{_HEAD}.onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
        ),
        (
            failing({"onExitCodes": {"operator": "In", "values": [3, 1]}}),
            f"{_HEAD}.onExitCodes.values: Invalid value: [3,1]: must be ordered",
        ),
        (
            failing({"onExitCodes": {"operator": "In", "values": [3, 3]}}),
            f"{_HEAD}.onExitCodes.values[1]: Duplicate value: 3",
        ),
        (
            failing({"onExitCodes": {"operator": "In", "values": [3], "containerName": "x"}}),
            (
                f'{_HEAD}.onExitCodes.containerName: Invalid value: "x": '
                "must be one of the container or initContainer names in the pod template"
            ),
        ),
        (
            failing({"onPodConditions": [{"type": "T", "status": "True"}]}),
            f"{_HEAD}: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported",
        ),
        (
            failing(template=template(restartPolicy="OnFailure")),
            (
                'spec.template.spec.restartPolicy: Invalid value: "OnFailure": '
                'only "Never" is supported when podFailurePolicy is specified'
            ),
        ),
        (
            failing(podReplacementPolicy="TerminatingOrFailed"),
            'spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"',
        ),
        (
            {"successPolicy": {"rules": [{"succeededCount": 1}]}},
            'spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: requires indexed completion mode',
        ),
        (
            INDEXED | {"successPolicy": {"rules": [{}]}},
            (
                "spec.successPolicy.rules[0]: Required value: "
                "at least one of succeededCount or succeededIndexes must be specified"
            ),
        ),
        (
            INDEXED | {"successPolicy": {"rules": [{"succeededIndexes": "0-3"}]}},
            (
                'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-3": '
                'error parsing succeededIndexes: too large index: "3"'
            ),
        ),
        (
            INDEXED | {"successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 3}]}},
            (
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 "
                "(the number of indexes in the specified succeededIndexes field)"
            ),
        ),
    ],
)
def test_policies_of_jobs(spec: JSON, expected: str) -> None:
    assert refusal(JOBS, job(**spec)) == [expected]


def test_policies_of_jobs_that_are_well() -> None:
    assert refusal(JOBS, job(**failing())) == []
    well = {"backoffLimitPerIndex": 1, "maxFailedIndexes": 3, "successPolicy": {"rules": [{"succeededIndexes": "0,2"}]}}
    assert refusal(JOBS, job(**failing({"action": "FailIndex"}, **INDEXED, **well))) == []


def test_what_of_a_job_may_change() -> None:
    old = create(JOBS, job(suspend=True)).object
    placed = copy.deepcopy(old)
    placed["spec"]["template"]["spec"]["nodeSelector"] = {"a": "b"}
    assert refusal(JOBS, placed, old) == []
    placed["spec"]["template"]["spec"]["hostNetwork"] = True
    assert [message.partition(":")[0] for message in refusal(JOBS, placed, old)] == ["spec.template"]
    more = copy.deepcopy(old)
    more["spec"]["completions"] = 2
    assert refusal(JOBS, more, old) == ["spec.completions: Invalid value: 2: field is immutable"]


def cron_job(name: str = "a", **spec: Any) -> JSON:
    body = {"schedule": "* * * * *", "jobTemplate": {"spec": job()["spec"]}} | spec
    return {"metadata": {"name": name}, "spec": body}


def test_cron_jobs() -> None:
    spec = create(CRON_JOBS, cron_job()).object["spec"]
    assert (spec["concurrencyPolicy"], spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (
        "Allow", 3, 1,
    )  # fmt: skip
    assert "completions" not in spec["jobTemplate"]["spec"]
    assert refusal(CRON_JOBS, cron_job(schedule="* *")) == [
        'spec.schedule: Invalid value: "* *": expected exactly 5 fields, found 2: [* *]'
    ]
    assert refusal(CRON_JOBS, cron_job(schedule="TZ=UTC * * * * *"))[0].endswith("use timeZone field instead")
    assert refusal(CRON_JOBS, cron_job(timeZone="Nowhere/City")) == [
        'spec.timeZone: Invalid value: "Nowhere/City": unknown time zone Nowhere/City'
    ]
    assert refusal(CRON_JOBS, cron_job(timeZone="Europe/Berlin")) == []
    assert refusal(CRON_JOBS, cron_job("a" * 53))[0].endswith("must be no more than 52 characters")


# Endpoints and Ingresses

FIRST_IP = "subsets[0].addresses[0].ip"


@pytest.mark.parametrize(
    ("subset", "listed"),
    [
        ({}, ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]),
        (
            {"addresses": [{"ip": "::1"}]},
            [f'{FIRST_IP}: Invalid value: "::1": may not be in the loopback range (127.0.0.0/8, ::1/128)'],
        ),
        (
            {"notReadyAddresses": [{"ip": "2001:db8::1"}], "ports": [{"port": 1}, {"port": 2, "name": "b"}]},
            ["subsets[0].ports[0].name: Required value"],
        ),
        ({"addresses": [{"ip": "2001:db8::1"}, {"ip": "192.0.2.1"}], "ports": [{"port": 1}]}, []),
    ],
)
def test_endpoints(subset: JSON, listed: list[str]) -> None:
    assert refusal(ENDPOINTS, {"subsets": [subset]}) == listed


def test_the_youngest_default_class_is_taken() -> None:
    mark = {"annotations": {"d": "true"}}
    classes: list[JSON] = [
        {"metadata": {"name": "b", "creationTimestamp": "2026-01-02T00:00:00Z"} | mark},
        {"metadata": {"name": "a", "creationTimestamp": "2026-01-02T00:00:00Z"} | mark},
        {"metadata": {"name": "old", "creationTimestamp": "2026-01-01T00:00:00Z"} | mark},
        {"metadata": {"name": "new", "creationTimestamp": "2026-01-03T00:00:00Z"}},
    ]
    assert default_class(classes, "d") == "a"
    assert default_class([], "d") == ""


def test_an_ingress_gets_the_default_class() -> None:
    marked = {"metadata": {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}}
    ctx = context(INGRESSES)
    ctx = type(ctx)(
        **{name: getattr(ctx, name) for name in ctx.__struct_fields__} | {"reader": store((INGRESS_CLASSES, marked))}
    )
    body = {"spec": {"defaultBackend": {"service": {"name": "w", "port": {"number": 80}}}}}
    strategy = strategy_for(INGRESSES)
    assert strategy.create(ctx, stored(INGRESSES, body)).object["spec"]["ingressClassName"] == "a"
    old = {"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}}
    made = strategy.create(ctx, stored(INGRESSES, body | old))
    assert "ingressClassName" not in made.object["spec"]
    assert made.warnings == [
        "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
    ]


@pytest.mark.parametrize(
    ("spec", "listed"),
    [
        ({"controller": "x"}, 'spec.controller: Invalid value: "x": must be a domain-prefixed path'),
        ({}, "spec.controller: Required value"),
        (
            {"controller": "a.b/c", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}},
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
        ),
    ],
)
def test_ingress_classes(spec: JSON, listed: str) -> None:
    assert refusal(INGRESS_CLASSES, {"spec": spec})[0].startswith(listed)


# Storage


def claim(size: str = "1Gi", **spec: Any) -> JSON:
    return {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}} | spec}


def test_claims() -> None:
    made = create(CLAIMS, claim()).object
    assert (made["spec"]["volumeMode"], made["status"]) == ("Filesystem", {"phase": "Pending"})
    assert refusal(CLAIMS, {"spec": {}}) == [
        "spec.accessModes: Required value: at least 1 access mode is required",
        "spec.resources[storage]: Required value",
    ]
    assert refusal(CLAIMS, claim("0")) == ['spec.resources[storage]: Invalid value: "0": must be greater than zero']
    assert refusal(CLAIMS, claim(volumeName="v"), made) == []
    assert refusal(CLAIMS, claim("2Gi"), made)[0].startswith("spec: Forbidden: spec is immutable after creation")
    bound = made | {"status": {"phase": "Bound"}}
    assert refusal(CLAIMS, claim("2Gi"), bound) == []
    assert refusal(CLAIMS, claim("1Mi"), bound) == [
        "spec.resources.requests.storage: Forbidden: field can not be less than previous value"
    ]


def test_volumes() -> None:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/a"}}
    made = create(VOLUMES, {"spec": spec}).object
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert made["status"] == {"phase": "Pending", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"}
    assert refusal(VOLUMES, {"spec": spec | {"nfs": {"server": "s", "path": "/"}}}) == [
        "spec.nfs: Forbidden: may not specify more than 1 volume type"
    ]
    assert refusal(VOLUMES, {"spec": spec | {"hostPath": {"path": "/b"}}}, made) == [
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"
    ]


def test_storage_classes() -> None:
    made = create(STORAGE_CLASSES, {"provisioner": "example.com/p"}).object
    assert (made["reclaimPolicy"], made["volumeBindingMode"]) == ("Delete", "Immediate")
    assert refusal(STORAGE_CLASSES, {"provisioner": "example.com/q"}, made) == [
        "provisioner: Forbidden: updates to provisioner are forbidden."
    ]
    assert refusal(STORAGE_CLASSES, {}) == ["provisioner: Required value"]


# How much, and how urgent


def test_limit_ranges_fill_up() -> None:
    item = {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m", "memory": "1Mi"}}
    shown = create(LIMITS, {"spec": {"limits": [item]}}).object["spec"]["limits"][0]
    assert shown["default"] == {"cpu": "2"}
    assert shown["defaultRequest"] == {"cpu": "2", "memory": "1Mi"}
    wrong = {"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}
    assert refusal(LIMITS, {"spec": {"limits": [wrong]}}) == [
        'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1'
    ]


def test_quotas() -> None:
    assert refusal(QUOTAS, {"spec": {"hard": {"pods": "1", "requests.cpu": "1", "example.com/gpu": "1"}}}) == []
    assert refusal(QUOTAS, {"spec": {"hard": {"pods": "-1"}}}) == [
        'spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0'
    ]
    assert "must be a standard resource for quota" in refusal(QUOTAS, {"spec": {"hard": {"pots": "1"}}})[1]


def test_priority_classes() -> None:
    made = create(PRIORITIES, {"value": 5}).object
    assert made["preemptionPolicy"] == "PreemptLowerPriority"
    assert refusal(PRIORITIES, {"value": 6}, made) == ["value: Forbidden: may not be changed in an update."]
    assert refusal(PRIORITIES, {"value": 2_000_000_000})[0].startswith("value: Forbidden: maximum allowed value")
    assert refusal(PRIORITIES, {"metadata": {"name": "system-mine"}, "value": 1})[0].startswith(
        "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved"
    )


def test_the_class_of_a_pod() -> None:
    made = store((PRIORITIES, {"metadata": {"name": "usual"}, "value": 7, "globalDefault": True}))
    assert class_of(made, "") == made.get(PRIORITIES, "", "usual")
    assert class_of(MemoryStore(), "") == {}
    assert class_of(MemoryStore(), "none") is None
    critical = class_of(MemoryStore(), "system-node-critical")
    assert critical is not None
    assert critical["value"] == 2_000_001_000


def test_a_runtime_class_adds_to_its_pods() -> None:
    runtime = {
        "metadata": {"name": "r"}, "handler": "h", "overhead": {"podFixed": {"cpu": "1m"}},
        "scheduling": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
    }  # fmt: skip
    ctx = context(PODS, disabled_plugins=frozenset({"ServiceAccount"}))
    ctx = type(ctx)(
        **{name: getattr(ctx, name) for name in ctx.__struct_fields__} | {"reader": store((RUNTIMES, runtime))}
    )
    pod = stored(PODS, {"spec": {"containers": [{"name": "c", "image": "x"}], "runtimeClassName": "r"}})
    spec = strategy_for(PODS).create(ctx, pod).object["spec"]
    assert (spec["overhead"], spec["nodeSelector"]) == ({"cpu": "1m"}, {"disk": "ssd"})
    assert {"key": "k", "operator": "Exists"} in spec["tolerations"]
    other = {"containers": [{"name": "c", "image": "x"}], "runtimeClassName": "r", "nodeSelector": {"disk": "hdd"}}
    with pytest.raises(StatusError, match=r"conflict: runtimeClass\.scheduling\.nodeSelector\[disk\]"):
        strategy_for(PODS).create(ctx, stored(PODS, {"spec": other}))


# Autoscalers and certificates


def test_autoscalers() -> None:
    body = {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3, "behavior": {}}}
    spec = create(AUTOSCALERS, body).object["spec"]
    assert spec["minReplicas"] == 1
    assert spec["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 80}
    assert spec["behavior"]["scaleDown"]["policies"] == [{"type": "Percent", "value": 100, "periodSeconds": 15}]
    assert refusal(AUTOSCALERS, {"spec": {"maxReplicas": 0}}) == [
        "spec.maxReplicas: Invalid value: 0: must be greater than 0",
        "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        "spec.scaleTargetRef.kind: Required value",
        "spec.scaleTargetRef.name: Required value",
    ]
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}
    assert refusal(AUTOSCALERS, {"spec": body["spec"] | {"metrics": [metric]}}) == [
        "spec.metrics[0].resource.target.averageUtilization: Required value: must set a target for the metric type"
    ]


def test_only_approval_decides_on_a_certificate() -> None:
    strategy = strategy_for(CSRS)
    ctx = context(CSRS)
    old = {
        "metadata": {"name": "a", "uid": "u", "resourceVersion": "1"}, "status": {},
        "spec": {"request": "x", "signerName": "a.b/c", "usages": ["client auth"], "username": "jane"},
    }  # fmt: skip
    condition = {"type": "Approved", "status": "True", "reason": "R", "lastTransitionTime": None}
    wanted = old | {"status": {"conditions": [condition], "certificate": "eA=="}, "spec": {"usages": []}}
    decided = strategy.update_subresource(ctx, "approval", copy.deepcopy(wanted), old).object
    assert decided["spec"] == old["spec"]
    assert decided["status"]["conditions"][0]["lastTransitionTime"] == ctx.now
    assert "certificate" not in decided["status"]
    with pytest.raises(StatusError, match="may not be added or removed via the status endpoint"):
        strategy.update_subresource(ctx, "status", copy.deepcopy(wanted), old)
