"""Addresses that were just added, on real kernels."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from twinstack.ip import Address
from twinstack.linux import addresses, links, namespaces, netlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PATH = namespaces.RUN_DIRECTORY / f"tt-E-{os.getpid()}-addresses"
BOTH = [Address.parse("10.244.0.2"), Address.parse("fd00:10:244::2")]


def test_a_settled_address_takes_packets_at_once() -> None:
    """Nobody listens, so each packet that is taken in is answered by a refusal."""

    def work() -> list[int]:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        try:
            route.request([links.link_up(1), *(links.add_address(1, each, each.family.bits) for each in BOTH)])
            addresses.settle(route, BOTH)
            assert all(links.is_local(route.get(*links.route_to(each))) for each in BOTH)
            return [refusal(each) for each in BOTH]
        finally:
            route.close()

    for _ in range(100):  # without waiting one in six is not ready
        try:
            assert namespaces.create(PATH, work) == [errno.ECONNREFUSED] * 2
        finally:
            namespaces.remove(PATH)


def refusal(address: Address) -> int:
    with socket.socket(address.family.af) as client:
        client.settimeout(30)
        return client.connect_ex((str(address), 9))


def test_an_address_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "PATIENCE", 0.0)

    def work() -> None:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        try:
            with pytest.raises(TimeoutError, match="does not take packets to fd00:10:244::2"):
                addresses.settle(route, BOTH)
        finally:
            route.close()

    try:
        namespaces.create(PATH, work)
    finally:
        namespaces.remove(PATH)
