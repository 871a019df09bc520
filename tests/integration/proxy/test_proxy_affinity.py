"""Clients that stay with their endpoint, and Services with very many endpoints, in the real kernel, both families."""

from __future__ import annotations

import itertools
import os
import socket
import time

import pytest
from tests.integration.proxy.bed import (
    CLIENTS,
    FAMILIES,
    NODE,
    NODE_CLIENT_SIDE,
    PORT,
    Bed,
    ask_datagram,
    client,
    cluster_ip,
    crowd,
    pod,
)
from tests.integration.proxy.probes import Probe, observe
from tests.integration.proxy.program import Program
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import ClientIPConfig, Service, ServicePort, SessionAffinityConfig
from twinstack.api.discovery import EndpointPort, EndpointSlice
from twinstack.dataplane.model import Protocol
from twinstack.ip import IPFamily
from twinstack.proxy import layout

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PROTOCOLS = {Protocol.TCP: 80, Protocol.UDP: 53}
PORTS = [
    ServicePort(name="http", protocol="TCP", port=80, node_port=30080),
    ServicePort(name="dns", protocol="UDP", port=53, node_port=30053),
]
SLICE_PORTS = [EndpointPort(name="http", port=PORT), EndpointPort(name="dns", protocol="UDP", port=PORT)]
MANY = 4100  # just above a power of two: every second index drawn has no endpoint


def sticky(seconds: int = 60) -> Service:
    config = SessionAffinityConfig(ClientIPConfig(seconds))
    addresses = [cluster_ip(family) for family in FAMILIES]
    more = {"session_affinity": "ClientIP", "session_affinity_config": config}
    return service("web", *addresses, ports=PORTS, type="NodePort", **more)


def endpoints(family: IPFamily, *numbers: int) -> EndpointSlice:
    return slice_("web", family, [endpoint(pod(family, n), node=NODE) for n in numbers], ports=SLICE_PORTS)


def choices(bed: Bed, family: IPFamily, address: str, port: int) -> list[str]:
    """Who answers each of the clients."""
    return [bed.ask(bed.client, address, port, source=client(family, n))[0] for n in range(CLIENTS)]


