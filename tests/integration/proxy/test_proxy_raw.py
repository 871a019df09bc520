"""What sockets do not send: SCTP through Services, as not every kernel has its sockets (RFC 9260, section 3), and echo
requests to their addresses.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator

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
from tests.integration.proxy.probes import PATIENCE, unreachables
from tests.integration.proxy.program import Program
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import ServicePort
from twinstack.api.discovery import EndpointPort
from twinstack.ip import IPFamily
from twinstack.linux import namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SCTP = 132
_CASTAGNOLI = 0x82F63B78


def checksum(data: bytes) -> int:
    """CRC32c, which NAT has to make anew."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def init(source: int, destination: int) -> bytes:
    """The packet that begins an association."""
    ports = struct.pack("!HHI", source, destination, 0)
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0x12345678, 65535, 10, 10, 1)
    return ports + struct.pack("<I", checksum(ports + bytes(4) + chunk)) + chunk


@contextlib.contextmanager
def raw(bed: Bed, family: IPFamily, *, on_client: bool, protocol: int = SCTP) -> Iterator[socket.socket]:
    place = bed.client if on_client else bed.pods
    with namespaces.inside(place, lambda: socket.socket(family.af, socket.SOCK_RAW, protocol)) as sock:
        sock.settimeout(PATIENCE)
        if on_client:
            sock.bind((CLIENT[family], 0))
        yield sock


@pytest.mark.parametrize("family", FAMILIES)
def test_associations_are_sent_to_endpoints_or_refused(bed: Bed, program: Program, family: IPFamily) -> None:
    ports = [ServicePort(name="sig", protocol="SCTP", port=2905, node_port=30905)]
    addresses = [cluster_ip(each) for each in FAMILIES]
    program.put(service("sig", *addresses, ports=ports, type="NodePort", external_traffic_policy="Local"))
    there = [EndpointPort(name="sig", protocol="SCTP", port=PORT)]
    program.put(slice_("sig", family, [endpoint(pod(family, n), node=NODE) for n in (1, 2, 3)], ports=there))
    with raw(bed, family, on_client=True) as asking, raw(bed, family, on_client=False) as listening:
        for address, port, seen in (
            (cluster_ip(family), 2905, NODE_POD_SIDE[family]),
            (NODE_CLIENT_SIDE[family], 30905, CLIENT[family]),
        ):
            for source in range(4000, 4010):
                asking.sendto(init(source, port), (address, 0))
                packet, sender = listening.recvfrom(200)
                packet = packet[-32:]  # IPv4 shows the IP header
                assert sender[0] == seen
                assert struct.unpack_from("!H", packet, 2)[0] == PORT
                assert struct.unpack_from("<I", packet, 8)[0] == checksum(packet[:8] + bytes(4) + packet[12:])
        refused = unreachables(bed.client, family)
        asking.sendto(init(4000, 2906), (cluster_ip(family), 0))  # a port that the Service has not
        _await_error(bed, family, refused)


def _await_error(bed: Bed, family: IPFamily, before: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while unreachables(bed.client, family) == before:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("family", FAMILIES)
def test_an_echo_request_is_refused_at_a_service_and_dropped_where_there_is_none(
    bed: Bed, program: Program, family: IPFamily
) -> None:
    program.put(service("web", *(cluster_ip(each) for each in FAMILIES)))
    if family is IPFamily.IPV4:
        protocol, request, reply, start = socket.IPPROTO_ICMP, b"\x08\0\xf7\xfe\0\0\0\1", 0, 20
    else:
        protocol, request, reply, start = socket.IPPROTO_ICMPV6, b"\x80\0\0\0\0\0\0\1", 129, 0  # checked by the kernel
    with raw(bed, family, on_client=True, protocol=protocol) as asking:
        before = unreachables(bed.client, family)
        asking.sendto(request, (cluster_ip(family, 99), 0))
        asking.sendto(request, (cluster_ip(family), 0))
        _await_error(bed, family, before)
        asking.sendto(request, (pod(family, 1), 0))
        while asking.recv(200)[start] != reply:
            continue
        assert unreachables(bed.client, family) == before + 1
