"""What may change in a Service, and how a change that may not is told."""

from __future__ import annotations

import pytest

from twinstack.api.core import ServiceSpec
from twinstack.server.strategy.service_update_validation import validate_update


def held(*ips: str, policy: str = "RequireDualStack", families: list[str] | None = None) -> ServiceSpec:
    return ServiceSpec(
        type="ClusterIP",
        cluster_ip=ips[0] if ips else "",
        cluster_ips=list(ips),
        ip_families=families or ["IPv6" if ":" in ip else "IPv4" for ip in ips],
        ip_family_policy=policy,
    )


FIXED = "may not change once set"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (held("1.1.1.1"), held("1.1.1.1", "fd00::1"), []),
        (held("1.1.1.1", "fd00::1"), held("1.1.1.1", policy="SingleStack"), []),
        (held("None", families=["IPv4"]), held("None", families=["IPv6", "IPv4"]), []),
        (held("1.1.1.1"), held("1.1.1.2"), [f'spec.clusterIPs[0]: Invalid value: ["1.1.1.2"]: {FIXED}']),
        (held("1.1.1.1"), held("None", families=["IPv4"]), [f'spec.clusterIPs[0]: Invalid value: ["None"]: {FIXED}']),
        (
            held("1.1.1.1", "fd00::1"),
            held("fd00::1", "1.1.1.1"),
            [
                f'spec.clusterIPs[0]: Invalid value: ["fd00::1","1.1.1.1"]: {FIXED}',
                f'spec.clusterIPs[1]: Invalid value: ["fd00::1","1.1.1.1"]: {FIXED}',
                f'spec.ipFamilies[0]: Invalid value: ["IPv6","IPv4"]: {FIXED}',
                f'spec.ipFamilies[0]: Invalid value: ["IPv6","IPv4"]: {FIXED}',
            ],
        ),
        (
            held("1.1.1.1"),
            held("fd00::1", "1.1.1.1"),
            [
                f'spec.clusterIPs[0]: Invalid value: ["fd00::1","1.1.1.1"]: {FIXED}',
                f'spec.ipFamilies[0]: Invalid value: ["fd00::1","1.1.1.1"]: {FIXED}',
            ],
        ),
        (
            held("1.1.1.1", "fd00::1"),
            held("1.1.1.1"),
            [
                (
                    "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be set to 'SingleStack' when "
                    "releasing the secondary clusterIP"
                ),
                (
                    "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be set to 'SingleStack' when "
                    "releasing the secondary ipFamily"
                ),
            ],
        ),
        (held("1.1.1.1"), ServiceSpec(type="ExternalName"), []),
        (ServiceSpec(type="ExternalName"), held("1.1.1.1"), []),
    ],
)
def test_what_may_change(old: ServiceSpec, new: ServiceSpec, expected: list[str]) -> None:
    assert [str(error) for error in validate_update(new, old)] == expected


def balancer(name: str | None, port: int = 30100) -> ServiceSpec:
    return ServiceSpec(
        type="LoadBalancer", load_balancer_class=name, external_traffic_policy="Local", health_check_node_port=port
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (balancer("a"), balancer("a"), []),
        (balancer(None), balancer("a"), [f'spec.loadBalancerClass: Invalid value: "a": {FIXED}']),
        (balancer("a"), balancer(None), [f"spec.loadBalancerClass: Invalid value: null: {FIXED}"]),
        (ServiceSpec(type="ClusterIP"), balancer("a"), []),
        (balancer("a"), balancer("a", 30101), ["spec.healthCheckNodePort: Forbidden: field is immutable"]),
    ],
)
def test_load_balancer_fields_that_may_change(old: ServiceSpec, new: ServiceSpec, expected: list[str]) -> None:
    assert [str(error) for error in validate_update(new, old)] == expected
