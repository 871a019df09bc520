from __future__ import annotations

import itertools

import pytest
from tests.unit.node.building import pod

from twinstack.api.core import ContainerPort, Pod
from twinstack.ip import Address, IPFamily
from twinstack.node.hostports import Claim, Forward, Layout, claims, conflict, forwards

V4, V6 = Address.parse("10.244.1.2"), Address.parse("fd00:10:244:1::2")
HOST = Address.parse("172.30.0.11")


def asking(*ports: ContainerPort, **spec: object) -> Pod:
    of = pod(**spec)  # type: ignore[arg-type]
    of.spec.containers[0].ports = list(ports)
    return of


def port(host: int, container: int = 80, protocol: str = "TCP", ip: str = "") -> ContainerPort:
    return ContainerPort(host_port=host, container_port=container, protocol=protocol, host_ip=ip)


def test_a_port_leads_to_every_address_of_the_pod() -> None:
    of = asking(port(8080), port(53, 5353, "UDP"), port(0))
    assert forwards(of, [V4, V6]) == [
        Forward(6, None, 8080, V4, 80),
        Forward(6, None, 8080, V6, 80),
        Forward(17, None, 53, V4, 5353),
        Forward(17, None, 53, V6, 5353),
    ]
    assert forwards(of, [V6])[0].target == V6
    assert forwards(asking(port(80), host_network=True), [V4]) == []


@pytest.mark.parametrize(
    ("ip", "targets", "address"),
    [
        ("", [V4, V6], None),
        ("0.0.0.0", [V4], None),
        ("::", [V6], None),
        ("172.30.0.11", [V4], HOST),
        ("127.0.0.1", [V4], Address.parse("127.0.0.1")),
        ("fd00:30::11", [V6], Address.parse("fd00:30::11")),
    ],
)
def test_a_host_ip_is_of_one_family(ip: str, targets: list[Address], address: Address | None) -> None:
    found = forwards(asking(port(80, ip=ip)), [V4, V6])
    assert [forward.target for forward in found] == targets
    assert {forward.address for forward in found} == {address}


def test_sidecars_have_ports_and_init_containers_have_none() -> None:
    of = pod(sidecars=("s",), init=("i",))
    for container in of.spec.init_containers:
        container.ports = [port(81 if container.name == "s" else 82)]
    assert [forward.port for forward in forwards(of, [V4])] == [81]
    assert claims(of) == [Claim("TCP", None, 81)]


ADDRESSES = ["", "0.0.0.0", "::", "172.30.0.11", "172.30.0.12", "fd00:30::11"]


@pytest.mark.parametrize(("one", "other"), list(itertools.product(ADDRESSES, repeat=2)))
def test_claims_that_conflict(one: str, other: str) -> None:
    mine = asking(port(80, ip=one))
    wild = ("", "0.0.0.0", "::")
    assert conflict(mine, [asking(port(80, 81, ip=other))]) is (one in wild or other in wild or one == other)
    assert not conflict(mine, [asking(port(81, ip=other))])
    assert not conflict(mine, [asking(port(80, protocol="UDP", ip=other))])
    assert not conflict(mine, [])
    assert not conflict(asking(), [mine])


def test_pods_on_the_nodes_network_claim_ports() -> None:
    assert conflict(asking(port(80)), [asking(port(80), host_network=True)])


def test_elements() -> None:
    found = forwards(asking(port(0x1F90), port(0x1F91, 0x51, ip="172.30.0.11")), [V4, V6])
    layout = Layout(IPFamily.IPV4)
    made = layout.elements(found)
    assert made[layout.ports] == {b"\x06\0\0\0\x1f\x90\0\0": V4.packed + b"\0\x50\0\0"}
    assert made[layout.address_ports] == {HOST.packed + b"\x06\0\0\0\x1f\x91\0\0": V4.packed + b"\0\x51\0\0"}
    loopback = Address.parse("127.0.0.1").packed
    assert made[layout.hairpins].keys() == {V4.packed * 2, loopback + V4.packed}
    layout = Layout(IPFamily.IPV6)
    made = layout.elements(found)
    assert made[layout.ports] == {b"\x06\0\0\0\x1f\x90\0\0": V6.packed + b"\0\x50\0\0"}
    assert made[layout.address_ports] == {}
    assert made[layout.hairpins].keys() == {V6.packed * 2}
    assert not any(Layout(IPFamily.IPV6).elements([]).values())
