"""Traffic through Services in the real kernel: client, node and pods in namespaces of their own, both families."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import pytest
from tests.integration.proxy.bed import (
    FAMILIES,
    NODE,
    NODE_CLIENT_SIDE,
    PORT,
    Bed,
    ask_datagram,
    cluster_ip,
    pod,
)
from tests.integration.proxy.program import Program
from tests.integration.proxy.steady import Destination, Steady
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import Service, ServicePort
from twinstack.api.discovery import EndpointPort, EndpointSlice
from twinstack.dataplane.model import Protocol, Slot, Target
from twinstack.ip import Address, IPFamily
from twinstack.proxy.conntrack import Job, clean

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PORTS = [
    ServicePort(name="http", protocol="TCP", port=80, node_port=30080),
    ServicePort(name="dns", protocol="UDP", port=53, node_port=30053),
]
SECONDS = 30.0 if os.environ.get("TWINSTACK_TESTS") == "soak" else 3.0
RATE = 150  # new flows a second to each destination
SLICE_PORTS = [
    EndpointPort(name="http", protocol="TCP", port=PORT),
    EndpointPort(name="dns", protocol="UDP", port=PORT),
]


def web(name: str = "web", number: int = 10, **spec: Any) -> Service:
    return service(name, *(cluster_ip(family, number) for family in FAMILIES), ports=PORTS, type="NodePort", **spec)


def endpoints(family: IPFamily, *numbers: int, owner: str = "web") -> EndpointSlice:
    return slice_(owner, family, [endpoint(pod(family, n), node=NODE) for n in numbers], ports=SLICE_PORTS)


def refused_after(bed: Bed, address: str, port: int) -> float:
    """Seconds until the client hears that nobody answers."""
    started = time.perf_counter()
    with pytest.raises(ConnectionRefusedError):
        bed.ask(bed.client, address, port)
    return time.perf_counter() - started


@pytest.mark.parametrize("family", FAMILIES)
def test_udp_flows_stay_and_new_ones_are_spread(bed: Bed, program: Program, family: IPFamily) -> None:
    program.put(web(), endpoints(family, 1, 2, 3))
    seen = set()
    for _ in range(40):
        with bed.socket(bed.client, family, socket.SOCK_DGRAM) as asking:
            answers = {ask_datagram(asking, cluster_ip(family), 53)[0] for _ in range(3)}
            assert len(answers) == 1
            seen |= answers
    assert seen == {pod(family, n) for n in (1, 2, 3)}


@pytest.mark.parametrize("family", FAMILIES)
def test_without_endpoints_clients_are_refused_at_once(bed: Bed, program: Program, family: IPFamily) -> None:
    program.put(web(), endpoints(family.other, 1))
    for address, port in ((cluster_ip(family), 80), (cluster_ip(family), 81), (NODE_CLIENT_SIDE[family], 30080)):
        assert refused_after(bed, address, port) < 0.05
    with bed.socket(bed.client, family, socket.SOCK_DGRAM) as asking:
        asking.connect((cluster_ip(family), 53))
        asking.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            asking.recv(10)
    program.put(endpoints(family, 1))
    assert bed.ask(bed.client, cluster_ip(family))[0] == pod(family, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_removed_endpoint_gets_nothing_new(bed: Bed, program: Program, family: IPFamily) -> None:
    program.put(web(), endpoints(family, 1, 2, 3))
    program.put(endpoints(family, 2, 3))
    assert {bed.ask(bed.client, cluster_ip(family))[0] for _ in range(60)} == {pod(family, 2), pod(family, 3)}
    program.put(endpoints(family, 2, 3, 4, 5))
    assert len({bed.ask(bed.client, cluster_ip(family))[0] for _ in range(100)}) == 4
    program.remove(web())
    with bed.socket(bed.client, family, socket.SOCK_STREAM) as asking:
        asking.settimeout(0.3)
        with pytest.raises(TimeoutError):  # the address is free now
            asking.connect((cluster_ip(family), 80))


@pytest.mark.parametrize("family", FAMILIES)
def test_connections_last_when_their_service_changes(bed: Bed, program: Program, family: IPFamily) -> None:
    program.put(web(), endpoints(family, 1))
    with bed.socket(bed.client, family, socket.SOCK_DGRAM) as asking:
        assert ask_datagram(asking, cluster_ip(family), 53)[0] == pod(family, 1)
        program.put(endpoints(family, 1, 2))
        assert ask_datagram(asking, cluster_ip(family), 53)[0] == pod(family, 1)


def test_no_flow_is_lost_in_any_class_while_endpoints_flicker(bed: Bed, program: Program) -> None:
    """A packet may read a class that a commit then makes smaller: its look-up of the index must not miss."""
    specs: dict[str, dict[str, Any]] = {
        "plain": {},
        "sticky": {"session_affinity": "ClientIP"},
        "local": {"external_traffic_policy": "Local"},
        "near": {"external_traffic_policy": "Local", "session_affinity": "ClientIP"},
    }
    from_client, from_node = list[Destination](), list[Destination]()
    for number, (name, spec) in enumerate(specs.items()):
        ports = [ServicePort(name=p.name, protocol=p.protocol, port=p.port, node_port=30090 + number) for p in PORTS]
        addresses = [cluster_ip(family, 20 + number) for family in FAMILIES]
        program.take(service(name, *addresses, ports=ports, type="NodePort", **spec))
        for family in FAMILIES:
            for protocol, port in ((Protocol.TCP, 80), (Protocol.UDP, 53)):
                if "external_traffic_policy" not in spec:
                    from_client.append(Destination(cluster_ip(family, 20 + number), port, protocol))
                else:
                    every = from_client if name == "local" else from_node
                    every.append(Destination(NODE_CLIENT_SIDE[family], 30090 + number, protocol))

    def flicker(*numbers: int) -> None:
        program.put(*(endpoints(family, *numbers, owner=name) for family in FAMILIES for name in specs))

    flicker(1)
    flips = 0
    with Steady(bed, from_client, RATE) as outside, Steady(bed, from_node, RATE, on_node=True) as inside:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline or flips < 50:
            flicker(1, 2, 3, 4, 5)
            flicker(1)
            flips += 2
            time.sleep(0.001)  # for the clients, which share this process
    print(f"{flips} flips, {len(outside.flows)} flows of the client, {len(inside.flows)} of the node")
    assert outside.lost == []
    assert inside.lost == []
    assert {flow.destination for flow in (*outside.flows, *inside.flows)} == {*from_client, *from_node}


@pytest.mark.parametrize("family", FAMILIES)
def test_udp_flows_are_cut_from_endpoints_that_are_gone(bed: Bed, program: Program, family: IPFamily) -> None:
    program.put(web(), endpoints(family, 1))
    slot = Slot(Address.parse(cluster_ip(family)), 53, Protocol.UDP)
    node_port = Slot(None, 30053, Protocol.UDP)
    node_ips = frozenset([Address.parse(NODE_CLIENT_SIDE[family])])
    with (
        bed.socket(bed.client, family, socket.SOCK_DGRAM) as asking,
        bed.socket(bed.client, family, socket.SOCK_DGRAM) as by_port,
    ):
        assert ask_datagram(asking, cluster_ip(family), 53)[0] == pod(family, 1)
        assert ask_datagram(by_port, NODE_CLIENT_SIDE[family], 30053)[0] == pod(family, 1)
        program.put(endpoints(family, 2))
        serving = frozenset([Target(Address.parse(pod(family, 2)), PORT)])
        jobs = {slot: Job(serving, node_ips), node_port: Job(serving, node_ips)}
        assert bed.on_node(lambda: clean(family, jobs)) >= 2  # other tests left some too
        assert bed.on_node(lambda: clean(family, jobs)) == 0
        assert ask_datagram(asking, cluster_ip(family), 53)[0] == pod(family, 2)
        assert ask_datagram(by_port, NODE_CLIENT_SIDE[family], 30053)[0] == pod(family, 2)
        # With many front ends the table is read once instead.
        many = jobs | {
            Slot(Address.parse(cluster_ip(family, n)), 53, Protocol.UDP): Job(serving, node_ips) for n in range(20, 40)
        }
        program.put(endpoints(family, 3))
        gone = {slot: Job(frozenset(), job.node_ips) for slot, job in many.items()}
        assert bed.on_node(lambda: clean(family, gone)) >= 2


@pytest.mark.parametrize("own", [True, False])
def test_a_restart_writes_nothing_and_interrupts_nothing(bed: Bed, own: bool) -> None:
    services = [web(), service("other", cluster_ip(FAMILIES[0], 11))]
    first = Program(bed, own=own)
    try:
        first.put(*services, *(endpoints(f, 1, 2, 3) for f in FAMILIES))
        first.put(*(endpoints(f, 3, 4, 2) for f in FAMILIES))  # leave the order of a history behind
        before = bed.nft("list", "ruleset")
    finally:
        first.close()
    assert bed.ask(bed.client, cluster_ip(FAMILIES[0]))[0] in {pod(FAMILIES[0], n) for n in (2, 3, 4)}
    second = Program(bed, own=own)
    try:
        second.put(*services, *(endpoints(f, 2, 3, 4) for f in FAMILIES))
        assert second.operations == 0
        assert second.writer.transactions == (2 if own else 0)  # to take the two tables over
        assert bed.nft("list", "ruleset") == before
        second.put(endpoints(FAMILIES[1], 1))
        assert bed.ask(bed.client, cluster_ip(FAMILIES[1]))[0] == pod(FAMILIES[1], 1)
    finally:
        second.close()
        bed.clear()


def test_a_restart_corrects_what_changed_meanwhile(bed: Bed, program: Program) -> None:
    family = FAMILIES[1]
    program.put(web(), web("gone", 12), endpoints(family, 1, 2, 3), endpoints(family, 1, owner="gone"))
    program.close()
    stray = f"{cluster_ip(family, 77)} . tcp . 80 . 0x00000005 : {pod(family, 1)} . 80"
    bed.nft("add", "element", "ip6", "twinstack-proxy", "endpoints", "{", stray, "}")
    second = Program(bed)
    try:
        second.put(web(), endpoints(family, 4))
        assert {bed.ask(bed.client, cluster_ip(family))[0] for _ in range(20)} == {pod(family, 4)}
        assert cluster_ip(family, 77) not in bed.nft("list", "ruleset")
        assert cluster_ip(family, 12) not in bed.nft("list", "ruleset")
    finally:
        second.close()


def test_a_table_of_another_version_is_replaced(bed: Bed, program: Program) -> None:
    family = FAMILIES[0]
    program.put(web(), endpoints(family, 1))
    program.close()
    bed.nft("delete", "rule", "ip", "twinstack-proxy", "refuse", "handle", _handle(bed, "reject with tcp reset"))
    second = Program(bed)
    try:
        second.put(web(), endpoints(family, 1))
        assert "reject with tcp reset" in bed.nft("list", "table", "ip", "twinstack-proxy")
        assert bed.ask(bed.client, cluster_ip(family))[0] == pod(family, 1)
    finally:
        second.close()


def _handle(bed: Bed, rule: str) -> str:
    listed = bed.nft("-a", "list", "table", "ip", "twinstack-proxy").splitlines()
    return next(line for line in listed if rule in line).rsplit("handle ", 1)[1]


def test_a_flush_passes_an_owned_table_by(bed: Bed, program: Program) -> None:
    family = FAMILIES[1]
    program.put(web(), endpoints(family, 1))
    bed.nft("flush", "ruleset")
    assert bed.ask(bed.client, cluster_ip(family))[0] == pod(family, 1)
    program.put(endpoints(family, 2))  # the flush moved the generation on; the table is still ours
    assert bed.ask(bed.client, cluster_ip(family))[0] == pod(family, 2)
    assert program.metrics.failures.value(family) == 0
