"""Any history of Services, endpoints and restarts ends in the same tables as its last state laid at once."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from tests.integration.proxy.bed import FAMILIES, NODE, Bed, cluster_ip, pod
from tests.integration.proxy.program import Program
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import ClientIPConfig, LoadBalancerIngress, Service, ServicePort, SessionAffinityConfig
from twinstack.api.discovery import EndpointSlice
from twinstack.ip import IPFamily
from twinstack.proxy.layout import Layout
from twinstack.proxy.picture import Picture
from twinstack.proxy.writer import remove_tables

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
NAMES = ("a", "b", "c", "d")
RANGES = [
    [],
    ["10.1.0.0/24", "fd00:1::/64"],
    ["10.1.0.0/23", "fd00:1::/63"],  # wider
    ["10.1.0.128/25", "10.1.0.0/26", "fd00:1::/65", "fd00:9::/64"],  # in pieces
    ["192.0.2.0/24"],
]


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    bed = Bed()
    try:
        bed.build()
        yield bed
    finally:
        bed.remove()


def some_service(chance: random.Random, name: str) -> Service:
    number = NAMES.index(name)
    if chance.random() < 0.2:
        number = 0  # the address of another one
    addresses = [cluster_ip(family, 50 + number) for family in chance.choice([FAMILIES, FAMILIES[:1], FAMILIES[1:]])]
    ports = [ServicePort(name="http", port=80, node_port=30080 + number)]
    ports += [ServicePort(name="dns", protocol="UDP", port=53)] if chance.random() < 0.5 else []
    seconds = chance.choice([0, 60, 7200])
    spec: dict[str, object] = {
        "type": chance.choice(["ClusterIP", "NodePort", "LoadBalancer"]),
        "external_traffic_policy": chance.choice(["Cluster", "Local"]),
        "internal_traffic_policy": chance.choice(["Cluster", "Local"]),
        "external_ips": ["192.0.2.1", "2001:db8::1"] if chance.random() < 0.3 else [],
        "load_balancer_source_ranges": chance.choice(RANGES),
        "session_affinity": "ClientIP" if seconds else "None",
        "session_affinity_config": SessionAffinityConfig(ClientIPConfig(seconds)) if seconds else None,
    }
    found = service(name, *addresses, ports=ports, **spec)
    if chance.random() < 0.5:
        ingress = (f"198.51.100.{number}", f"2001:db8:f::{number}")
        found.status.load_balancer.ingress = [LoadBalancerIngress(ip=text) for text in ingress]
    return found


def some_slice(chance: random.Random, name: str, family: IPFamily) -> EndpointSlice:
    numbers = chance.sample(range(1, 9), chance.randint(0, 6))
    behind = [
        endpoint(
            pod(family, number),
            node=chance.choice([NODE, "other"]),
            ready=(ready := chance.random() < 0.8),
            terminating=not ready,
        )
        for number in numbers
    ]
    return slice_(name, family, behind)


def laid(picture: Picture) -> dict[bytes, tuple[object, ...]]:
    """What the maps mean: the order of endpoints and the numbers of slots do not."""
    meaning: dict[bytes, tuple[object, ...]] = {}
    for key, arranged in picture.front_ends.items():
        stages = [(each.class_, sorted(each.targets)) if each is not None else None for each in arranged[:2]]
        meaning[key] = (*stages, arranged.sources)
    return meaning


@pytest.mark.parametrize("seed", range(300 if SOAK else 12))
def test_any_history_ends_in_what_its_last_state_asks_for(bed: Bed, seed: int) -> None:
    chance = random.Random(seed)
    program = Program(bed)
    services: dict[str, Service] = {}
    slices: dict[str, EndpointSlice] = {}
    try:
        program.sync()
        for _ in range(40):
            name = chance.choice(NAMES)
            what = chance.random()
            if what < 0.35:
                services[name] = some_service(chance, name)
                program.put(services[name])
            elif what < 0.85:
                changed = some_slice(chance, name, chance.choice(FAMILIES))
                slices[changed.key] = changed
                program.put(changed)
            elif what < 0.95 and name in services:
                program.remove(services.pop(name))
            else:
                before = {family: laid(_picture(program, family)) for family in FAMILIES}
                program.close()
                program = Program(bed)
                for service_ in services.values():
                    program.tracker.put_service(service_)
                for slice_now in slices.values():
                    program.tracker.put_slice(slice_now)
                program.sync()
                assert program.operations == 0
                assert {family: laid(_picture(program, family)) for family in FAMILIES} == before
        for family in FAMILIES:
            read = Picture.read(program.writer._nft.socket, Layout(family))
            assert read._strays == []
            assert laid(read) == laid(_picture(program, family))
        assert not any(program.metrics.failures.value(family) for family in FAMILIES)
    finally:
        program.close()
        bed.on_node(lambda: remove_tables([Layout(family) for family in FAMILIES]))


def _picture(program: Program, family: IPFamily) -> Picture:
    picture = program.families[family].picture
    assert picture is not None
    return picture
