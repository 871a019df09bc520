"""When rules are written: at once, then gathered; after a foreign flush; when another proxy has the table."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from tests.integration.proxy.bed import FAMILIES, NODE, Bed, cluster_ip, pod
from tests.integration.proxy.program import SURROUNDINGS, Program
from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.discovery import EndpointSlice
from twinstack.dataplane.model import NodeView
from twinstack.dataplane.tracker import Tracker
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.linux import links, sysctl
from twinstack.linux.netlink import ROUTE, NetlinkSocket
from twinstack.linux.nftables import TableFlag
from twinstack.proxy import kernel_settings
from twinstack.proxy import sync as module
from twinstack.proxy.conntrack import Cleaner
from twinstack.proxy.health import Health
from twinstack.proxy.kernel_settings import ConntrackSettings
from twinstack.proxy.layout import Layout
from twinstack.proxy.metrics import ProxyMetrics
from twinstack.proxy.node_addresses import NodeAddresses
from twinstack.proxy.sync import Synchroniser
from twinstack.proxy.writer import Writer, foreign_proxies

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

V4, V6 = FAMILIES
WEB = service("web", *(cluster_ip(family) for family in FAMILIES))

LOOKS = 1000  # each a twentieth of a second or more after the one before


class Running:
    """A synchroniser in the running loop."""

    def __init__(self, bed: Bed, *, own: bool = True, interval: float = 0.02) -> None:
        self.bed = bed
        self.metrics = ProxyMetrics()
        self.health = Health(FAMILIES, sync_period=30, metrics=self.metrics)
        self.writer = bed.on_node(lambda: Writer(own=own))
        self.tracker = Tracker(FAMILIES, NodeView(NODE))
        self.sync = Synchroniser(
            self.tracker,
            self.writer,
            [Layout(family) for family in FAMILIES],
            metrics=self.metrics,
            health=self.health,
            cleaner=Cleaner(self.metrics),
            min_interval=interval,
        )
        for family in FAMILIES:
            self.sync.surround(family, SURROUNDINGS[family])

    def put(self, *slices: EndpointSlice) -> None:
        for each in slices:
            self.tracker.put_slice(each)
            self.sync.wake()

    async def answers(self, family: IPFamily) -> str:
        return (await asyncio.to_thread(self.bed.ask, self.bed.client, cluster_ip(family)))[0]


def run(bed: Bed, scenario: Callable[[Running], Awaitable[None]], *, own: bool = True, interval: float = 0.02) -> None:
    async def main() -> None:
        running = Running(bed, own=own, interval=interval)
        running.tracker.put_service(WEB)
        for family in FAMILIES:
            running.tracker.put_slice(slice_("web", family, [endpoint(pod(family, 1), node=NODE)]))
        watching = asyncio.create_task(running.sync.watch())
        try:
            running.sync.start()
            await asyncio.sleep(0.05 + interval)
            await scenario(running)
        finally:
            watching.cancel()
            running.writer.close()

    try:
        asyncio.run(main())
    finally:
        bed.clear()


def behind(family: IPFamily, *numbers: int) -> EndpointSlice:
    return slice_("web", family, [endpoint(pod(family, n), node=NODE) for n in numbers])


def test_the_first_change_is_written_at_once_and_the_next_ones_together(bed: Bed) -> None:
    async def scenario(running: Running) -> None:
        for family in FAMILIES:
            assert await running.answers(family) == pod(family, 1)
        loop = asyncio.get_running_loop()
        before = running.writer.transactions
        running.put(behind(FAMILIES[0], 2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert running.writer.transactions == before + 1
        started = loop.time()
        for number in (3, 4, 5):
            running.put(behind(FAMILIES[0], number))
            await asyncio.sleep(0.001)
        assert running.writer.transactions == before + 1
        while running.writer.transactions == before + 1:
            assert loop.time() < started + 60
            await asyncio.sleep(0.002)
        assert running.metrics.partial._counts[("IPv4",)]

    run(bed, scenario, interval=0.5)


@pytest.mark.parametrize("tool", [("flush", "ruleset"), ("delete", "table", "ip6", "twinstack-proxy")])
def test_a_foreign_hand_is_noticed_and_undone(bed: Bed, tool: tuple[str, ...]) -> None:
    """On a kernel that cannot protect the table; the loss is seen without any change of a Service."""

    async def scenario(running: Running) -> None:
        bed.nft(*tool)  # nobody can mend it before it has been looked at
        assert cluster_ip(FAMILIES[1]) not in bed.nft("list", "ruleset")
        for _ in range(LOOKS):
            await asyncio.sleep(0.05)
            if cluster_ip(FAMILIES[1]) in await asyncio.to_thread(bed.nft, "list", "ruleset"):
                break
        for family in FAMILIES:
            assert await running.answers(family) == pod(family, 1)

    run(bed, scenario, own=False)


def test_a_change_after_a_foreign_flush_lays_everything(bed: Bed) -> None:
    async def scenario(running: Running) -> None:
        await asyncio.to_thread(bed.nft, "flush", "ruleset")
        running.put(behind(FAMILIES[1], 2))
        await asyncio.sleep(0.1)
        assert await running.answers(FAMILIES[1]) == pod(FAMILIES[1], 2)

    run(bed, scenario, own=False)


def test_tampering_with_a_table_we_cannot_own_is_corrected(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTEST_RECHECK", 0.0)

    async def scenario(running: Running) -> None:
        await asyncio.to_thread(bed.nft, "flush", "map", "ip6", "twinstack-proxy", "services")
        for _ in range(LOOKS):
            await asyncio.sleep(0.05)
            if cluster_ip(FAMILIES[1]) + " . tcp . 80 :" in await asyncio.to_thread(bed.nft, "list", "ruleset"):
                break
        assert await running.answers(FAMILIES[1]) == pod(FAMILIES[1], 1)

    run(bed, scenario, own=False)


def test_foreign_tables_come_and_go_without_harm(bed: Bed) -> None:
    async def scenario(running: Running) -> None:
        before = running.writer.transactions
        await asyncio.to_thread(bed.nft, "add", "table", "ip", "kube-proxy")
        await asyncio.sleep(1.2)
        assert running.writer.transactions == before
        assert bed.on_node(foreign_proxies) == ["ip kube-proxy"]
        await asyncio.to_thread(bed.nft, "delete", "table", "ip", "kube-proxy")
        running.put(behind(FAMILIES[0], 2))  # before the next look: the transaction itself finds out
        await asyncio.sleep(0.05)
        assert await running.answers(FAMILIES[0]) == pod(FAMILIES[0], 2)
        assert running.metrics.failures.value("IPv4") == 0

    run(bed, scenario)


def test_two_proxies_on_a_node(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """The second one says what is wrong, waits, and takes over when the first is gone."""

    async def scenario(running: Running) -> None:
        second = Running(bed)
        try:
            second.tracker.put_service(WEB)
            second.sync.start()
            await asyncio.sleep(0.05)
            assert "stop the other proxy" in caplog.text
            assert await running.answers(FAMILIES[0]) == pod(FAMILIES[0], 1)
            running.writer.close()
            second.put(behind(FAMILIES[0], 2))
            for _ in range(LOOKS):
                await asyncio.sleep(0.05)
                if second.metrics.full._counts.get(("IPv4",)):
                    break
            assert await second.answers(FAMILIES[0]) == pod(FAMILIES[0], 2)
        finally:
            second.writer.close()

    run(bed, scenario)


def test_one_family_fails_and_the_other_goes_on(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY", 0.3)

    async def scenario(running: Running) -> None:
        other = Running(bed)  # a table of its own, not ours to touch, stands where ours should
        try:
            assert all(running.health.healthy(family) for family in FAMILIES)
            running.writer.close()
            other.writer._nft.commit([Layout(V6).table.delete(), Layout(V6).table.create(TableFlag.OWNER)])
            third = Running(bed)
            third.tracker.put_service(WEB)
            third.put(behind(V4, 2))
            third.sync.start()
            await asyncio.sleep(0.05)
            assert await third.answers(V4) == pod(V4, 2)
            assert third.metrics.failures.value("IPv6") >= 1
            third.put(behind(V4, 3))  # while IPv6 waits for its next attempt
            await asyncio.sleep(0.05)
            assert await third.answers(V4) == pod(V4, 3)
            other.writer.close()
            third.put(behind(V6, 2))
            for _ in range(LOOKS):
                await asyncio.sleep(0.05)
                if third.sync.families[V6].picture is not None:
                    break
            assert await third.answers(V6) == pod(V6, 2)
            third.writer.close()
        finally:
            other.writer.close()

    run(bed, scenario)


def test_interface_addresses_are_followed(bed: Bed) -> None:
    async def main() -> None:
        changed = asyncio.Event()
        addresses = bed.on_node(lambda: NodeAddresses(changed.set))
        addresses.start()
        route = bed.on_node(lambda: NetlinkSocket(ROUTE))
        try:
            assert Address.parse("10.1.0.1") in addresses.current
            route.request([links.add_address(links.LOOPBACK, Address.parse("fd00:77::1"), 128)])
            async with asyncio.timeout(60):
                await changed.wait()
            assert Address.parse("fd00:77::1") in addresses.current
        finally:
            route.close()
            addresses.close()

    asyncio.run(main())


def test_surroundings_change_without_services(bed: Bed) -> None:
    async def scenario(running: Running) -> None:
        family = FAMILIES[1]
        block = CIDR.parse("fd00:77::/112")
        changed = msgspec.structs.replace(SURROUNDINGS[family], service_cidrs=frozenset([block]))
        running.sync.surround(family, changed)
        await asyncio.sleep(0.05)
        listed = bed.nft("list", "set", "ip6", "twinstack-proxy", "service-cidrs")
        assert str(block) in listed
        assert "fd00:10:96" not in listed

    run(bed, scenario)


def test_many_services_at_once(bed: Bed) -> None:
    """Long lists are cut into messages, and read back whole."""
    program = Program(bed)
    try:
        for number in range(1, 1001):
            name, address = f"s{number}", cluster_ip(FAMILIES[1], 100 + number)
            program.tracker.put_service(service(name, address))
            one = slice_(name, FAMILIES[1], [endpoint(f"fd00:2::{number:x}:{n}") for n in (1, 2, 3)])
            program.tracker.put_slice(one)
        program.sync()
        assert program.operations > 5000
    finally:
        program.close()
        bed.clear()


def test_conntrack_settings_of_a_namespace(bed: Bed) -> None:
    bed.on_node(lambda: kernel_settings.apply(ConntrackSettings()))
    wanted = ConntrackSettings(udp_timeout=77, tcp_be_liberal=True, tcp_timeout_close_wait=3600)
    bed.on_node(lambda: kernel_settings.apply(wanted))
    for name, value in wanted.wanted().items():
        assert bed.on_node(lambda n=name: sysctl.read(f"net/netfilter/{n}")) == value  # type: ignore[misc]
    with pytest.raises(OSError, match="nf_conntrack_max"):  # the host's alone
        bed.on_node(lambda: kernel_settings.apply(ConntrackSettings(max_per_core=1 << 20)))
