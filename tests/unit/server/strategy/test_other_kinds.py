"""Nodes, Namespaces, workloads, configuration, Leases, Events and EndpointSlices."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.server.strategy.strategy_context import create, refusal, stored, update

from twinstack.api.resources import RESOURCES, resource
from twinstack.server.strategy.base import Strategy
from twinstack.server.strategy.nodes import NOT_READY
from twinstack.server.strategy.registry import strategy_for

JSON = dict[str, Any]

NODES, NAMESPACES = resource("", "nodes"), resource("", "namespaces")
DEPLOYMENTS, REPLICA_SETS = resource("apps", "deployments"), resource("apps", "replicasets")
CONFIG_MAPS, SECRETS, ACCOUNTS = resource("", "configmaps"), resource("", "secrets"), resource("", "serviceaccounts")
LEASES, SLICES = resource("coordination.k8s.io", "leases"), resource("discovery.k8s.io", "endpointslices")
EVENTS, NEW_EVENTS = resource("", "events"), resource("events.k8s.io", "events")


def test_every_resource_has_a_strategy() -> None:
    assert all(isinstance(strategy_for(row), Strategy) for row in RESOURCES)


# Nodes


CIDR_FIXED = 'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'


@pytest.mark.parametrize(
    ("spec", "listed"),
    [
        ({}, None), ({"podCIDR": "10.0.0.0/24"}, ["10.0.0.0/24"]), ({"podCIDRs": ["fd00::/64"]}, ["fd00::/64"]),
        ({"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"]}, ["10.0.0.0/24", "fd00::/64"]),
        ({"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"]}, ["10.0.1.0/24"]),
    ],
)  # fmt: skip
def test_pod_cidr_is_the_first_of_pod_cidrs(spec: JSON, listed: list[str] | None) -> None:
    made = create(NODES, {"spec": spec}).object["spec"]
    assert (made.get("podCIDRs"), made.get("podCIDR")) == (listed, listed[0] if listed else None)


def test_a_new_node_takes_no_pods_yet() -> None:
    assert create(NODES, {}).object["spec"]["taints"] == [NOT_READY]
    mine = {"key": "k", "effect": "NoExecute"}
    assert create(NODES, {"spec": {"taints": [mine]}}).object["spec"]["taints"] == [mine, NOT_READY]
    assert create(NODES, {"spec": {"taints": [NOT_READY]}}).object["spec"]["taints"] == [NOT_READY]


def test_a_node_keeps_the_status_it_is_made_with() -> None:
    status = create(NODES, {"status": {"capacity": {"cpu": "4"}}}).object["status"]
    assert status["allocatable"] == status["capacity"] == {"cpu": "4"}
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 0}}


ONE_A_FAMILY = "may specify no more than one CIDR for each IP family"
EFFECTS = '"NoSchedule", "PreferNoSchedule", "NoExecute"'


@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        ({"podCIDRs": ["10.0.0.1/24"]},
         ['spec.podCIDRs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length']),
        ({"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]},
         [f'spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: {ONE_A_FAMILY}']),
        ({"taints": [{"key": "k", "effect": "No"}]},
         [f'metadata.taints[0].effect: Unsupported value: "No": supported values: {EFFECTS}']),
        ({"taints": [{"key": "k"}]}, ["metadata.taints[0].effect: Required value"]),
    ],
)  # fmt: skip
def test_node_rules(spec: JSON, messages: list[str]) -> None:
    assert refusal(NODES, {"spec": spec}) == messages


def test_what_of_a_node_is_set_once() -> None:
    old = create(NODES, {"spec": {"podCIDR": "10.0.0.0/24", "providerID": "p"}}).object
    for change, message in (
        ({"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24"]}, CIDR_FIXED),
        ({"podCIDRs": ["10.0.0.0/24", "fd00::/64"]}, CIDR_FIXED),
        ({"providerID": "q"}, "spec.providerID: Forbidden: node updates may not change providerID except from"),
        ({"externalID": "x"}, "spec.externalID: Forbidden: may not be updated"),
    ):
        found = refusal(NODES, old | {"spec": old["spec"] | change}, old)
        assert [text.startswith(message) for text in found] == [True]
    empty = create(NODES, {}).object
    assert refusal(NODES, empty | {"spec": {"podCIDR": "10.0.0.0/24"}}, empty) == []


def test_addresses_of_a_node_are_distinct() -> None:
    old = create(NODES, {}).object
    same = {"type": "InternalIP", "address": "10.0.0.1"}
    new = old | {"status": old["status"] | {"addresses": [same, same | {"type": "Hostname"}, same]}}
    assert refusal(NODES, new, old, status=True) == [
        'status.addresses[2]: Duplicate value: {"Type":"InternalIP","Address":"10.0.0.1"}'
    ]


# Namespaces


def test_a_new_namespace() -> None:
    made = create(NAMESPACES, {"spec": {"finalizers": ["example.com/x"]}, "status": {"phase": "Terminating"}}).object
    assert made["spec"]["finalizers"] == ["example.com/x", "kubernetes"]
    assert made["status"] == {"phase": "Active"}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "a"}


def test_namespace_rules() -> None:
    assert refusal(NAMESPACES, {"metadata": {"name": "a.b"}})[0] == (
        'metadata.name: Invalid value: "a.b": must not contain dots'
    )
    assert refusal(NAMESPACES, {"spec": {"finalizers": ["bad"]}}) == [
        'spec.finalizers: Invalid value: "bad": name is neither a standard finalizer name nor is it fully qualified'
    ]
    enforce = "pod-security.kubernetes.io/enforce"
    assert refusal(NAMESPACES, {"metadata": {"labels": {enforce: "bogus"}}}) == [
        f'metadata.labels[{enforce}]: Invalid value: "bogus": must be one of privileged, baseline, restricted'
    ]
    old = create(NAMESPACES, {}).object
    assert update(NAMESPACES, old, old | {"spec": {"finalizers": []}}).object["spec"] == {"finalizers": ["kubernetes"]}
    assert refusal(NAMESPACES, old | {"status": {"phase": "Terminating"}}, old, status=True)[0].endswith(
        "may only be 'Active' if `deletionTimestamp` is empty"
    )


# Workloads


def deployment(**spec: Any) -> JSON:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    return {"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template} | spec}


def test_a_small_deployment_becomes_a_whole_one() -> None:
    made = create(DEPLOYMENTS, deployment()).object
    spec = made["spec"]
    assert (made["status"], spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (
        {}, 1, 10, 600,
    )  # fmt: skip
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert spec["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert "tolerations" not in spec["template"]["spec"]
    assert create(REPLICA_SETS, deployment()).object["spec"]["replicas"] == 1


NO_MATCH = "spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`"


@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        ({"replicas": -1}, ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        ({"selector": {}}, ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
        ({"selector": None}, ["spec.selector: Required value", NO_MATCH.format('{"app":"x"}')]),
        ({"selector": {"matchLabels": {"app": "y"}}}, [NO_MATCH.format('{"app":"x"}')]),
        ({"strategy": {"type": "Recreate", "rollingUpdate": {}}},
         ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]),
        ({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}},
         ['spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0']),
        ({"strategy": {"rollingUpdate": {"maxUnavailable": "150%"}}},
         ['spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%']),
        ({"progressDeadlineSeconds": 5, "minReadySeconds": 5},
         ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"]),
    ],
)  # fmt: skip
def test_deployment_rules(spec: JSON, messages: list[str]) -> None:
    assert refusal(DEPLOYMENTS, deployment(**spec)) == messages


def test_selectors_and_templates() -> None:
    obj = deployment(selector={"matchExpressions": [{"key": "app", "operator": "Bogus"}]})
    assert refusal(DEPLOYMENTS, obj)[0] == (
        'spec.selector.matchExpressions[0].operator: Invalid value: "Bogus": not a valid selector operator'
    )
    obj = deployment()
    obj["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    assert refusal(REPLICA_SETS, obj) == [
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'
    ]
    old = create(DEPLOYMENTS, deployment()).object
    new = copy.deepcopy(old)
    new["spec"]["selector"] = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]}
    (message,) = refusal(DEPLOYMENTS, new, old)
    assert message.endswith("field is immutable")


def test_counts_in_a_status() -> None:
    old = create(DEPLOYMENTS, deployment()).object
    new = old | {"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": -1}}
    assert refusal(DEPLOYMENTS, new, old, status=True) == [
        "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
    ]


# Configuration


def test_secrets_take_texts_and_have_a_type() -> None:
    made = create(SECRETS, {"data": {"a": "AAAA", "b": "AAAA"}, "stringData": {"a": "text", "c": "ü"}}).object
    assert {key: base64.b64decode(value) for key, value in made["data"].items()} == {
        "a": b"text", "b": b"\0\0\0", "c": "ü".encode(),
    }  # fmt: skip
    assert (made["type"], "stringData" in made) == ("Opaque", False)


NOT_JSON = """Invalid value: "<secret contents redacted>": invalid character 'o' in literal null (expecting 'u')"""


@pytest.mark.parametrize(
    ("kind", "texts", "messages"),
    [
        ("kubernetes.io/tls", {"tls.crt": "c"}, ["data[tls.key]: Required value"]),
        ("kubernetes.io/basic-auth", {"username": "u"}, []),
        ("kubernetes.io/basic-auth", {}, ["data[username]: Required value", "data[password]: Required value"]),
        ("kubernetes.io/ssh-auth", {}, ["data[ssh-privatekey]: Required value"]),
        ("kubernetes.io/dockerconfigjson", {".dockerconfigjson": "{}"}, []),
        ("kubernetes.io/dockercfg", {".dockercfg": "no"},
         [f"data[.dockercfg]: {NOT_JSON}"]),
        ("example.com/own", {}, []),
        ("Opaque", {"bad key": ""}, None),
    ],
)  # fmt: skip
def test_types_of_secrets(kind: str, texts: JSON, messages: list[str] | None) -> None:
    found = refusal(SECRETS, {"type": kind, "stringData": texts})
    assert bool(found) if messages is None else found == messages


@pytest.mark.parametrize("row", [CONFIG_MAPS, SECRETS])
def test_what_is_immutable_stays(row: Any) -> None:
    value = "AAAA"
    old = create(row, {"data": {"a": value}, "immutable": True}).object
    assert refusal(row, old | {"metadata": old["metadata"] | {"labels": {"x": "y"}}}, old) == []
    assert refusal(row, old | {"data": {"a": "AAAB"}}, old) == [
        "data: Forbidden: field is immutable when `immutable` is set"
    ]
    assert refusal(row, old | {"immutable": False}, old) == [
        "immutable: Forbidden: field is immutable when `immutable` is set"
    ]


def test_config_maps() -> None:
    both = {"data": {"a": "1"}, "binaryData": {"a": "AAAA"}}
    assert refusal(CONFIG_MAPS, both) == ['data[a]: Invalid value: "a": duplicate of key present in binaryData']
    assert refusal(CONFIG_MAPS, {"data": {"a": "x" * (1 << 20)}}) == []
    assert refusal(CONFIG_MAPS, {"data": {"a": "x" * ((1 << 20) + 1)}}) == [
        "[]: Too long: may not be more than 1048576 bytes"
    ]


def test_service_accounts_name_their_secrets_only() -> None:
    made = create(ACCOUNTS, {"secrets": [{"name": "s", "uid": "u"}, {"uid": "u"}]}).object
    assert made["secrets"] == [{"name": "s"}, {}]


# Leases, Events


def test_leases() -> None:
    assert refusal(LEASES, {"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}) == [
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
    ]
    assert create(LEASES, {"spec": {"strategy": "X", "holderIdentity": ""}}).object["spec"] == {"holderIdentity": ""}


def test_events() -> None:
    assert refusal(EVENTS, {"involvedObject": {"namespace": "default", "name": "x"}}) == []
    assert refusal(EVENTS, {"involvedObject": {"kind": "Node", "name": "x"}}) == []
    assert refusal(EVENTS, {"involvedObject": {"namespace": "other"}}) == [
        'involvedObject.namespace: Invalid value: "other": does not match event.namespace'
    ]
    whole = {
        "eventTime": "2024-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i",
        "action": "Act", "reason": "R", "type": "Normal", "regarding": {"namespace": "default"},
    }  # fmt: skip
    assert refusal(NEW_EVENTS, whole) == []
    assert refusal(NEW_EVENTS, {"eventTime": None}) == ["eventTime: Required value"]
    old = create(NEW_EVENTS, whole).object
    assert refusal(NEW_EVENTS, old | {"reason": "Other"}, old) == ['reason: Invalid value: "Other": field is immutable']
    assert refusal(NEW_EVENTS, old | {"note": "more"}, old) == []


# EndpointSlices


def endpoint_slice(**fields: Any) -> JSON:
    return {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]} | fields


def addresses(kind: str, *texts: str) -> list[str]:
    return refusal(SLICES, endpoint_slice(addressType=kind, endpoints=[{"addresses": list(texts)}]))


def test_slices_have_default_ports_and_no_topology() -> None:
    made = create(SLICES, endpoint_slice(endpoints=[{"addresses": ["10.0.0.1"], "deprecatedTopology": {"a": "b"}}]))
    assert made.object["ports"] == [{"port": 80, "name": "", "protocol": "TCP"}]
    assert made.object["endpoints"] == [{"addresses": ["10.0.0.1"], "conditions": {}}]


def test_addresses_of_slices() -> None:
    at = "endpoints[0].addresses[0]: Invalid value: "
    assert addresses("IPv4", "10.0.0.1") == addresses("IPv6", "fd00::1") == addresses("FQDN", "a.example.com.") == []
    assert addresses("IPv6", "FD00::1") == [f'{at}"FD00::1": must be in canonical form ("fd00::1")']
    assert addresses("IPv4", "fd00::1") == ['endpoints[0].addresses: Invalid value: "fd00::1": must be an IPv4 address']
    assert addresses("IPv4", "010.0.0.1") == [f'{at}"010.0.0.1": must not have leading 0s']
    assert addresses("FQDN", "single") == [
        f'{at}"single": should be a domain with at least two segments separated by dots'
    ]
    assert addresses("IPv4") == ["endpoints[0].addresses: Required value: must contain at least 1 address"]
    assert addresses("IPv4", *["10.0.0.1"] * 101) == [
        "endpoints[0].addresses: Too many: 101: must have at most 100 items"
    ]


@given(st.sampled_from(["IPv4", "IPv6"]), st.integers(0, 255))
def test_only_addresses_of_the_slices_family_are_taken(kind: str, number: int) -> None:
    assert addresses(kind, f"10.0.0.{number}" if kind == "IPv4" else f"fd00::1:{number:x}") == []
    assert addresses(kind, f"fd00::1:{number:x}" if kind == "IPv4" else f"10.0.0.{number}") != []


def test_other_rules_of_slices() -> None:
    assert refusal(SLICES, endpoint_slice(addressType="")) == ["addressType: Required value"]
    assert refusal(SLICES, endpoint_slice(ports=[{"name": "a"}, {"name": "a"}])) == [
        'ports[1].name: Duplicate value: "a"'
    ]
    zones = {"forZones": [{"name": str(n)} for n in range(9)]}
    assert refusal(SLICES, endpoint_slice(endpoints=[{"addresses": ["10.0.0.1"], "hints": zones}])) == [
        "endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"
    ]
    old = create(SLICES, endpoint_slice()).object
    new = old | {"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"], "conditions": {}}]}
    assert refusal(SLICES, new, old) == ['addressType: Invalid value: "IPv6": field is immutable']


def test_endpoints_that_an_update_leaves_alone_are_not_judged() -> None:
    old = stored(SLICES, endpoint_slice(endpoints=[{"addresses": ["127.0.0.1"]}]))
    assert refusal(SLICES, old | {"ports": []}, old) == []
    assert refusal(SLICES, old | {"endpoints": [{"addresses": ["127.0.0.2"]}]}, old) != []


def test_warnings_of_slices() -> None:
    fqdn = endpoint_slice(addressType="FQDN", endpoints=[{"addresses": ["a.example.com"]}])
    assert create(SLICES, fqdn).warnings == ["spec.addressType: FQDN endpoints are deprecated"]
