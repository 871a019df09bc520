"""Pods: defaults, admission, what may change, status."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.server.strategy.strategy_context import NOW, context, create, refusal, stored, update

from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.api.schema import get_type
from twinstack.server.strategy import capabilities, pod_internals
from twinstack.server.strategy.pod_defaults import _pull_policy, default_pod_spec
from twinstack.server.strategy.pod_qos import qos_class
from twinstack.server.strategy.registry import strategy_for

JSON = dict[str, Any]

PODS = resource("", "pods")
CONTAINER: JSON = {"name": "c", "image": "registry.example/app:1"}


def pod(**spec: Any) -> JSON:
    return {"spec": {"containers": [CONTAINER]} | spec}


def container(**fields: Any) -> JSON:
    return pod(containers=[CONTAINER | fields])


def moded(**fields: Any) -> JSON:
    """A pod with a volume mounted in one of the modes that there are."""
    mounts = [{"name": "v", "mountPath": "/x", **fields}]
    return pod(containers=[CONTAINER | {"volumeMounts": mounts}], volumes=[{"name": "v", "emptyDir": {}}])


def made(**spec: Any) -> JSON:
    return create(PODS, pod(**spec)).object


def test_a_small_pod_becomes_a_whole_one() -> None:
    obj = made(containers=[CONTAINER | {"ports": [{"containerPort": 80}]}])
    assert obj["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert obj["spec"] == {
        "containers": [
            CONTAINER
            | {
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {},
                "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "serviceAccount": "default",
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": 30,
        "tolerations": [
            {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for name in ("not-ready", "unreachable")
        ],
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("app", "Always"), ("app:latest", "Always"), ("host:5000/app", "Always"), ("app:1", "IfNotPresent"),
        ("host:5000/app:1", "IfNotPresent"), ("app@sha256:abc", "IfNotPresent"), ("app:latest@sha256:abc", "Always"),
        ("", "IfNotPresent"),
    ],
)  # fmt: skip
def test_pull_policy_by_tag(image: str, policy: str) -> None:
    assert _pull_policy(image) == policy


def test_defaults_of_probes_volumes_and_host_ports() -> None:
    spec = made(
        hostNetwork=True,
        containers=[
            CONTAINER
            | {
                "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}],
                "resources": {"limits": {"cpu": "1"}},
            }
        ],
        volumes=[{"name": "v"}, {"name": "w", "configMap": {"name": "c"}}],
    )["spec"]
    first = spec["containers"][0]
    assert first["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert first["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
    }  # fmt: skip
    assert first["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert first["resources"]["requests"] == {"cpu": "1"}
    assert spec["volumes"] == [
        {"name": "v", "emptyDir": {}},
        {"name": "w", "configMap": {"name": "c", "defaultMode": 420}},
    ]


specs = st.fixed_dictionaries(
    {"containers": st.lists(st.fixed_dictionaries({"name": st.just("c")}, optional={
        "image": st.sampled_from(["a", "a:1"]), "livenessProbe": st.just({"httpGet": {"port": 1}}),
        "ports": st.just([{"containerPort": 1}]),
    }), max_size=2)},
    optional={
        "volumes": st.just([{"name": "v"}]), "hostNetwork": st.booleans(), "serviceAccount": st.just("s"),
        "dnsPolicy": st.sampled_from(["None", "Default"]), "restartPolicy": st.just("Never"),
    },
)  # fmt: skip


@given(specs)
def test_defaults_add_and_never_change(spec: JSON) -> None:
    before = copy.deepcopy(spec)
    default_pod_spec(spec)
    once = copy.deepcopy(spec)
    default_pod_spec(spec)
    assert spec == once
    assert {key: spec[key] for key in before if key not in ("containers", "volumes")} == {
        key: value for key, value in before.items() if key not in ("containers", "volumes")
    }


def test_service_account_plugin_can_be_off() -> None:
    spec = create(PODS, pod(), disabled_plugins=frozenset({"ServiceAccount"})).object["spec"]
    assert "serviceAccountName" not in spec
    assert made(serviceAccount="old")["spec"]["serviceAccountName"] == "old"


COMPUTED = "must not be provided in pod spec; priority admission controller computed"


@pytest.mark.parametrize(
    ("spec", "detail"),
    [
        ({"priorityClassName": "nosuch"}, "no PriorityClass with name nosuch was found"),
        ({"priority": 5}, f"the integer value of priority (5) {COMPUTED} 0 from the given PriorityClass name"),
        ({"runtimeClassName": "x"}, 'pod rejected: RuntimeClass "x" not found'),
    ],
)
def test_admission(spec: JSON, detail: str) -> None:
    with pytest.raises(StatusError) as caught:
        create(PODS, pod(**spec))
    assert (caught.value.code, caught.value.message) == (403, f'pods "a" is forbidden: {detail}')
    assert made(priorityClassName="system-node-critical")["spec"]["priority"] == 2_000_001_000


def test_own_tolerations_are_kept() -> None:
    everything = [{"operator": "Exists"}]
    assert made(tolerations=everything)["spec"]["tolerations"] == everything
    keyed = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]
    assert len(made(tolerations=keyed)["spec"]["tolerations"]) == 2


def test_gates_hold_the_scheduler_off() -> None:
    status = made(schedulingGates=[{"name": "example.com/g"}])["status"]
    (condition,) = status["conditions"]
    assert (condition["reason"], condition["status"], condition["lastTransitionTime"]) == (
        "SchedulingGated",
        "False",
        NOW,
    )


@pytest.mark.parametrize(
    ("obj", "messages"),
    [
        (pod(containers=[]), ["spec.containers: Required value"]),
        (container(name=""), ["spec.containers[0].name: Required value"]),
        (container(image=" x"),
         ['spec.containers[0].image: Invalid value: " x": must not have leading or trailing whitespace']),
        (pod(containers=[CONTAINER, CONTAINER]), ['spec.containers[1].name: Duplicate value: "c"']),
        (pod(initContainers=[CONTAINER]), ['spec.initContainers[0].name: Duplicate value: "c"']),
        (container(ports=[{"containerPort": 0}]), ["spec.containers[0].ports[0].containerPort: Required value"]),
        (
            container(ports=[{"containerPort": 1, "hostPort": 1}, {"containerPort": 2, "hostPort": 1}]),
            ['spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//1"'],
        ),
        (container(livenessProbe={}),
         ["spec.containers[0].livenessProbe: Required value: must specify a handler type"]),
        (
            container(volumeMounts=[{"name": "n", "mountPath": "/x"}]),
            ['spec.containers[0].volumeMounts[0].name: Not found: "n"'],
        ),
        (
            moded(mountPropagation="Bidirectional"),
            [
                ("spec.containers[0].volumeMounts.mountPropagation: Forbidden: "
                "Bidirectional mount propagation is available only to privileged containers")
            ],
        ),
        (
            moded(mountPropagation="HostToContainer", recursiveReadOnly="Enabled"),
            [
                ("spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: "
                "may only be specified when readOnly is true"),
                ("spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: "
                "may only be specified when mountPropagation is None or not specified"),
            ],
        ),
        (
            container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
        ),
        (pod(dnsPolicy="None"), ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
        (pod(hostAliases=[{"ip": "010.0.0.1"}]),
         ['spec.hostAliases[0].ip: Invalid value: "010.0.0.1": must not have leading 0s']),
        (pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
         ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]),
    ],
)  # fmt: skip
def test_rules(obj: JSON, messages: list[str]) -> None:
    assert refusal(PODS, obj) == messages


def test_what_an_update_may_change() -> None:
    old = made(activeDeadlineSeconds=100)
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["image"] = "registry.example/app:2"
    new["spec"]["activeDeadlineSeconds"] = 50
    new["spec"]["tolerations"].append({"key": "k", "operator": "Exists"})
    assert update(PODS, old, new).object["spec"]["containers"][0]["image"] == "registry.example/app:2"


@pytest.mark.parametrize(
    ("field", "value", "start"),
    [
        ("nodeSelector", {"a": "b"}, "spec: Forbidden: pod updates may not change fields other than"),
        ("terminationGracePeriodSeconds", 1, "spec: Forbidden: pod updates may not change fields other than"),
        ("activeDeadlineSeconds", 200, "spec.activeDeadlineSeconds: Invalid value: 200: must be less than or equal to"),
        ("tolerations", [{"key": "other", "operator": "Exists"}], "spec.tolerations: Forbidden: existing toleration"),
        ("schedulingGates", [{"name": "g"}], "spec.schedulingGates[0].name: Forbidden: only deletion is allowed"),
        ("containers", [], "spec.containers: Required value"),
    ],
)
def test_what_an_update_may_not_change(field: str, value: Any, start: str) -> None:
    old = made(activeDeadlineSeconds=100, tolerations=[{"key": "k", "operator": "Exists"}])
    new = copy.deepcopy(old)
    new["spec"][field] = value
    assert refusal(PODS, new, old)[0].startswith(start)


def test_a_refused_change_is_shown_as_a_difference_of_the_internal_form() -> None:
    old = made()
    new = copy.deepcopy(old)
    new["spec"] |= {"hostname": "<h>", "hostNetwork": True}
    difference = refusal(PODS, new, old)[-1].partition("negative)\n")[2].splitlines()
    assert difference[0].startswith("@@ -")
    assert [line.replace(" ", "") for line in difference if line[:1] in "-+"] == [
        '-"HostNetwork":false,',
        '+"HostNetwork":true,',
        '-"Hostname":"",',
        '+"Hostname":"\\u003ch\\u003e",',
    ]


@pytest.mark.parametrize("name", ["PodSpec", "Container", "EphemeralContainer"])
def test_the_internal_form_knows_every_field(name: str) -> None:
    known = {field.json for field in pod_internals._table()[name]}
    elsewhere = {"hostnetwork", "hostpid", "hostipc", "shareprocessnamespace", "hostusers", "serviceaccount"}
    assert {field.lower() for field in get_type(f"core.v1.{name}").fields} - elsewhere == known


def status_of(old: JSON, **status: Any) -> JSON:
    changed = update(PODS, old, old | {"status": old["status"] | status}, status=True).object["status"]
    return {key: changed.get(key) for key in ("podIP", "podIPs")}


def test_pod_ip_and_pod_ips_follow_each_other() -> None:
    old = made()
    both = [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]
    assert status_of(old, podIP="10.0.0.1") == {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}
    assert status_of(old, podIPs=both) == {"podIP": "10.0.0.1", "podIPs": both}
    assert status_of(old, podIP="10.0.0.9", podIPs=both) == {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}


ONE_A_FAMILY = "may specify no more than one IP for each IP family"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]},
         f'status.podIPs: Invalid value: [{{"IP":"10.0.0.1"}},{{"IP":"10.0.0.2"}}]: {ONE_A_FAMILY}'),
        ({"podIP": "bad"},
         'status.podIPs[0]: Invalid value: "bad": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
        ({"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]},
         'status.hostIPs[0].ip: Invalid value: "10.0.0.2": must be equal to `hostIP`'),
    ],
)  # fmt: skip
def test_rules_of_status(status: JSON, message: str) -> None:
    old = made()
    assert refusal(PODS, old | {"status": old["status"] | status}, old, status=True) == [message]


def test_a_status_write_keeps_the_spec_and_a_spec_write_the_status() -> None:
    old = made()
    new = stored(PODS, pod(nodeName="elsewhere")) | {"status": {"phase": "Running", "qosClass": "BestEffort"}}
    changed = update(PODS, old, new, status=True).object
    assert changed["spec"] == old["spec"]
    assert changed["status"]["phase"] == "Running"
    assert update(PODS, changed, old | {"status": {"phase": "Failed"}}).object["status"]["phase"] == "Running"


amounts = st.sampled_from(["0", "100m", "1"])
resources = st.fixed_dictionaries(
    {},
    optional={
        part: st.fixed_dictionaries({}, optional={"cpu": amounts, "memory": amounts}) for part in ("limits", "requests")
    },
)


@given(st.lists(resources, min_size=1, max_size=3))
def test_quality_of_service(wanted: list[JSON]) -> None:
    found = qos_class({"containers": [{"resources": each} for each in wanted]})
    positive = [amount for each in wanted for part in each.values() for amount in part.values() if amount != "0"]
    assert (found == "BestEffort") is (not positive)
    if found == "Guaranteed":
        assert all(each["limits"].get(name, "0") != "0" for each in wanted for name in ("cpu", "memory"))
    guaranteed = [{"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}}] * len(wanted)
    assert qos_class({"containers": [{"resources": each} for each in guaranteed]}) == "Guaranteed"


def test_warnings() -> None:
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    assert create(PODS, container(env=twice)).warnings == [
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'
    ]
    (text,) = create(PODS, container(resources={"requests": {"memory": "1.5"}})).warnings
    assert text.endswith('fractional byte value "1500m" is invalid, must be an integer')


DEBUGGER: JSON = {"name": "debugger", "image": "registry.example/tools:1", "targetContainerName": "c"}


def debugged(old: JSON, *containers: JSON, **spec: Any) -> JSON:
    """What an update of `pods/ephemeralcontainers` comes to."""
    new = stored(PODS, copy.deepcopy(old))
    new["spec"] |= {"ephemeralContainers": [dict(container) for container in containers]} | spec
    strategy = strategy_for(PODS)
    strategy.default(new)
    return strategy.update_subresource(context(PODS), "ephemeralcontainers", new, old).object


def test_a_pod_is_given_ephemeral_containers_and_nothing_else() -> None:
    changed = debugged(made(), DEBUGGER, activeDeadlineSeconds=5)
    assert changed["spec"]["ephemeralContainers"] == [
        DEBUGGER
        | {
            "imagePullPolicy": "IfNotPresent",
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
    ]
    assert "activeDeadlineSeconds" not in changed["spec"]


@pytest.mark.parametrize(
    ("container", "field", "text"),
    [
        ({"ports": [{"containerPort": 1}]}, "[0].ports", "Forbidden: cannot be set for an Ephemeral Container"),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}, "[0].lifecycle", "Forbidden: cannot be set for"),
        ({"name": "c"}, "[0].name", 'Duplicate value: "c"'),
        ({"targetContainerName": "d"}, "[0].targetContainerName", 'Not found: "d"'),
    ],
)
def test_what_an_ephemeral_container_cannot_be(container: JSON, field: str, text: str) -> None:
    old = made()
    with pytest.raises(StatusError) as caught:
        debugged(old, DEBUGGER | container)
    assert f"spec.ephemeralContainers{field}: {text}" in str(caught.value)


def test_ephemeral_containers_stay() -> None:
    old = debugged(made(), DEBUGGER)
    both = debugged(old, *old["spec"]["ephemeralContainers"], DEBUGGER | {"name": "second"})
    assert [c["name"] for c in both["spec"]["ephemeralContainers"]] == ["debugger", "second"]
    with pytest.raises(StatusError, match='existing ephemeral containers "debugger" may not be removed'):
        debugged(old)
    with pytest.raises(StatusError, match='existing ephemeral containers "debugger" may not be changed'):
        debugged(old, DEBUGGER | {"command": ["sh"]})
    assert refusal(PODS, pod(ephemeralContainers=[DEBUGGER])) == [
        "spec.ephemeralContainers: Forbidden: cannot be set on create"
    ]


def test_who_may_be_privileged(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = [CONTAINER | {"securityContext": {"privileged": True}}]
    with pytest.raises(StatusError, match=r"securityContext\.privileged: Forbidden: disallowed by cluster policy"):
        made(containers=asking)
    monkeypatch.setattr(capabilities, "_privileged", True)
    assert made(containers=asking)["spec"]["containers"][0]["securityContext"] == {"privileged": True}


def test_a_hook_sleeps_within_the_grace_period() -> None:
    def sleeping(seconds: int) -> list[JSON]:
        return [CONTAINER | {"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}}]

    for seconds in (0, 30):
        assert made(containers=sleeping(seconds))
    with pytest.raises(StatusError) as caught:
        made(containers=sleeping(31))
    detail = "must be non-negative and less than terminationGracePeriodSeconds (30)"
    assert f"lifecycle.preStop.sleep: Invalid value: 31: {detail}" in caught.value.message


RESTART: JSON = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_a_restart_policy_of_a_container(kind: str) -> None:
    def having(**fields: Any) -> JSON:
        return made(**({"containers": [CONTAINER]} | {kind: [CONTAINER | {"name": "r"} | fields]}))

    for policy in ("Always", "OnFailure", "Never"):
        spec = having(restartPolicy=policy, restartPolicyRules=[RESTART])["spec"]
        assert spec[kind][0]["restartPolicyRules"] == [RESTART]
    for fields, text in (
        (
            {"restartPolicy": "Once"},
            'Policy: Unsupported value: "Once": supported values: "Always", "Never", "OnFailure"',
        ),
        ({"restartPolicyRules": [RESTART]}, "Policy: Required value: must specify restartPolicy when restart rules"),
        ({"restartPolicyRules": [RESTART] * 21}, "PolicyRules: Too many: 21: must have at most 20 items"),
        (
            {"restartPolicyRules": [{"action": "Restart"}]},
            "PolicyRules[0].exitCodes: Required value: must be specified",
        ),
        ({"restartPolicyRules": [RESTART | {"action": "Stop"}]}, 'PolicyRules[0].action: Unsupported value: "Stop"'),
    ):
        with pytest.raises(StatusError) as caught:
            having(**({"restartPolicy": "Never"} if "Required value: must specify" not in text else {}) | fields)
        assert f"spec.{kind}[0].restart{text}" in caught.value.message
