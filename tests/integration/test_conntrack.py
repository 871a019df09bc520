"""Flows in the kernel's connection tracking table: listed by filter, and forgotten."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinstack.ip import Address, IPFamily
from twinstack.linux import conntrack, links, namespaces
from twinstack.linux.netlink import ROUTE, NetlinkSocket

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

UDP = 17
LOOPBACK = {IPFamily.IPV4: Address.parse("127.0.0.1"), IPFamily.IPV6: Address.parse("::1")}


@pytest.fixture
def space() -> Iterator[Path]:
    path = namespaces.RUN_DIRECTORY / f"tt-G-{os.getpid()}-ct"

    def setup() -> None:
        route = NetlinkSocket(ROUTE)
        route.request([links.link_up(links.LOOPBACK)])
        route.close()
        rules = "".join(
            f"add table {family} t; add chain {family} t c {{ type filter hook output priority 0; }};"
            f"add rule {family} t c ct state new counter;"
            for family in ("ip", "ip6")
        )
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)

    namespaces.create(path, setup)
    try:
        yield path
    finally:
        namespaces.remove(path)


@pytest.mark.parametrize("family", list(IPFamily))
def test_flows_are_filtered_by_the_kernel_and_deleted(space: Path, family: IPFamily) -> None:
    import socket

    def check() -> None:
        there = str(LOOPBACK[family])
        senders = [socket.socket(family.af, socket.SOCK_DGRAM) for _ in range(3)]
        table = conntrack.open_socket()
        try:
            for sender, port in zip(senders, (5001, 5001, 5002), strict=True):
                sender.sendto(b"x", (there, port))
            found = conntrack.flows(table, family, UDP, destination=LOOPBACK[family], port=5001)
            assert {flow.original.source_port for flow in found} == {s.getsockname()[1] for s in senders[:2]}
            assert all(flow.original.destination_port == 5001 for flow in found)
            assert all(flow.reply.source_port == 5001 for flow in found)
            assert len(conntrack.flows(table, family, UDP, port=5002)) == 1
            assert len(conntrack.flows(table, family, UDP)) == 3
            assert conntrack.flows(table, family, 6) == []
            assert conntrack.forget(table, family, found) == 2
            assert conntrack.forget(table, family, found) == 0
            assert len(conntrack.flows(table, family, UDP)) == 1
        finally:
            table.close()
            for sender in senders:
                sender.close()

    namespaces.inside(space, check)
