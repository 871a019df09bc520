"""Any history of Services, endpoints and restarts ends in the same tables as its last state laid at once."""

from __future__ import annotations

import os
import random

import pytest
from tests.integration.proxy.bed import FAMILIES, NODE, NODE_CLIENT_SIDE, POD_BLOCK, Bed, cluster_ip, pod
from tests.integration.proxy.program import SURROUNDINGS, Program
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import ClientIPConfig, LoadBalancerIngress, Service, ServicePort, SessionAffinityConfig
from twinstack.api.discovery import EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone
from twinstack.dataplane.model import NodeView, Surroundings
from twinstack.ip import Address, IPFamily
from twinstack.linux.nftables import Collection
from twinstack.proxy.layout import Layout
from twinstack.proxy.picture import Picture

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


def some_service(chance: random.Random, name: str) -> Service:
    number = NAMES.index(name)
    if chance.random() < 0.2:
        number = 0  # the address of another one
    addresses = [cluster_ip(family, 50 + number) for family in chance.choice([FAMILIES, FAMILIES[:1], FAMILIES[1:]])]
    ports = [ServicePort(name="http", port=80, node_port=30080 + number)]
    ports += [ServicePort(name="dns", protocol="UDP", port=53)] if chance.random() < 0.5 else []
    ports += [ServicePort(name="sig", protocol="SCTP", port=2905)] if chance.random() < 0.3 else []
    seconds = chance.choice([0, 60, 7200])
    if chance.random() < 0.1:
        ports += [ServicePort(name="odd", protocol="QUIC", port=80), ServicePort(name="far", port=70_000)]
    spec: dict[str, object] = {
        "type": chance.choice(["ClusterIP", "NodePort", "LoadBalancer"]),
        "external_traffic_policy": chance.choice(["Cluster", "Local"]),
        "internal_traffic_policy": chance.choice(["Cluster", "Local"]),
        "external_ips": ["192.0.2.1", "2001:db8::1"] if chance.random() < 0.3 else [],
        "health_check_node_port": 30999,
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
            serving=ready or chance.random() < 0.6,
        )
        for number in numbers
    ]
    hinted = chance.random()
    for each in behind if hinted < 0.4 else ():
        zones = [ForZone(name=chance.choice(["zone-a", "zone-b"]))] if hinted < 0.3 else []
        nodes = [ForNode(name=chance.choice([NODE, "other"]))] if hinted > 0.2 else []
        each.hints = EndpointHints(for_zones=zones, for_nodes=nodes) if chance.random() < 0.9 else None
    behind += [endpoint("nonsense"), endpoint(pod(family.other, 1))] if chance.random() < 0.1 else []
    ports = [
        EndpointPort(name=name, protocol=protocol, port=port)
        for name, protocol, port in (("http", "TCP", 8080), ("dns", "UDP", 5353), ("sig", "SCTP", 2905))
        if chance.random() < 0.9
    ]
    return slice_(name, family, behind, ports=ports, suffix=chance.choice("ab"))


def laid(picture: Picture) -> dict[bytes, tuple[object, ...]]:
    """What the maps mean: the order of endpoints and the numbers of slots do not."""
    meaning: dict[bytes, tuple[object, ...]] = {}
    for key, arranged in picture.front_ends.items():
        stages = [
            (each.class_, sorted(each.targets)) if each is not None else None for each in (arranged.main, arranged.near)
        ]
        meaning[key] = (*stages, arranged.sources)
    return meaning


def some_node(chance: random.Random) -> NodeView:
    addresses = frozenset(Address.parse(NODE_CLIENT_SIDE[family]) for family in FAMILIES)
    return NodeView(NODE, chance.choice(["", "zone-a", "zone-b"]), chance.choice([addresses, frozenset()]))


def some_surroundings(chance: random.Random, family: IPFamily) -> Surroundings:
    """Node addresses, Service ranges and pod ranges come, change and go."""
    usual = SURROUNDINGS[family]
    return Surroundings(
        chance.choice([usual.node_ips, frozenset([Address.parse(pod(family, 1)), *usual.node_ips]), frozenset()]),
        chance.choice([usual.service_cidrs, usual.service_cidrs | {POD_BLOCK[family]}, frozenset()]),
        chance.choice([usual.local_pods, frozenset([POD_BLOCK[family]]), None]),
    )


class History:
    """A cluster that changes at random, and the proxy that follows it."""

    def __init__(self, bed: Bed, chance: random.Random) -> None:
        self._bed = bed
        self._chance = chance
        self.services: dict[str, Service] = {}
        self.slices: dict[str, EndpointSlice] = {}
        self.node = some_node(chance)
        self.surroundings = dict(SURROUNDINGS)
        self.program = Program(bed)
        self.program.tracker.node_changed(self.node)
        self.program.sync()

    def step(self) -> None:
        chance, program = self._chance, self.program
        name, what = chance.choice(NAMES), chance.random()
        if what < 0.3:
            self.services[name] = some_service(chance, name)
            program.put(self.services[name])
        elif what < 0.7:
            changed = some_slice(chance, name, chance.choice(FAMILIES))
            self.slices[changed.key] = changed
            program.put(changed)
        elif what < 0.78 and self.services:
            program.remove(self.services.pop(chance.choice(list(self.services))))
        elif what < 0.83 and self.slices:
            key = chance.choice(list(self.slices))
            del self.slices[key]
            program.tracker.remove_slice(key)
            program.sync()
        elif what < 0.88:
            self.node = some_node(chance)
            program.tracker.node_changed(self.node)
            program.sync()
        elif what < 0.93:
            family = chance.choice(FAMILIES)
            self.surroundings[family] = some_surroundings(chance, family)
            program.families[family].surroundings = self.surroundings[family]
            program.sync()
        else:
            self.restart()

    def restart(self) -> None:
        """Another process, told of the present state only, finds nothing to do: incremental equals full."""
        before = {family: laid(_picture(self.program, family)) for family in FAMILIES}
        self.program.close()
        self.program = program = Program(self._bed)
        program.tracker.node_changed(self.node)
        for family, around in self.surroundings.items():
            program.families[family].surroundings = around
        objects: list[Service | EndpointSlice] = [*self.services.values(), *self.slices.values()]
        self._chance.shuffle(objects)
        for obj in objects:
            program.take(obj)
        program.sync()
        assert program.operations == 0
        assert {family: laid(_picture(program, family)) for family in FAMILIES} == before


@pytest.mark.parametrize("seed", range(300 if SOAK else 12))
def test_any_history_ends_in_what_its_last_state_asks_for(bed: Bed, seed: int) -> None:
    chance = random.Random(seed)
    history = History(bed, chance)
    try:
        for _ in range(60):
            history.step()
        for family in FAMILIES:
            read = Picture.read(history.program.writer._nft.socket, Layout(family))
            read.assemble()
            assert read._strays == []
            assert laid(read) == laid(_picture(history.program, family))
            assert (read.keys, read.ranges) == tuple(
                {_twin(each, read): value for each, value in found.items()}
                for found in (_picture(history.program, family).keys, _picture(history.program, family).ranges)
            )
        history.restart()
        assert not any(history.program.metrics.failures.value(family) for family in FAMILIES)
    finally:
        history.program.close()
        bed.clear()


def _twin(collection: Collection, picture: Picture) -> Collection:
    """The same map in another picture's layout."""
    return next(each for each in picture.layout.collections if each.name == collection.name)


def _picture(program: Program, family: IPFamily) -> Picture:
    picture = program.families[family].picture
    assert picture is not None
    return picture
