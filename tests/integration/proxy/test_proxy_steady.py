"""Steady traffic loses nothing while endpoints come, leave and are replaced, and while the proxy dies and returns."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.proxy.bed import FAMILIES, NODE, PORT, Bed, cluster_ip, crowd, pod
from tests.integration.proxy.steady import Companions, Destination, Steady
from tests.integration.proxy.world import World, play
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import ServicePort
from twinstack.api.discovery import EndpointPort
from twinstack.dataplane.model import Protocol
from twinstack.ip import IPFamily

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
SECONDS = 60.0 if SOAK else 5.0
RATE = 500  # new flows a second, of each protocol in each family
TICK = 0.1  # seconds between changes of the endpoints
READY, LEAVING = 4, 5  # endpoints that take new flows, and those of before that serve on
BLIND = 5.0  # seconds that a change may take to be obeyed on a machine with other things to do

NUMBER = 40  # of the Service's address
PORTS = [ServicePort(name="http", port=80), ServicePort(name="dns", protocol="UDP", port=53)]
SLICE_PORTS = [EndpointPort(name="http", port=PORT), EndpointPort(name="dns", protocol="UDP", port=PORT)]
DESTINATIONS = [
    Destination(cluster_ip(family, NUMBER), port, protocol)
    for family in FAMILIES
    for port, protocol in ((80, Protocol.TCP), (53, Protocol.UDP))
]


class Churn:
    """Endpoints that take turns: each becomes ready, serves on while it leaves, and is gone."""

    def __init__(self, world: World, family: IPFamily) -> None:
        self.left: dict[str, float] = {}  # endpoint → when it was told to take no new flows
        self._world = world
        self._family = family
        self._next = READY
        self._ready = deque(range(READY))
        self._leaving: deque[int] = deque()
        self._tell()

    @property
    def present(self) -> set[str]:
        """Who may serve a flow that has begun."""
        return {self._address(number) for number in (*self._ready, *self._leaving)}

    def step(self) -> None:
        """One leaves, one that left is gone, and there is a new one."""
        self._ready.append(self._next)
        self._next += 1
        oldest = self._ready.popleft()
        self._leaving.append(oldest)
        self.left[self._address(oldest)] = time.monotonic()
        if len(self._leaving) > LEAVING:
            self._leaving.popleft()
        self._tell()

    def _address(self, number: int) -> str:
        return crowd(self._family, 1 + number)

    def _tell(self) -> None:
        found = [endpoint(self._address(n), node=NODE) for n in self._ready]
        found += [endpoint(self._address(n), node=NODE, ready=False, terminating=True) for n in self._leaving]
        self._world.cluster.put("endpointslices", slice_("steady", self._family, found, ports=SLICE_PORTS))


async def churn(every: list[Churn], seconds: float, also: Callable[[], object] = lambda: None) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for each in every:
            each.step()
        await asyncio.to_thread(also)
        await asyncio.sleep(TICK)


def delays(steady: Steady, every: list[Churn], dead: tuple[float, float]) -> list[float]:
    """For flows that went to endpoints that had been told to leave: for how long. Not counted: a dead proxy's time."""
    left = {address: when for each in every for address, when in each.left.items()}
    back = {address: dead[1] if dead[0] <= when <= dead[1] else when for address, when in left.items()}
    return [flow.started - back[flow.who] for flow in steady.flows if back.get(flow.who, flow.started) < flow.started]


def test_no_flow_is_lost(bed: Bed, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.cluster.put("services", service("steady", *(cluster_ip(f, NUMBER) for f in FAMILIES), ports=PORTS))
        every = [Churn(world, family) for family in FAMILIES]
        async with world.proxy() as first:
            for family in FAMILIES:
                await world.answers(family, pod(family, 1))
            with Companions(bed, DESTINATIONS, 5) as companions, Steady(bed, DESTINATIONS, RATE) as steady:
                await churn(every, SECONDS / 3, companions.talk)
                first.kill()
                await first.communicate()
                died = time.monotonic()
                await churn(every, SECONDS / 6, companions.talk)
                async with world.proxy():
                    await world.runs()
                    dead = (died - TICK, time.monotonic())
                    await churn(every, SECONDS / 4, companions.talk)
                    bed.nft("flush", "ruleset")  # passes tables by that have an owner
                    await churn(every, SECONDS / 4, companions.talk)
                    deadline = time.monotonic() + 30
                    while not set(await asyncio.to_thread(companions.talk)) <= set().union(*(e.present for e in every)):
                        assert time.monotonic() < deadline, "a flow of datagrams stays with an endpoint that is gone"
                        await asyncio.sleep(TICK)
        late = delays(steady, every, dead)
        print(
            f"{len(steady.flows)} flows, {len(steady.lost)} lost; {sum(len(each.left) for each in every)} endpoints "
            f"replaced; {len(late)} flows went to one that was leaving, at most {max(late, default=0):.3f} s after; "
            f"{companions.again} datagrams sent again; proxy away for {dead[1] - dead[0]:.1f} s"
        )
        assert steady.lost == []
        assert len({flow.destination for flow in steady.flows}) == len(DESTINATIONS)
        assert len({flow.who for flow in steady.flows}) > 30
        assert max(late, default=0) < BLIND

    play(bed, tmp_path, scenario)
