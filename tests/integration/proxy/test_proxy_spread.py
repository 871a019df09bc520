"""New flows are spread evenly over any number of endpoints, in the real kernel, both families."""

from __future__ import annotations

import os
import socket
from collections import Counter

import pytest
from tests.integration.proxy.bed import FAMILIES, NODE, PORT, Bed, cluster_ip, crowd
from tests.integration.proxy.program import Program
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import ServicePort
from twinstack.api.discovery import EndpointPort, EndpointSlice
from twinstack.ip import IPFamily
from twinstack.linux import namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
FLOWS = {1: 100, 2: 2000, 3: 2000, 7: 3000, 100: 5000, 5000: 25_000}  # by endpoints; five each at the least
UNDER_WAY = 500


def behind(family: IPFamily, count: int) -> list[EndpointSlice]:
    """Slices of a thousand endpoints at most, as the API has them."""
    ports = [EndpointPort(name="dns", protocol="UDP", port=PORT)]
    return [
        slice_(
            "web",
            family,
            [endpoint(crowd(family, n + 1), node=NODE) for n in range(start, min(start + 1000, count))],
            ports=ports,
            suffix=str(start),
        )
        for start in range(0, count, 1000)
    ]


def answers(bed: Bed, family: IPFamily, flows: int) -> Counter[str]:
    """Who answers as many new flows, each of a datagram."""
    found = Counter[str]()
    address = (cluster_ip(family), 53)

    def begin() -> socket.socket:
        sock = socket.socket(family.af, socket.SOCK_DGRAM)
        sock.settimeout(30)
        sock.bind(bed.fresh_source(family))
        sock.sendto(b"?", address)
        return sock

    def work() -> None:
        for start in range(0, flows, UNDER_WAY):
            for sock in [begin() for _ in range(min(UNDER_WAY, flows - start))]:
                with sock:
                    found[sock.recv(200).decode().split()[0]] += 1

    namespaces.inside(bed.client, work)
    return found


def deviation(found: Counter[str], count: int) -> float:
    """How far the counts are from even ones: the chi-square sum as standard deviations (Wilson and Hilferty)."""
    expected, free = found.total() / count, count - 1
    chi_square = sum((seen - expected) ** 2 for seen in found.values()) / expected + expected * (count - len(found))
    return float(((chi_square / free) ** (1 / 3) - (1 - 2 / (9 * free))) / (2 / (9 * free)) ** 0.5)


@pytest.mark.parametrize("count", FLOWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_new_flows_are_spread_evenly(bed: Bed, program: Program, family: IPFamily, count: int) -> None:
    ports = [ServicePort(name="dns", protocol="UDP", port=53)]
    program.put(service("web", *(cluster_ip(f) for f in FAMILIES), ports=ports), *behind(family, count))
    found = answers(bed, family, FLOWS[count] * (3 if SOAK else 1))
    assert found.keys() <= {crowd(family, n + 1) for n in range(count)}
    if count > 1:
        print(f"{count} endpoints: {deviation(found, count):+.2f} standard deviations")
        assert deviation(found, count) < 5  # by chance once in three million
