"""Real packets from a client, the node and a pod to every front end there is: each meets the fate that is computed.

One line of the table below is a Service and its endpoints; the destinations are all its front ends and some that
are none. What is compared: answered, refused or dropped; by which endpoint; and the address that it saw.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.integration.proxy.bed import (
    CLIENT,
    FAMILIES,
    GUEST,
    GUEST_BLOCK,
    NODE,
    NODE_CLIENT_SIDE,
    NODE_POD_SIDE,
    PORT,
    Bed,
    cluster_ip,
    pod,
)
from tests.integration.proxy.program import SURROUNDINGS, Program
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import LoadBalancerIngress, Service, ServicePort
from twinstack.api.discovery import EndpointPort
from twinstack.dataplane.fate import Origin, Outcome, Packet, fate
from twinstack.dataplane.model import Protocol, Target, Via
from twinstack.ip import Address, IPFamily
from twinstack.proxy.layout import PodInterface

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NOBODY = 0.15  # seconds without an answer that count as dropped
SLICE_PORTS = [
    EndpointPort(name="http", protocol="TCP", port=PORT),
    EndpointPort(name="dns", protocol="UDP", port=PORT),
]


class Case(NamedTuple):
    """A Service: more of its spec, and the pods behind it by number."""

    spec: dict[str, object]
    here: tuple[int, ...] = ()
    elsewhere: tuple[int, ...] = ()
    leaving: tuple[int, ...] = ()  # terminating, serving still, on this node
    external: bool = False  # with an external address a family
    balanced: bool = False  # with a load-balancer address a family, and one that a proxy in front answers on
    ranges: Sequence[str] = ()  # source ranges


GUEST_ONLY = [*map(str, GUEST_BLOCK.values()), "192.0.2.0/31", "2001:db8::/127"]
NODE_ONLY = [" 10.1.0.1/32", "fd00:1::1/128 "]

CASES = {
    "spread": Case({"type": "NodePort"}, here=(1, 2), elsewhere=(3,)),
    "local-inside": Case({"type": "NodePort", "internal_traffic_policy": "Local"}, here=(1,), elsewhere=(3, 4)),
    "none-inside": Case({"type": "NodePort", "internal_traffic_policy": "Local"}, elsewhere=(3,)),
    "leaving": Case({"type": "NodePort"}, leaving=(5,)),
    "empty": Case({"type": "NodePort"}),
    "sticky": Case({"type": "NodePort", "session_affinity": "ClientIP"}, here=(1, 2), elsewhere=(3,)),
    "local": Case({"type": "NodePort", "external_traffic_policy": "Local"}, here=(1, 2), elsewhere=(3,)),
    "local-none": Case({"type": "NodePort", "external_traffic_policy": "Local"}, elsewhere=(3, 4)),
    "local-leaving": Case({"type": "NodePort", "external_traffic_policy": "Local"}, elsewhere=(3,), leaving=(5,)),
    "local-empty": Case({"type": "NodePort", "external_traffic_policy": "Local"}),
    "local-sticky": Case(
        {"type": "NodePort", "external_traffic_policy": "Local", "session_affinity": "ClientIP"},
        here=(1, 2),
        elsewhere=(3, 4),
    ),
    "external": Case({}, here=(1,), elsewhere=(3,), external=True),
    "external-local": Case({"external_traffic_policy": "Local"}, here=(1,), elsewhere=(3,), external=True),
    "external-empty": Case({}, external=True),
    "balanced": Case({"type": "LoadBalancer"}, here=(1,), elsewhere=(3,), balanced=True),
    "balanced-local": Case(
        {"type": "LoadBalancer", "external_traffic_policy": "Local"}, elsewhere=(3,), balanced=True, external=True
    ),
    "guarded": Case({"type": "LoadBalancer"}, here=(1,), elsewhere=(3,), balanced=True, ranges=GUEST_ONLY),
    "guarded-node": Case({"type": "LoadBalancer"}, here=(1,), balanced=True, ranges=NODE_ONLY),
    "guarded-local": Case(
        {"type": "LoadBalancer", "external_traffic_policy": "Local", "session_affinity": "ClientIP"},
        here=(1,),
        elsewhere=(3,),
        balanced=True,
        ranges=GUEST_ONLY,
    ),
    "guarded-empty": Case({"type": "LoadBalancer"}, balanced=True, ranges=GUEST_ONLY),
    "guarded-client": Case(
        {"type": "LoadBalancer", "external_traffic_policy": "Local"},
        elsewhere=(3,),
        balanced=True,
        ranges=[f"{address}/{prefix}" for address, prefix in zip(CLIENT.values(), (32, 128), strict=True)],
    ),
}


def object_of(number: int, name: str, case: Case) -> Service:
    ports = [
        ServicePort(name="http", protocol="TCP", port=80, node_port=30100 + number),
        ServicePort(name="dns", protocol="UDP", port=53, node_port=30100 + number),
    ]
    addresses = [cluster_ip(family, 100 + number) for family in FAMILIES]
    spec = dict(case.spec)
    if case.external:
        spec["external_ips"] = [f"192.0.2.{number + 1}", f"2001:db8:e::{number + 1}"]
    if case.ranges:
        spec["load_balancer_source_ranges"] = list(case.ranges)
    found = service(name, *addresses, ports=ports, **spec)
    if case.balanced:
        found.status.load_balancer.ingress = [
            LoadBalancerIngress(ip=f"198.51.100.{number + 1}"),
            LoadBalancerIngress(ip=f"2001:db8:f::{number + 1}", ip_mode="VIP"),
            LoadBalancerIngress(ip=f"203.0.113.{number + 1}", ip_mode="Proxy"),
            LoadBalancerIngress(hostname="lb.example"),
        ]
    return found


def fill(program: Program) -> None:
    for number, (name, case) in enumerate(CASES.items()):
        program.put(object_of(number, name, case))
        for family in FAMILIES:
            behind = [endpoint(pod(family, n), node=NODE) for n in case.here]
            behind += [endpoint(pod(family, n)) for n in case.elsewhere]
            behind += [endpoint(pod(family, n), node=NODE, ready=False, terminating=True) for n in case.leaving]
            program.put(slice_(name, family, behind, ports=SLICE_PORTS))


@pytest.fixture(scope="module")
def program(bed: Bed) -> Iterator[Program]:
    program = Program(bed)
    try:
        fill(program)
        yield program
    finally:
        program.close()
        bed.clear()


def observe(bed: Bed, place: Path, packet: Packet) -> tuple[Outcome, str, str]:
    """What became of a packet, who answered, and whom it saw."""
    kind = socket.SOCK_DGRAM if packet.protocol is Protocol.UDP else socket.SOCK_STREAM
    address = str(packet.destination)
    with bed.socket(place, packet.destination.family, kind, str(packet.source)) as asking:
        asking.settimeout(NOBODY)
        try:
            if packet.protocol is Protocol.UDP:
                asking.connect((address, packet.port))  # only then an ICMP error is told
                with contextlib.suppress(PermissionError):  # what the node's own rules stop is told at once, too
                    asking.send(b"?")
                answer = asking.recv(200)
            else:
                asking.connect((address, packet.port))
                answer = asking.recv(200)
        except TimeoutError:
            return Outcome.DROP, "", ""
        except ConnectionRefusedError:
            return Outcome.REJECT, "", ""
    who, seen = answer.decode().split()
    return Outcome.FORWARD, who, seen


def destinations(program: Program, family: IPFamily, name: str) -> list[tuple[Address, int, Protocol]]:
    """Every front end of a Service, and a port that it has not."""
    found = []
    for front_end in program.families[family].claims:
        slot = front_end.slot
        if front_end.name.service == name:
            address = slot.address or Address.parse(NODE_CLIENT_SIDE[family])
            found.append((address, slot.port, slot.protocol))
            if front_end.via is Via.CLUSTER_IP:
                found.append((address, slot.port + 1, slot.protocol))
    return found


@pytest.mark.parametrize("pods", [PodInterface("guest"), PodInterface("gue", is_prefix=True)], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_pods_are_known_by_their_interface(bed: Bed, pods: PodInterface, family: IPFamily) -> None:
    program = Program(bed, pods=pods)
    try:
        fill(program)
        for name in ("spread", "local", "local-none"):
            assert check(bed, program, name, family)
    finally:
        program.close()
        bed.clear()


@pytest.mark.parametrize("family", FAMILIES)
def test_without_known_pods_nobody_is_foreign_and_nobody_at_home(bed: Bed, family: IPFamily) -> None:
    program = Program(bed)
    try:
        for state in program.families.values():
            state.surroundings = state.surroundings._replace(local_pods=None)
        fill(program)
        for name in ("local-inside", "local-none"):
            assert check(bed, program, name, family)
    finally:
        program.close()
        bed.clear()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", CASES)
def test_packets_meet_their_computed_fate(bed: Bed, program: Program, name: str, family: IPFamily) -> None:
    assert Outcome.REJECT in check(bed, program, name, family)  # the port that no Service has


@pytest.mark.parametrize("family", FAMILIES)
def test_service_ports_without_local_endpoints_are_counted(program: Program, family: IPFamily) -> None:
    """Two ports each: of none-inside; of local-none, balanced-local and guarded-client."""
    assert program.metrics.no_local.value("internal", family) == 2
    assert program.metrics.no_local.value("external", family) == 6


def check(bed: Bed, program: Program, name: str, family: IPFamily) -> set[Outcome]:
    """Send the packets; returns what became of them."""
    state = program.families[family]
    claims, around = state.claims, state.surroundings
    places = [(Origin.ELSEWHERE, bed.client, CLIENT), (Origin.NODE, bed.node, NODE_CLIENT_SIDE)]
    places.append((Origin.LOCAL_POD, bed.guest, GUEST))
    seen = set()
    for address, port, protocol in destinations(program, family, name):
        for origin, place, source in places:
            packet = Packet(origin, address, port, protocol, Address.parse(source[family]))
            expected = fate(packet, claims, around)
            outcome, who, saw = observe(bed, place, packet)
            assert outcome is expected.outcome, (packet, expected)
            seen.add(outcome)
            if outcome is Outcome.FORWARD:
                assert Target(Address.parse(who), PORT) in expected.targets, (packet, expected)
                assert saw == (NODE_POD_SIDE if expected.masquerade else source)[family], (packet, expected)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_free_addresses_and_foreign_ones(bed: Bed, program: Program, family: IPFamily) -> None:
    claims, around = program.families[family].claims, SURROUNDINGS[family]
    client = Address.parse(CLIENT[family])
    free = Packet(Origin.ELSEWHERE, Address.parse(cluster_ip(family, 250)), 80, Protocol.TCP, client)
    assert fate(free, claims, around).outcome is Outcome.DROP
    assert observe(bed, bed.client, free)[0] is Outcome.DROP
    direct = Packet(Origin.ELSEWHERE, Address.parse(pod(family, 1)), PORT, Protocol.TCP, client)
    assert fate(direct, claims, around).outcome is Outcome.PASS
    assert observe(bed, bed.client, direct) == (Outcome.FORWARD, pod(family, 1), CLIENT[family])


def test_nft_lists_every_kind_of_element(bed: Bed, program: Program) -> None:
    bed.nft("-j", "list", "ruleset")
    for shown in ("ip", "ip6"):
        table = bed.nft("list", "table", shown, "twinstack-proxy")
        for name in (
            "guard",
            "external-local-1",
            "node-port-local-2-affinity-10800",
            "near-2",
            "near-port-3",
            "external-2",
        ):
            assert f"chain {name} {{" in table
        for kind, name in re.findall(r"^\t(map|set|chain) (\S+) {", table, re.MULTILINE):
            assert bed.nft("list", kind, shown, "twinstack-proxy", name)  # a word of nft's own is refused as name
        assert "198.51.100" in table or "2001:db8:f::" in table


def test_a_restart_finds_everything_in_its_place(bed: Bed, program: Program) -> None:
    """The last test here: another program takes the tables over, with all the same state, and writes no element."""
    program.close()
    second = Program(bed)
    try:
        for number, (name, case) in enumerate(CASES.items()):
            second.tracker.put_service(object_of(number, name, case))
        second.tracker._slices = program.tracker._slices
        second.sync()
        assert second.operations == 0
        assert second.writer.transactions == len(FAMILIES)  # to take the two tables over
        for number, (name, case) in enumerate(CASES.items()):
            second.remove(object_of(number, name, case))
        listed = bed.nft("list", "ruleset")
        assert not re.search(
            r"(192\.0\.2\.|2001:db8:|10\.96\.0\.1\d\d)",
            re.sub(r"(node-port-)?clients {.*?\n\t}", "", listed, flags=re.DOTALL),
        )
    finally:
        second.close()
