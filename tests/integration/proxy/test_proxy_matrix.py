"""Real packets from everywhere to every front end of every sort of Service: each meets the fate that the rules say.

Compared with `rules`, a table that shares no code with the proxy: answered, refused or dropped, by which endpoint,
and the address that it saw. What `proxy explain` says is held against the same table.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec
import pytest
from tests.integration.proxy.bed import (
    CLIENT,
    FAMILIES,
    NODE,
    NODE_CLIENT_SIDE,
    NODE_POD_SIDE,
    PORT,
    Bed,
    cluster_ip,
    pod,
)
from tests.integration.proxy.probes import Heard, Observation, Probe, observe, unreachables
from tests.integration.proxy.program import Program
from tests.integration.proxy.rules import (
    BEHIND,
    NOTHING,
    RANGES,
    SORTS,
    SOURCES,
    Expected,
    From,
    Knowledge,
    Sort,
    To,
    expect,
)
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import LoadBalancerIngress, Service, ServicePort
from twinstack.api.discovery import EndpointPort, EndpointSlice
from twinstack.dataplane.fate import Fate, Origin, Outcome, Packet, fate
from twinstack.dataplane.model import Protocol
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.proxy.layout import PodInterface

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SLICE_PORTS = [
    EndpointPort(name="http", protocol="TCP", port=PORT),
    EndpointPort(name="dns", protocol="UDP", port=PORT),
    EndpointPort(name="sig", protocol="SCTP", port=PORT),
]
PROTOCOLS = {Protocol.TCP: 80, Protocol.UDP: 53}
EXTERNAL = {IPFamily.IPV4: CIDR.parse("198.18.0.0/16"), IPFamily.IPV6: CIDR.parse("2001:db8:e::/64")}
BALANCER = {IPFamily.IPV4: CIDR.parse("198.19.0.0/16"), IPFamily.IPV6: CIDR.parse("2001:db8:f::/64")}
ORIGINS = {
    From.CLIENT: Origin.ELSEWHERE,
    From.NODE: Origin.NODE,
    From.POD: Origin.LOCAL_POD,
    From.ITSELF: Origin.LOCAL_POD,
}
OUTCOMES = {Outcome.FORWARD: Heard.ANSWER, Outcome.REJECT: Heard.REFUSAL, Outcome.DROP: Heard.NOTHING}


def object_of(number: int, sort: Sort) -> Service:
    ports = [
        ServicePort(name="http", protocol="TCP", port=80, node_port=30000 + number),
        ServicePort(name="dns", protocol="UDP", port=53, node_port=30000 + number),
        ServicePort(name="sig", protocol="SCTP", port=2905, node_port=30000 + number),
    ]
    found = service(
        sort.name,
        *(cluster_ip(family, 1000 + number) for family in FAMILIES),
        ports=ports,
        type="LoadBalancer",
        internal_traffic_policy="Local" if sort.inside_local else "Cluster",
        external_traffic_policy="Local" if sort.outside_local else "Cluster",
        session_affinity="ClientIP" if sort.sticky else "None",
        external_ips=[str(EXTERNAL[family].address(1 + number)) for family in FAMILIES],
        load_balancer_source_ranges=RANGES[sort.ranges],
    )
    found.status.load_balancer.ingress = [
        LoadBalancerIngress(ip=str(BALANCER[IPFamily.IPV4].address(1 + number))),
        LoadBalancerIngress(ip=str(BALANCER[IPFamily.IPV6].address(1 + number)), ip_mode="VIP"),
        LoadBalancerIngress(ip=f"203.0.113.{number % 256}", ip_mode="Proxy"),
        LoadBalancerIngress(hostname="lb.example"),
    ]
    return found


def slice_of(sort: Sort, family: IPFamily) -> EndpointSlice:
    behind = BEHIND[sort.behind]
    found = [endpoint(pod(family, n), node=NODE) for n in behind.here]
    found += [endpoint(pod(family, n)) for n in behind.there]
    found += [endpoint(pod(family, n), node=NODE, ready=False, terminating=True) for n in behind.leaving_here]
    found += [endpoint(pod(family, n), ready=False, terminating=True) for n in behind.leaving_there]
    found += [endpoint(pod(family, n), node=NODE, ready=False, serving=False) for n in behind.unready]
    return slice_(sort.name, family, found, ports=SLICE_PORTS)


def fill(program: Program, sorts: Iterable[Sort]) -> None:
    for sort in sorts:
        program.take(object_of(SORTS.index(sort), sort))
        for family in FAMILIES:
            program.take(slice_of(sort, family))
    program.sync()


class Cell(NamedTuple):
    """One flow of the matrix."""

    sort: Sort
    family: IPFamily
    protocol: Protocol
    source: From
    to: To

    @property
    def destination(self) -> tuple[str, int]:
        number, port = SORTS.index(self.sort), PROTOCOLS[self.protocol]
        match self.to:
            case To.CLUSTER_IP:
                return cluster_ip(self.family, 1000 + number), port
            case To.OTHER_PORT:
                return cluster_ip(self.family, 1000 + number), port + 1
            case To.NODE_PORT:
                return NODE_CLIENT_SIDE[self.family], 30000 + number
            case To.EXTERNAL_IP:
                return str(EXTERNAL[self.family].address(1 + number)), port
            case To.BALANCER:
                return str(BALANCER[self.family].address(1 + number)), port

    def probe(self, bed: Bed) -> Probe:
        places = {From.CLIENT: bed.client, From.NODE: bed.node, From.POD: bed.guest, From.ITSELF: bed.pods}
        return Probe(places[self.source], SOURCES[self.source][self.family], self.protocol, *self.destination)


def cells(sorts: Iterable[Sort], sources: Iterable[From] = From) -> list[Cell]:
    """All flows there are to these Services; only a pod that is the one endpoint there is can reach itself."""
    return [
        Cell(sort, family, protocol, source, to)
        for sort in sorts
        for family in FAMILIES
        for protocol in PROTOCOLS
        for source in sources
        for to in To
        if source is not From.ITSELF or sort.behind == "one"
    ]


class Seen(NamedTuple):
    cell: Cell
    expected: Expected
    observation: Observation

    @property
    def is_right(self) -> bool:
        expected, (heard, who, saw), family = self.expected, self.observation, self.cell.family
        source = NODE_POD_SIDE if expected.masqueraded else SOURCES[self.cell.source]
        if heard is not expected.heard:
            return False
        return heard is not Heard.ANSWER or (who in {pod(family, n) for n in expected.pods} and saw == source[family])


def see(bed: Bed, asked: list[Cell], knowledge: Knowledge = Knowledge.ADDRESS) -> list[Seen]:
    expected = [expect(each.sort, each.family, each.source, each.to, knowledge) for each in asked]
    silent = [n for n, each in enumerate(expected) if each is NOTHING]
    observations = observe([each.probe(bed) for each in asked], silent)
    return [Seen(*each) for each in zip(asked, expected, observations, strict=True)]


# The next tests have programs of their own: they come before the one that everybody after them shares.


def by_interface(bed: Bed) -> Program:
    return Program(bed, pods=PodInterface("guest"))


def by_prefix(bed: Bed) -> Program:
    return Program(bed, pods=PodInterface("gue", is_prefix=True))


def by_nothing(bed: Bed) -> Program:
    program = Program(bed)
    for state in program.families.values():
        state.surroundings = msgspec.structs.replace(state.surroundings, local_pods=None)
    return program


@pytest.mark.parametrize(
    ("begin", "knowledge"),
    [(by_interface, Knowledge.INTERFACE), (by_prefix, Knowledge.INTERFACE), (by_nothing, Knowledge.NONE)],
)
def test_other_ways_to_know_a_pod(bed: Bed, begin: Callable[[Bed], Program], knowledge: Knowledge) -> None:
    """Without any, nobody is foreign and nobody at home."""
    sorts = [each for each in SORTS if each.behind in ("both", "remote") and each.ranges == "open"]
    program = begin(bed)
    try:
        fill(program, sorts)
        seen = see(bed, cells(sorts, [From.CLIENT, From.NODE, From.POD]), knowledge)
        assert [each for each in seen if not each.is_right] == []
    finally:
        program.close()
        bed.clear()


def test_nft_lists_every_kind_of_element(bed: Bed, program: Program) -> None:
    sorts = [each for each in SORTS if each.behind in ("one", "local", "both") and each.ranges in ("open", "client")]
    fill(program, sorts)
    number = SORTS.index(sorts[0])
    bed.nft("-j", "list", "ruleset")
    for family, shown in zip(FAMILIES, ("ip", "ip6"), strict=True):
        table = bed.nft("list", "table", shown, "twinstack-proxy")
        for name in (
            "guard",
            "external-local-1",
            "node-port-local-2-affinity-10800",
            "near-2",
            "near-port-4",
            "external-2",
        ):
            assert f"chain {name} {{" in table
        for kind, name in re.findall(r"^\t(map|set|chain) (\S+) {", table, re.MULTILINE):
            assert bed.nft("list", kind, shown, "twinstack-proxy", name)  # a word of nft's own is refused as name
        for address in (
            cluster_ip(family, 1000 + number),
            EXTERNAL[family].address(1 + number),
            BALANCER[family].address(1 + number),
        ):
            for protocol in ("tcp . 80", "udp . 53", "sctp . 2905"):
                assert f"{address} . {protocol} :" in table
        assert f"sctp . {30000 + number} :" in table  # not every kernel has its sockets


@pytest.fixture(scope="module")
def everything(bed: Bed) -> Iterator[Program]:
    program = Program(bed)
    try:
        fill(program, SORTS)
        yield program
    finally:
        program.close()
        bed.clear()


class Matrix(NamedTuple):
    seen: list[Seen]
    again: list[Seen]  # flows of the same clients to front ends with affinity
    errors: Counter[tuple[From, IPFamily]]  # ICMP errors that came while `seen` was


@pytest.fixture(scope="module")
def matrix(bed: Bed, everything: Program) -> Matrix:
    asked = cells(SORTS)
    places = {From.CLIENT: bed.client, From.NODE: bed.node, From.POD: bed.guest, From.ITSELF: bed.pods}

    def errors() -> Counter[tuple[From, IPFamily]]:
        kinds = [(source, family) for source in From for family in FAMILIES]
        return Counter({kind: unreachables(places[kind[0]], kind[1]) for kind in kinds})

    before = errors()
    seen = see(bed, asked)
    came = errors()
    came.subtract(before)
    return Matrix(seen, see(bed, [each for each in asked if each.sort.sticky]), came)


@pytest.mark.parametrize("to", To)
@pytest.mark.parametrize("source", From)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_packets_meet_their_fate(matrix: Matrix, family: IPFamily, protocol: Protocol, source: From, to: To) -> None:
    mine = [each for each in (*matrix.seen, *matrix.again) if each.cell[1:] == (family, protocol, source, to)]
    assert len(mine) >= 50
    assert [each for each in mine if not each.is_right] == []


@pytest.mark.parametrize("source", [From.CLIENT, From.NODE, From.POD])
@pytest.mark.parametrize("family", FAMILIES)
def test_streams_are_refused_by_a_reset_and_datagrams_by_an_error(
    matrix: Matrix, family: IPFamily, source: From
) -> None:
    """An ICMPv6 error counts for a stream only after it has sent again, a second later: a reset comes at once."""
    mine = [each for each in matrix.seen if each.cell.family is family and each.cell.source is source]
    refused = Counter(each.cell.protocol for each in mine if each.expected.heard is Heard.REFUSAL)
    assert refused[Protocol.TCP] == refused[Protocol.UDP] > 100
    assert matrix.errors[source, family] == refused[Protocol.UDP]


def test_clients_stay_with_their_endpoint_where_they_should(matrix: Matrix) -> None:
    first = {each.cell: each.observation for each in matrix.seen}
    assert [each for each in matrix.again if each.observation.who != first[each.cell].who] == []
    loose = [each for each in matrix.seen if not each.cell.sort.sticky and len(each.expected.pods) > 1]
    chosen = Counter((each.cell.to, each.observation.who) for each in loose)
    assert min(chosen.values()) > max(chosen.values()) / 4  # which is uniform is another test's question


def test_what_is_explained_is_what_happens(everything: Program) -> None:
    for cell in cells(SORTS):
        told = explained(everything, cell)
        expected = expect(cell.sort, cell.family, cell.source, cell.to)
        assert OUTCOMES[told.outcome] is expected.heard, (cell, told)
        assert {str(each.address) for each in told.targets} == {pod(cell.family, n) for n in expected.pods}
        if cell.source is not From.ITSELF:
            assert told.masquerade == expected.masqueraded, (cell, told)


def explained(program: Program, cell: Cell) -> Fate:
    state = program.families[cell.family]
    source = Address.parse(SOURCES[cell.source][cell.family])
    address, port = cell.destination
    packet = Packet(ORIGINS[cell.source], Address.parse(address), port, cell.protocol, source)
    return fate(packet, state.claims, state.surroundings)


@pytest.mark.parametrize("family", FAMILIES)
def test_service_ports_without_local_endpoints_are_counted(everything: Program, family: IPFamily) -> None:
    far = [each for each in SORTS if each.behind in ("remote", "leaving-remote")]
    inside, outside = (sum(each.inside_local for each in far), sum(each.outside_local for each in far))
    assert everything.metrics.no_local.value("internal", family) == 3 * inside  # ports each
    assert everything.metrics.no_local.value("external", family) == 3 * outside


@pytest.mark.parametrize("family", FAMILIES)
def test_free_addresses_and_foreign_ones(bed: Bed, everything: Program, family: IPFamily) -> None:
    free = [Probe(bed.client, CLIENT[family], protocol, cluster_ip(family, 250), 80) for protocol in PROTOCOLS]
    ahead = [
        Probe(place, SOURCES[source][family], protocol, address, port)
        for source, place in ((From.CLIENT, bed.client), (From.POD, bed.guest))
        for protocol in PROTOCOLS
        for address, port in ((pod(family, 1), PORT), (NODE_POD_SIDE[family], 30000))
    ]
    found = observe([*free, *ahead], silent=range(len(free)))
    assert [each.heard for each in found] == [Heard.NOTHING] * 2 + [Heard.ANSWER, Heard.REFUSAL] * 4
    assert {each.saw for each in found} == {CLIENT[family], SOURCES[From.POD][family], ""}


def test_a_restart_finds_everything_in_its_place(bed: Bed, everything: Program) -> None:
    """The last test here: another program takes the tables over, with all the same state, and writes no element."""
    everything.close()
    second = Program(bed)
    try:
        fill(second, SORTS)
        assert second.operations == 0
        assert second.writer.transactions == len(FAMILIES)  # to take the two tables over
        for number, sort in enumerate(SORTS):
            second.tracker.remove_service(object_of(number, sort).key)
        second.sync()
        listed = bed.nft("list", "ruleset")
        held = re.sub(r"(node-port-)?clients {.*?\n\t}", "", listed, flags=re.DOTALL)
        assert not re.search(r"(198\.1[89]\.|2001:db8:|10\.96\.[3-5]\.|\. 30\d\d\d)", held)
    finally:
        second.close()
