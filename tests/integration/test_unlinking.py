"""A link that is removed is out of sight at once, with its far end and its routes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinstack.ip import CIDR, IPFamily
from twinstack.linux import links, namespaces, netlink, unlinking

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PREFIX = f"tt-unlinking-{os.getpid()}"
BLOCKS = {IPFamily.IPV4: CIDR.parse("10.9.0.1/32"), IPFamily.IPV6: CIDR.parse("fd00:9::1/128")}


@pytest.fixture
def ends() -> Iterator[list[Path]]:
    paths = [namespaces.RUN_DIRECTORY / f"{PREFIX}-{name}" for name in ("near", "far")]
    try:
        for path in paths:
            namespaces.create(path, lambda: None)
        yield paths
    finally:
        for path in paths:
            namespaces.remove(path)


def test_many_links(ends: list[Path]) -> None:
    near, far = ends
    beyond = namespaces.inside(far, lambda: netlink.NetlinkSocket(netlink.ROUTE))

    def work(namespace: int) -> None:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        for number in range(5):
            route.request([links.veth("e", links.Peer(namespace, f"f{number}", 0))])
            index, other = route.index_of("e"), beyond.index_of(f"f{number}")
            beyond.request([links.link_up(other)])
            route.request([links.add_route(block, index, family=family) for family, block in BLOCKS.items()])
            unlinking.remove("e", route)
            assert [links.read_link(reply).name for reply in route.dump(*links.link_list())] == ["lo"]
            assert [links.read_link(reply).name for reply in beyond.dump(*links.link_list())] == ["lo"]
            for family, block in BLOCKS.items():
                rows = [links.read_route(reply) for reply in route.dump(*links.route_list(family))]
                assert block not in [row.destination for row in rows if row is not None]
            unlinking.remove("e", route)
        route.close()

    with far.open() as file:
        namespaces.inside(near, lambda: work(file.fileno()))
    beyond.close()
