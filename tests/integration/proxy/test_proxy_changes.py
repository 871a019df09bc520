"""Services change in every way there is while they are used: who uses what stays notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.proxy.bed import CLIENT, FAMILIES, NODE, NODE_CLIENT_SIDE, PORT, Bed, cluster_ip, pod
from tests.integration.proxy.probes import Heard, Probe, observe
from tests.integration.proxy.steady import Companions, Destination, Steady
from tests.integration.proxy.world import World, play
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import LoadBalancerIngress, Service, ServicePort
from twinstack.api.discovery import EndpointPort, EndpointSlice
from twinstack.dataplane.model import Protocol
from twinstack.ip import IPFamily
from twinstack.linux import namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

V4, V6 = FAMILIES
NUMBER, NODE_PORT = 60, 30060
RATE = 200  # new flows a second to each destination
PAUSE = 0.15  # seconds between changes
SLICE_PORTS = [EndpointPort(name="http", port=PORT), EndpointPort(name="dns", protocol="UDP", port=PORT)]


def used(name: str = "used", families: list[IPFamily] | None = None, node_port: int = 0, **spec: Any) -> Service:
    ports = [
        ServicePort(name="http", port=80, node_port=node_port),
        ServicePort(name="dns", protocol="UDP", port=53, node_port=node_port),
    ]
    families = FAMILIES if families is None else families
    addresses = [cluster_ip(family, NUMBER) for family in families]
    return service(name, *addresses, ports=ports, ip_families=[str(family) for family in families], **spec)


def balanced(**spec: Any) -> Service:
    found = used(type="LoadBalancer", node_port=NODE_PORT, **spec)
    found.status.load_balancer.ingress = [LoadBalancerIngress(ip="198.51.100.60"), LoadBalancerIngress(ip="fd00:9::60")]
    return found


def slices(name: str = "used", numbers: Iterable[int] = (1, 2, 3)) -> list[EndpointSlice]:
    behind = {family: [endpoint(pod(family, n), node=NODE) for n in numbers] for family in FAMILIES}
    return [slice_(name, family, found, ports=SLICE_PORTS) for family, found in behind.items()]


def destinations(*families: IPFamily) -> list[Destination]:
    return [
        Destination(cluster_ip(family, NUMBER), port, protocol)
        for family in families
        for port, protocol in ((80, Protocol.TCP), (53, Protocol.UDP))
    ]


def node_ports() -> list[Destination]:
    protocols = (Protocol.TCP, Protocol.UDP)
    return [Destination(NODE_CLIENT_SIDE[f], NODE_PORT, protocol) for f in FAMILIES for protocol in protocols]


def put(world: World, *objects: Service | EndpointSlice) -> None:
    for obj in objects:
        world.cluster.put("services" if isinstance(obj, Service) else "endpointslices", obj)


async def hears(world: World, address: str, port: int, expected: Heard) -> None:
    """Wait until a new TCP connection meets this."""
    family = V6 if ":" in address else V4
    probe = Probe(world.bed.client, CLIENT[family], Protocol.TCP, address, port)
    deadline = time.monotonic() + 60
    while (found := (await asyncio.to_thread(observe, [probe], [0]))[0].heard) is not expected:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.01)


REFUSED, NOBODY = "refused", "nobody"


class Talk:
    """One long flow of datagrams."""

    def __init__(self, bed: Bed, destination: Destination) -> None:
        self.family = destination.family
        self._bed = bed
        self._destination = destination

    def __enter__(self) -> Talk:
        self._sock = namespaces.inside(self._bed.client, lambda: socket.socket(self.family.af, socket.SOCK_DGRAM))
        self._sock.settimeout(0.3)
        self._sock.connect(self._destination[:2])
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    async def comes_to(self, expected: str) -> None:
        """Wait until the next datagram meets this."""
        deadline = time.monotonic() + 60
        while (found := await asyncio.to_thread(self._ask)) != expected:
            assert time.monotonic() < deadline, (self._destination, found, expected)
            await asyncio.sleep(0.01)

    def _ask(self) -> str:
        try:
            self._sock.send(b"?")
            return self._sock.recv(200).decode().split()[0]
        except ConnectionRefusedError:
            return REFUSED
        except TimeoutError:
            return NOBODY


def test_families_come_and_go(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        put(world, used(families=[V4]), *slices())
        async with world.proxy():
            await hears(world, cluster_ip(V4, NUMBER), 80, Heard.ANSWER)
            with Companions(bed, destinations(V4), 3) as companions, Steady(bed, destinations(V4), RATE) as steady:
                for _ in range(2):
                    await hears(world, cluster_ip(V6, NUMBER), 80, Heard.NOTHING)
                    put(world, used())
                    await hears(world, cluster_ip(V6, NUMBER), 80, Heard.ANSWER)
                    put(world, used(families=[V4]))
                await hears(world, cluster_ip(V6, NUMBER), 80, Heard.NOTHING)
                await asyncio.to_thread(companions.talk)
        assert len(steady.flows) > RATE
        assert steady.lost == []

    play(bed, tmp_path, scenario)


def test_types_policies_and_affinity_change(bed: Bed, tmp_path: Path) -> None:
    plain = used()
    by_port = [
        used(type="NodePort", node_port=NODE_PORT),
        used(type="NodePort", node_port=NODE_PORT, external_traffic_policy="Local"),
        used(type="NodePort", node_port=NODE_PORT, session_affinity="ClientIP"),
        balanced(session_affinity="ClientIP", external_traffic_policy="Local"),
        balanced(load_balancer_source_ranges=["192.0.2.0/24"], external_ips=["198.51.100.61"]),
        balanced(internal_traffic_policy="Local"),
    ]

    async def scenario(world: World) -> None:
        put(world, plain, *slices())
        async with world.proxy():
            for family in FAMILIES:
                await hears(world, cluster_ip(family, NUMBER), 80, Heard.ANSWER)
            with Steady(bed, destinations(*FAMILIES), RATE) as steady:
                await hears(world, NODE_CLIENT_SIDE[V6], NODE_PORT, Heard.REFUSAL)
                put(world, by_port[0])
                for family in FAMILIES:
                    await hears(world, NODE_CLIENT_SIDE[family], NODE_PORT, Heard.ANSWER)
                with Companions(bed, node_ports()[::2], 3) as companions:
                    with Steady(bed, node_ports(), RATE) as at_ports:
                        for each in (*by_port, *reversed(by_port)):
                            put(world, each)
                            await asyncio.sleep(PAUSE)
                    put(world, plain)
                    for family in FAMILIES:
                        await hears(world, NODE_CLIENT_SIDE[family], NODE_PORT, Heard.REFUSAL)
                    await asyncio.to_thread(companions.talk)  # what began at a port goes on
        assert len(at_ports.flows) > RATE
        assert steady.lost == []
        assert at_ports.lost == []

    play(bed, tmp_path, scenario)


@pytest.mark.parametrize("name", ["used", "heir"])
def test_a_service_comes_back_with_the_same_address(bed: Bed, tmp_path: Path, name: str) -> None:
    """As `kubectl replace --force` does it: the slices go with their Service, and new ones come after the new one."""

    async def scenario(world: World) -> None:
        put(world, used(), *slices())
        async with world.proxy():
            for family in FAMILIES:
                await hears(world, cluster_ip(family, NUMBER), 80, Heard.ANSWER)
            with (
                Companions(bed, destinations(*FAMILIES), 3) as companions,
                Steady(bed, destinations(*FAMILIES), RATE) as steady,
            ):
                before, after = ("used", name), (name, "used")
                for gone, new in (before, after, before):
                    await asyncio.sleep(PAUSE)
                    world.cluster.remove("services", used(gone))
                    await asyncio.sleep(0.01)
                    for each in slices(gone):
                        world.cluster.remove("endpointslices", each)
                    await asyncio.sleep(0.01)
                    put(world, used(new))
                    await asyncio.sleep(0.01)
                    put(world, *slices(new))
                await asyncio.sleep(0.5)
                await asyncio.to_thread(companions.talk)
        assert steady.lost == []

    play(bed, tmp_path, scenario)


def test_flows_of_datagrams_follow_their_service(bed: Bed, tmp_path: Path) -> None:
    """A flow that has no connection ends with what it was sent to: nobody else would tell the client."""

    async def scenario(world: World) -> None:
        put(world, used(type="NodePort", node_port=NODE_PORT), *slices(numbers=[1]))
        async with world.proxy():
            for family in FAMILIES:
                await hears(world, cluster_ip(family, NUMBER), 80, Heard.ANSWER)
            with contextlib.ExitStack() as stack:
                at_service, at_port = (
                    [stack.enter_context(Talk(bed, each)) for each in every if each.protocol is Protocol.UDP]
                    for every in (destinations(*FAMILIES), node_ports())
                )
                talks = (*at_service, *at_port)
                for talk in talks:
                    await talk.comes_to(pod(talk.family, 1))
                put(world, *slices(numbers=[2]))
                for talk in talks:
                    await talk.comes_to(pod(talk.family, 2))
                put(world, *slices(numbers=[]))
                for talk in talks:
                    await talk.comes_to(REFUSED)
                put(world, *slices(numbers=[3]))
                for talk in talks:
                    await talk.comes_to(pod(talk.family, 3))
                put(world, used())
                for talk in at_port:
                    await talk.comes_to(REFUSED)  # by the node itself
                put(world, used(families=[V4]))
                await at_service[1].comes_to(NOBODY)
                await at_service[0].comes_to(pod(V4, 3))

    play(bed, tmp_path, scenario)
