"""Which cluster IPs and node ports a write takes and gives back."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from twinstack.api.core import ServicePort, ServiceSpec
from twinstack.api.errors import StatusError
from twinstack.ip import Address
from twinstack.server.strategy.service_addresses import AddressPlan, is_ready, plan_addresses, ready_ranges
from twinstack.server.strategy.service_ports import PortPlan, plan_health_check_port, plan_node_ports

OUT_OF_RANGE = "provided port is not in the valid range. The range of valid ports is 30000-32767"
CIDR: dict[str, object] = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/24", "fd00:96::/112"]}}


def plan(*taken: str, cidrs: Iterable[dict[str, object]] = (CIDR,)) -> AddressPlan:
    held = {Address.parse(text) for text in taken}
    return AddressPlan(lambda: ready_ranges(cidrs), held.__contains__)


def dual(*ips: str, policy: str = "RequireDualStack", type_: str = "ClusterIP") -> ServiceSpec:
    families = ["IPv4", "IPv6"] if len(ips) != 1 else ["IPv6" if ":" in ips[0] else "IPv4"]
    return ServiceSpec(
        type=type_,
        cluster_ip=ips[0] if ips else "",
        cluster_ips=list(ips),
        ip_families=list(families),
        ip_family_policy=policy,
    )


def test_create_takes_one_address_a_family() -> None:
    addresses, new = plan(), dual()
    assert plan_addresses("web", new, None, addresses) == []
    assert [str(address) for address in addresses.taken] == new.cluster_ips
    assert new.cluster_ip == new.cluster_ips[0]
    assert [":" in ip for ip in new.cluster_ips] == [False, True]


def test_static_addresses_are_stored_as_typed_and_taken_by_value() -> None:
    addresses, new = plan(), dual("10.96.0.9", "FD00:96:0::0009")
    assert plan_addresses("web", new, None, addresses) == []
    assert new.cluster_ips == ["10.96.0.9", "FD00:96:0::0009"]
    assert addresses.taken == [Address.parse("10.96.0.9"), Address.parse("fd00:96::9")]


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("192.168.7.9", "the provided network does not match the current range"),
        ("10.96.0.0", "the provided network does not match the current range"),
        ("10.96.0.255", "the provided network does not match the current range"),
        ("10.96.0.7", "provided IP is already allocated"),
    ],
)
def test_static_addresses_that_are_refused(ip: str, reason: str) -> None:
    (error,) = plan_addresses("web", dual_with_static(ip), None, plan("10.96.0.7"))
    assert str(error) == f'spec.clusterIPs: Invalid value: ["{ip}",""]: failed to allocate IP {ip}: {reason}'


def dual_with_static(ip: str) -> ServiceSpec:
    spec = dual(ip)
    spec.ip_families = ["IPv4", "IPv6"]
    return spec


def test_the_last_ipv6_address_is_given() -> None:
    assert plan_addresses("web", dual("fd00:96::ffff"), None, plan()) == []
    assert plan_addresses("web", dual("fd00:96::"), None, plan())


def test_a_full_range_is_an_internal_error() -> None:
    full = plan(
        *(f"10.0.0.{last}" for last in range(1, 7)), cidrs=[{"metadata": {}, "spec": {"cidrs": ["10.0.0.0/29"]}}]
    )
    with pytest.raises(StatusError) as caught:
        plan_addresses("web", ServiceSpec(type="ClusterIP", ip_families=["IPv4"]), None, full)
    assert caught.value.code == 500
    assert caught.value.message == (
        'Internal error occurred: failed to allocate a serviceIP for Service "web": range is full'
    )


def test_a_second_range_is_used_when_the_first_is_full() -> None:
    small: dict[str, object] = {"metadata": {}, "spec": {"cidrs": ["10.0.0.0/30"]}}
    addresses = plan("10.0.0.1", "10.0.0.2", cidrs=[small, CIDR])
    for _ in range(8):
        spec = ServiceSpec(type="ClusterIP", ip_families=["IPv4"])
        assert plan_addresses("web", spec, None, addresses) == []
        assert spec.cluster_ip.startswith("10.96.0.")


TRANSITIONS = [
    # old, new, addresses taken, addresses given back
    (dual("10.96.0.9"), dual("10.96.0.9", "fd00:96::9"), ["fd00:96::9"], []),
    (dual("10.96.0.9", "fd00:96::9"), dual("10.96.0.9"), [], ["fd00:96::9"]),
    (dual("10.96.0.9"), dual("10.96.0.9", type_="NodePort"), [], []),
    (dual("10.96.0.9", "fd00:96::9"), ServiceSpec(type="ExternalName"), [], ["10.96.0.9", "fd00:96::9"]),
    (ServiceSpec(type="ExternalName"), dual("10.96.0.9"), ["10.96.0.9"], []),
    (ServiceSpec(type="ExternalName"), dual("None"), [], []),
    (dual("None"), dual("None", policy="SingleStack"), [], []),
    (dual("None"), dual("10.96.0.9", "fd00:96::9"), [], []),
    (dual("None"), ServiceSpec(type="ExternalName"), [], []),
    (dual("10.96.0.9", "FD00:96::9"), dual("10.96.0.9"), [], ["fd00:96::9"]),
]


@pytest.mark.parametrize(("old", "new", "taken", "released"), TRANSITIONS)
def test_updates_take_and_give_back(old: ServiceSpec, new: ServiceSpec, taken: list[str], released: list[str]) -> None:
    addresses = plan()
    assert plan_addresses("web", new, old, addresses) == []
    assert [str(address) for address in addresses.taken] == taken
    assert [str(address) for address in addresses.released] == released


def test_an_upgrade_takes_any_second_address() -> None:
    addresses, new = plan(), dual_with_static("10.96.0.9")
    assert plan_addresses("web", new, dual("10.96.0.9"), addresses) == []
    assert [str(address) for address in addresses.taken] == new.cluster_ips[1:]


@pytest.mark.parametrize(
    ("metadata", "status", "ready"),
    [
        ({}, None, True),
        ({}, {"conditions": [{"type": "Other", "status": "False"}]}, True),
        ({}, {"conditions": [{"type": "Ready", "status": "True"}]}, True),
        ({}, {"conditions": [{"type": "Ready", "status": "False"}]}, False),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, None, False),
    ],
)
def test_which_ranges_are_ready(metadata: dict[str, str], status: object, ready: bool) -> None:
    item = {"metadata": metadata, "spec": {"cidrs": ["10.0.0.0/8"]}} | ({"status": status} if status else {})
    assert is_ready(item) is ready
    assert len(ready_ranges([item])) == ready


def test_ipv6_ranges_shorter_than_64_give_nothing() -> None:
    assert ready_ranges([{"metadata": {}, "spec": {"cidrs": ["fd00::/48"]}}]) == []


# -- node ports -------------------------------------------------------------------------------------------------


def port_plan(*taken: int, ports: range = range(30000, 32768)) -> PortPlan:
    return PortPlan(ports, set(taken).__contains__)


def with_ports(*ports: tuple[int, str, int], type_: str = "NodePort", allocate: bool | None = None) -> ServiceSpec:
    """`ports`: number, protocol, node port."""
    return ServiceSpec(
        type=type_,
        allocate_load_balancer_node_ports=allocate,
        ports=[
            ServicePort(name=f"p{index}", port=port, protocol=protocol, node_port=node_port)
            for index, (port, protocol, node_port) in enumerate(ports)
        ],
    )


def numbers(spec: ServiceSpec) -> list[int]:
    return [port.node_port for port in spec.ports]


def test_ports_of_one_number_share_a_node_port_on_create() -> None:
    ports, new = port_plan(), with_ports((53, "UDP", 0), (53, "TCP", 0), (80, "TCP", 0))
    assert plan_node_ports(new, None, ports) == []
    dns, dns_tcp, web = numbers(new)
    assert dns == dns_tcp != web
    assert ports.taken == {dns, web}


@pytest.mark.parametrize("first", [True, False])
def test_an_explicit_node_port_serves_both_protocols(first: bool) -> None:
    given = (30053, 0) if first else (0, 30053)
    ports, new = port_plan(), with_ports((53, "UDP", given[0]), (53, "TCP", given[1]))
    assert plan_node_ports(new, None, ports) == []
    assert numbers(new) == [30053, 30053]
    assert ports.taken == {30053}


def test_two_explicit_node_ports_of_one_number_stay_apart() -> None:
    ports, new = port_plan(), with_ports((53, "UDP", 30053), (53, "TCP", 30054))
    assert plan_node_ports(new, None, ports) == []
    assert ports.taken == {30053, 30054}


def test_one_node_port_on_two_numbers_is_refused_on_create() -> None:
    (error,) = plan_node_ports(with_ports((53, "UDP", 30053), (54, "TCP", 30053)), None, port_plan())
    assert str(error) == "spec.ports[1].nodePort: Invalid value: 30053: provided port is already allocated"


@pytest.mark.parametrize(
    ("port", "detail"),
    [
        (99, OUT_OF_RANGE),
        (30007, "provided port is already allocated"),
    ],
)
def test_node_ports_that_are_refused(port: int, detail: str) -> None:
    (error,) = plan_node_ports(with_ports((80, "TCP", port)), None, port_plan(30007))
    assert str(error) == f"spec.ports[0].nodePort: Invalid value: {port}: {detail}"


def test_node_ports_run_out() -> None:
    with pytest.raises(StatusError, match=r"^Internal error occurred: failed to allocate a nodePort: range is full$"):
        plan_node_ports(with_ports((80, "TCP", 0)), None, port_plan(30000, 30001, ports=range(30000, 30002)))


def test_a_load_balancer_without_node_ports_keeps_only_explicit_ones() -> None:
    ports, new = port_plan(), with_ports((80, "TCP", 0), (81, "TCP", 30081), type_="LoadBalancer", allocate=False)
    assert plan_node_ports(new, None, ports) == []
    assert numbers(new) == [0, 30081]


def test_updates_give_every_port_its_own_and_free_what_is_gone() -> None:
    old = with_ports((53, "UDP", 30053), (80, "TCP", 30080))
    ports, new = port_plan(30053, 30080), with_ports((53, "UDP", 30053), (53, "TCP", 0), (443, "TCP", 30443))
    assert plan_node_ports(new, old, ports) == []
    assert numbers(new)[1] not in (0, 30053, 30443)
    assert ports.taken == set(numbers(new)[1:])
    assert ports.released == {30080}


def test_updates_may_share_a_node_port_between_protocols_of_different_numbers() -> None:
    old = with_ports((53, "UDP", 30053))
    ports, new = port_plan(30053), with_ports((53, "UDP", 30053), (54, "TCP", 30053))
    assert plan_node_ports(new, old, ports) == []
    assert ports.taken == ports.released == set()


def test_updates_with_one_node_port_twice_fail_before_validation() -> None:
    old = with_ports((53, "UDP", 30053))
    with pytest.raises(StatusError) as caught:
        plan_node_ports(with_ports((53, "TCP", 30080), (54, "TCP", 30080)), old, port_plan(30053))
    assert (caught.value.code, caught.value.reason) == (500, "")
    assert caught.value.message == "duplicate nodePort: {TCP 30080}"


@pytest.mark.parametrize("type_", ["ClusterIP", "ExternalName"])
def test_leaving_node_ports_frees_them(type_: str) -> None:
    ports = port_plan(30080)
    assert plan_node_ports(with_ports((80, "TCP", 30080), type_=type_), with_ports((80, "TCP", 30080)), ports) == []
    assert ports.released == {30080}


def test_node_ports_of_an_external_name_were_never_taken() -> None:
    old = with_ports((80, "TCP", 30080), type_="ExternalName")
    ports = port_plan()
    assert plan_node_ports(with_ports((80, "TCP", 30080)), old, ports) == []
    assert ports.taken == {30080}


def local(port: int = 0) -> ServiceSpec:
    return ServiceSpec(type="LoadBalancer", external_traffic_policy="Local", health_check_node_port=port)


def test_health_check_ports_come_and_go() -> None:
    ports, new = port_plan(), local()
    plan_health_check_port(new, None, ports)
    assert ports.taken == {new.health_check_node_port}
    ports = port_plan()
    plan_health_check_port(ServiceSpec(type="ClusterIP"), local(30100), ports)
    assert (ports.taken, ports.released) == (set(), {30100})
    ports = port_plan()
    plan_health_check_port(local(30101), local(30100), ports)  # refused by validation, not here
    assert (ports.taken, ports.released) == (set(), set())


@pytest.mark.parametrize(
    ("port", "taken", "detail"),
    [
        (30100, range(0), None),
        (30100, range(30100, 30101), "requested HealthCheck NodePort 30100: provided port is already allocated"),
        (
            1,
            range(0),
            f"requested HealthCheck NodePort 1: {OUT_OF_RANGE}",
        ),
        (0, range(30000, 32768), "a HealthCheck NodePort 0: range is full"),
    ],
)
def test_health_check_port_errors_are_internal(port: int, taken: range, detail: str | None) -> None:
    ports = port_plan(*taken)
    if detail is None:
        plan_health_check_port(local(port), None, ports)
        assert ports.taken == {port}
        return
    with pytest.raises(StatusError) as caught:
        plan_health_check_port(local(port), None, ports)
    assert caught.value.message == f"Internal error occurred: failed to allocate {detail}"