@pytest.mark.parametrize("by_port", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_clients_are_spread_and_stay(bed: Bed, program: Program, family: IPFamily, by_port: bool) -> None:
    program.put(sticky(), endpoints(family, 1, 2, 3))
    front = (NODE_CLIENT_SIDE[family], 30080) if by_port else (cluster_ip(family), 80)
    first = choices(bed, family, *front)
    assert set(first) == {pod(family, n) for n in (1, 2, 3)}
    assert choices(bed, family, *front) == first
    program.put(endpoints(family, 1, 2, 3, 4))  # one more moves nobody
    assert choices(bed, family, *front) == first


@pytest.mark.parametrize("family", FAMILIES)
def test_clients_of_an_endpoint_that_goes_choose_again(bed: Bed, program: Program, family: IPFamily) -> None:
    program.put(sticky(), endpoints(family, 1, 2, 3))
    first = choices(bed, family, cluster_ip(family), 80)
    program.put(endpoints(family, 3, 1))
    second = choices(bed, family, cluster_ip(family), 80)
    assert {pod(family, 1), pod(family, 3)} == set(second)
    assert all(new == old for old, new in zip(first, second, strict=True) if old != pod(family, 2))
    program.put(endpoints(family, 3, 1, 2))  # who came back is a new endpoint
    assert choices(bed, family, cluster_ip(family), 80) == second
    program.put(endpoints(family))
    with pytest.raises(ConnectionRefusedError):
        bed.ask(bed.client, cluster_ip(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_restart_forgets_no_client_and_uses_no_slot_twice(bed: Bed, program: Program, family: IPFamily) -> None:
    program.put(sticky(), endpoints(family, 1, 2, 3))
    first = choices(bed, family, cluster_ip(family), 80)
    program.put(endpoints(family, 1, 2))  # clients of the third keep its slot until they come again
    program.close()
    second = Program(bed)
    try:
        second.tracker.put_service(sticky())
        second.put(endpoints(family, 1, 2))
        assert second.operations == 0
        second.put(endpoints(family, 1, 2, 4))
        again = choices(bed, family, cluster_ip(family), 80)
        assert all(new == old for old, new in zip(first, again, strict=True) if old != pod(family, 3))
        moved = {new for old, new in zip(first, again, strict=True) if old == pod(family, 3)}
        assert moved <= {pod(family, n) for n in (1, 2, 4)}
        assert choices(bed, family, cluster_ip(family), 80) == again
    finally:
        second.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_that_stays_away_is_forgotten(bed: Bed, program: Program, family: IPFamily) -> None:
    program.put(sticky(seconds=1), endpoints(family, 1, 2, 3))
    first = choices(bed, family, cluster_ip(family), 80)
    time.sleep(1.2)
    assert choices(bed, family, cluster_ip(family), 80) != first  # by chance once in 3 ** 30


def test_clients_that_keep_coming_stay_while_other_endpoints_come_and_go(bed: Bed, program: Program) -> None:
    """Their time begins anew with each connection."""
    timeout = 1
    probes = [
        Probe(bed.client, client(family, 1), protocol, cluster_ip(family), port)
        for family in FAMILIES
        for protocol, port in PROTOCOLS.items()
    ]
    for _ in range(20):  # on a busy machine the clients may be late themselves: then once more
        program.put(sticky(timeout), *(endpoints(family, 1, 2, 3) for family in FAMILIES))
        mine = [each.who for each in observe(probes)]
        kept = {family: [n for n in (1, 2, 3) if pod(family, n) in mine] for family in FAMILIES}
        others = itertools.cycle([(4,), (5, 4), (), (1, 2, 3, 5)])
        came = [mine]
        started = last = time.monotonic()
        longest = 0.0
        while time.monotonic() < started + 1.5 * timeout:
            time.sleep(timeout / 8)
            more = next(others)
            program.put(*(endpoints(family, *{*kept[family], *more}) for family in FAMILIES))
            came.append([each.who for each in observe(probes)])
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        if longest < 0.9 * timeout:
            assert came == [mine] * len(came)
            return
    raise AssertionError("this machine is too slow to come again in time")


@pytest.mark.parametrize("family", FAMILIES)
def test_clients_beyond_the_most_are_spread_and_served(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, family: IPFamily
) -> None:
    monkeypatch.setattr(layout, "MOST_CLIENTS", 4)
    program = Program(bed)
    try:
        program.put(sticky(), endpoints(family, 1, 2, 3))
        first, second = (choices(bed, family, cluster_ip(family), 80) for _ in range(2))
        assert set(first) == {pod(family, n) for n in (1, 2, 3)}
        assert first[:4] == second[:4]
        assert first != second  # by chance once in 3 ** 26
    finally:
        program.close()
        bed.clear()


@pytest.mark.parametrize("family", FAMILIES)
def test_datagrams_stay_too(bed: Bed, program: Program, family: IPFamily) -> None:
    program.put(sticky(), endpoints(family, 1, 2, 3))
    for number in range(6):
        seen = set()
        for _ in range(4):
            with bed.socket(bed.client, family, socket.SOCK_DGRAM, client(family, number)) as asking:
                seen.add(ask_datagram(asking, cluster_ip(family), 53)[0])
        assert len(seen) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_affinity_comes_and_goes(bed: Bed, program: Program, family: IPFamily) -> None:
    loose = service("web", *(cluster_ip(f) for f in FAMILIES), ports=PORTS, type="NodePort")
    program.put(loose, endpoints(family, 1, 2, 3))
    assert len({bed.ask(bed.client, cluster_ip(family))[0] for _ in range(40)}) == 3
    program.put(sticky())
    assert len({bed.ask(bed.client, cluster_ip(family))[0] for _ in range(10)}) == 1
    program.put(loose)
    assert len({bed.ask(bed.client, cluster_ip(family))[0] for _ in range(40)}) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_clients_stay_with_one_of_very_many_endpoints(bed: Bed, program: Program, family: IPFamily) -> None:
    slices = [
        slice_(
            "web",
            family,
            [endpoint(crowd(family, n), node=NODE) for n in range(start + 1, min(start + 1000, MANY) + 1)],
            ports=SLICE_PORTS,
            suffix=str(start),
        )
        for start in range(0, MANY, 1000)
    ]
    program.put(sticky(), *slices)
    first = choices(bed, family, cluster_ip(family), 80)
    assert choices(bed, family, cluster_ip(family), 80) == first
    assert len(set(first)) > CLIENTS - 5
    before = program.operations
    program.put(slice_("web", family, [endpoint(crowd(family, 5000))], ports=SLICE_PORTS, suffix="more"))
    assert program.operations - before == 12  # a target, a pick and a slot at each of two ports' two front ends
