"""What a Service must be: one row a rule, with the path, the kind and the words of the answer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.server.strategy.service_specs import BALANCER, EXTERNAL, TWICE, VALID, service

from twinstack.server.strategy.service_validation import (
    SOURCE_RANGES,
    TOPOLOGY_HINTS,
    TOPOLOGY_MODE,
    validate_cluster_ip_fields,
    validate_spec,
)

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
ONLY_LB = "Forbidden: may only be used when `type` is 'LoadBalancer'"
LINK_LOCAL_MULTICAST = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"


def errors(spec: dict[str, Any], annotations: dict[str, str] | None = None) -> list[str]:
    return [str(error) for error in validate_spec(service(spec, annotations), None)]


@pytest.mark.parametrize(
    "spec",
    [
        VALID,
        EXTERNAL,
        EXTERNAL | {"externalName": "example.com."},
        EXTERNAL | {"ports": [{"port": 80, "nodePort": 30080}]},
        VALID | {"clusterIP": "None", "ports": []},
        VALID | {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]},
        BALANCER | {"loadBalancerIP": "nope", "loadBalancerSourceRanges": [" 10.0.0.0/8 "]},
        BALANCER | {"externalTrafficPolicy": "Local", "healthCheckNodePort": 30100},
        VALID | {"externalIPs": ["192.0.2.1", "2001:db8::1", "192.0.2.1"]},
        VALID | {"ports": [{"name": "a", "port": 53, "protocol": "UDP"}, {"name": "b", "port": 53}]},
        VALID | {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86400}}},
        VALID | {"trafficDistribution": "PreferSameNode"},
    ],
)
def test_valid(spec: dict[str, Any]) -> None:
    assert errors(spec) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ports": []}, ["spec.ports: Required value"]),
        (
            {"ports": [{"port": 0}]},
            [
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            {"ports": [{"port": 80}, {"name": "A", "port": 81}]},
            ["spec.ports[0].name: Required value", f'spec.ports[1].name: Invalid value: "A": {LABEL}'],
        ),
        (
            {"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]},
            ['spec.ports[1].name: Duplicate value: "a"'],
        ),
        (
            {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]},
            [
                (
                    'spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,'
                    '"TargetPort":0,"NodePort":0}'
                )
            ],
        ),
        (
            {"ports": [{"port": 80, "protocol": "ICMP"}]},
            ['spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"'],
        ),
        (
            {"ports": [{"port": 80, "targetPort": "Bad_Name-"}]},
            [
                (
                    'spec.ports[0].targetPort: Invalid value: "Bad_Name-": must contain only alpha-numeric characters '
                    "(a-z, 0-9), and hyphens (-)"
                ),
                'spec.ports[0].targetPort: Invalid value: "Bad_Name-": must not begin or end with a hyphen',
            ],
        ),
        (
            {"ports": [{"port": 80, "nodePort": 30080}]},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            {"sessionAffinity": "Bogus"},
            ['spec.sessionAffinity: Unsupported value: "Bogus": supported values: "ClientIP", "None"'],
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
            [
                (
                    "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 "
                    "and less than 86400"
                )
            ],
        ),
        (
            {"externalIPs": ["0.0.0.0"]},
            ['spec.externalIPs[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)'],
        ),
        ({"externalIPs": ["ff02::1"]}, [f'spec.externalIPs[0]: Invalid value: "ff02::1": {LINK_LOCAL_MULTICAST}']),
        (
            {"type": "Bogus"},
            [
                (
                    'spec.type: Unsupported value: "Bogus": supported values: "ClusterIP", '
                    '"ExternalName", "LoadBalancer", "NodePort"'
                )
            ],
        ),
        ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, [f"spec.LoadBalancerSourceRanges: {ONLY_LB}"]),
        ({"allocateLoadBalancerNodePorts": False}, [f"spec.allocateLoadBalancerNodePorts: {ONLY_LB}"]),
        ({"loadBalancerClass": "x"}, [f"spec.loadBalancerClass: {ONLY_LB}"]),
        (
            {"externalTrafficPolicy": "Local"},
            ['spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services'],
        ),
        (
            {"healthCheckNodePort": 30100},
            [
                (
                    "spec.healthCheckNodePort: Invalid value: 30100: may only be set when `type` is 'LoadBalancer' and "
                    "`externalTrafficPolicy` is 'Local'"
                )
            ],
        ),
        (
            {"internalTrafficPolicy": "Bogus"},
            ['spec.internalTrafficPolicy: Unsupported value: "Bogus": supported values: "Cluster", "Local"'],
        ),
        (
            {"trafficDistribution": "Bogus"},
            [
                (
                    'spec.trafficDistribution: Unsupported value: "Bogus": supported values: "PreferClose", '
                    '"PreferSameZone", "PreferSameNode"'
                )
            ],
        ),
    ],
)
def test_rules_of_any_type(change: dict[str, Any], expected: list[str]) -> None:
    assert errors(VALID | change) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            BALANCER | {"clusterIP": "None"},
            ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services"],
        ),
        (
            VALID | {"clusterIP": "None", "type": "NodePort"},
            ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        ),
        (
            BALANCER | {"loadBalancerSourceRanges": ["10.0.0.1/8", "x"]},
            [
                (
                    'spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the '
                    "prefix length"
                ),
                (
                    'spec.LoadBalancerSourceRanges[1]: Invalid value: "x": must be a valid CIDR value, '
                    "(e.g. 10.9.8.0/24 or 2001:db8::/64)"
                ),
            ],
        ),
        (
            BALANCER | {"externalTrafficPolicy": "Bogus"},
            ['spec.externalTrafficPolicy: Unsupported value: "Bogus": supported values: "Cluster", "Local"'],
        ),
        (BALANCER | {"externalTrafficPolicy": "Local"}, ["spec.healthCheckNodePort: Required value"]),
        (
            EXTERNAL | {"externalName": ""} | {"clusterIP": "None", "ipFamilies": ["IPv4"], "ipFamilyPolicy": ""},
            [
                "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
                "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
                "spec.externalName: Required value",
            ],
        ),
        (
            VALID | {"type": "NodePort", "ports": TWICE},
            ["spec.ports[1].nodePort: Duplicate value: 30080"],
        ),
    ],
)
def test_rules_of_one_type(spec: dict[str, Any], expected: list[str]) -> None:
    assert errors(spec) == expected


def test_topology_annotations_must_agree() -> None:
    found = errors(VALID, {TOPOLOGY_HINTS: "Auto", TOPOLOGY_MODE: "Disabled"})
    assert found == [
        (
            f'metadata.annotations[{TOPOLOGY_MODE}]: Invalid value: "Disabled": must match '
            f"annotations[{TOPOLOGY_HINTS}] when both are specified"
        )
    ]
    assert errors(VALID, {TOPOLOGY_HINTS: "Auto"}) == []


def test_the_source_range_annotation_is_judged_when_it_changes() -> None:
    field = f"metadata.annotations[{SOURCE_RANGES}]"
    bad = {SOURCE_RANGES: "10.0.0.0/8, 10.0.0.1/8"}
    wrong = f'{field}: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length'
    assert errors(BALANCER, bad) == [wrong]
    assert errors(VALID, bad) == [f"{field}: {ONLY_LB}", wrong]
    assert validate_spec(service(BALANCER, bad), service(BALANCER, bad)) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"clusterIPs": ["10.0.0.1"]},
            ['spec.clusterIPs: Invalid value: ["10.0.0.1"]: must be empty when `clusterIP` is not specified'],
        ),
        (
            {"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]},
            ['spec.clusterIPs: Invalid value: ["10.0.0.1"]: first value must match `clusterIP`'],
        ),
        (
            {"ipFamilies": ["IPv5", "ipv4", "IPv5"]},
            [
                'spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"',
                'spec.ipFamilies[1]: Unsupported value: "ipv4": supported values: "IPv4", "IPv6"',
                'spec.ipFamilies[2]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"',
                'spec.ipFamilies[2]: Duplicate value: "IPv5"',
            ],
        ),
        (
            {"ipFamilyPolicy": ""},
            [
                (
                    'spec.ipFamilyPolicy: Unsupported value: "": supported values: "PreferDualStack", '
                    '"RequireDualStack", "SingleStack"'
                )
            ],
        ),
        (
            {"clusterIP": "None", "clusterIPs": ["None", "None"]},
            [
                'spec.clusterIPs: Invalid value: ["None","None"]: \'None\' must be the first and only value',
                (
                    'spec.clusterIPs[1]: Invalid value: "None": must be a valid IP address, '
                    "(e.g. 10.9.8.7 or 2001:db8::ffff)"
                ),
            ],
        ),
        (
            {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1", "10.0.0.2"]},
            ['spec.clusterIPs: Invalid value: ["10.0.0.1","fd00::1","10.0.0.2"]: may only hold up to 2 values'],
        ),
        (
            {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]},
            [
                (
                    'spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each '
                    "IP family"
                )
            ],
        ),
        ({"clusterIP": "010.0.0.1"}, ['spec.clusterIPs[0]: Invalid value: "010.0.0.1": must not have leading 0s']),
        (
            {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv6"]},
            ['spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`'],
        ),
    ],
)
def test_cluster_ip_fields(spec: dict[str, Any], expected: list[str]) -> None:
    read = service(spec).spec
    assert [str(error) for error in validate_cluster_ip_fields(read, None)] == expected


def test_stored_addresses_stay_valid() -> None:
    """An older server accepted leading zeros; a Service that has them can still be updated."""
    spec = service(VALID | {"clusterIP": "010.96.0.9"}).spec
    assert validate_cluster_ip_fields(spec, spec) == []
