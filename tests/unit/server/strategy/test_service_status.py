"""The status that a load balancer reports, and the warnings of both."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.server.strategy.service_specs import BALANCER, EXTERNAL, VALID, service

from twinstack.api.core import LoadBalancerStatus, ServiceStatus
from twinstack.server.strategy.service_status import validate_status
from twinstack.server.strategy.service_validation import TOPOLOGY_HINTS, TOPOLOGY_MODE
from twinstack.server.strategy.service_warnings import service_warnings, status_warnings


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        ({"ip": "192.0.2.1", "ipMode": "VIP"}, []),
        ({"ip": "2001:db8::1", "ipMode": "Proxy"}, []),
        ({"hostname": "lb.example.com"}, []),
        ({"ip": "192.0.2.1"}, [".ipMode: Required value: must be specified when `ip` is set"]),
        (
            {"ip": "192.0.2.1", "ipMode": "Bogus"},
            ['.ipMode: Unsupported value: "Bogus": supported values: "Proxy", "VIP"'],
        ),
        (
            {"hostname": "x", "ipMode": "VIP"},
            [".ipMode: Forbidden: may not be specified when `ip` is not set"],
        ),
        ({"hostname": "192.0.2.1"}, ['.hostname: Invalid value: "192.0.2.1": must be a DNS name, not an IP address']),
        (
            {"ip": "bad", "ipMode": "VIP"},
            ['.ip: Invalid value: "bad": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'],
        ),
        ({"ip": "010.0.0.1", "ipMode": "VIP"}, []),  # stored already
    ],
)
def test_load_balancer_status(ingress: dict[str, str], expected: list[str]) -> None:
    made = service(BALANCER)
    made.status = ServiceStatus(load_balancer=msgspec.convert({"ingress": [ingress]}, LoadBalancerStatus))
    found = [str(error) for error in validate_status(made, {"010.0.0.1"})]
    assert found == [f"status.loadBalancer.ingress[0]{text}" for text in expected]
    made.spec.type = "ClusterIP"
    assert [str(error) for error in validate_status(made, ())] == [
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    ]


EXTERNAL_IPS = "spec.externalIPs is deprecated and may no longer be implemented in some clusters"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (VALID, []),
        (
            VALID | {"clusterIP": "FD00::1", "ipFamilies": ["IPv6"]},
            ['spec.clusterIPs[0]: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")'],
        ),
        (
            VALID | {"clusterIP": "None", "loadBalancerIP": "nope", "externalIPs": ["192.0.2.1"]},
            [
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
            ],
        ),
        (
            VALID | {"clusterIP": "None", "sessionAffinity": "ClientIP"},
            ["spec.SessionAffinity is ignored for headless services"],
        ),
        (VALID | {"externalIPs": ["192.0.2.1"]}, [EXTERNAL_IPS]),
        (
            BALANCER | {"loadBalancerSourceRanges": ["FD00::/8", " FD00::/8"]},
            [
                (
                    'spec.loadBalancerSourceRanges[0]: IPv6 CIDR value "FD00::/8" should be in RFC 5952 canonical '
                    'format ("fd00::/8")'
                )
            ],
        ),
        (EXTERNAL | {"externalIPs": ["192.0.2.1"]}, ['spec.externalIPs is ignored when spec.type is "ExternalName"']),
        (VALID | {"externalName": "x"}, ['spec.externalName is ignored when spec.type is not "ExternalName"']),
        (
            VALID | {"trafficDistribution": "PreferClose"},
            ['spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'],
        ),
    ],
)
def test_warnings(spec: dict[str, Any], expected: list[str]) -> None:
    assert service_warnings(service(spec)) == expected


def test_warnings_of_metadata_and_status() -> None:
    (text,) = service_warnings(service(VALID, {TOPOLOGY_HINTS: "Auto"}))
    assert text == f"annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"
    made = service(BALANCER)
    made.status = ServiceStatus(load_balancer=msgspec.convert({"ingress": [{"ip": "FD00::1"}]}, LoadBalancerStatus))
    (text,) = status_warnings(made)
    assert text.startswith("status.loadBalancer.ingress[0]: IPv6 address")
