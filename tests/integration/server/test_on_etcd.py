"""One server's registry on a real etcd: what it tells when etcd is away, leases of servers, outdated refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.etcd_servers import Etcd, etcd

from twinstack.api.errors import StatusError
from twinstack.api.resources import RESOURCES, resource
from twinstack.ip import CIDR, Address
from twinstack.server import serverleases
from twinstack.server.kubernetes_service import DefaultRanges, ServerEndpoints, ensure_service
from twinstack.server.messages import Route, UserInfo
from twinstack.server.registry import Registry
from twinstack.server.strategy.base import ServerConfig
from twinstack.store.etcd import feed as feed_module
from twinstack.store.etcd import store as store_module
from twinstack.store.etcd.channel import endpoints_of
from twinstack.store.etcd.store import EtcdStore

JSON = dict[str, Any]

ADMIN = UserInfo("admin")
CONFIG_MAPS, SERVICES = resource("", "configmaps"), resource("", "services")
SLICES, PODS = resource("discovery.k8s.io", "endpointslices"), resource("", "pods")
SERVICE_CIDRS, IP_ADDRESSES = (
    resource("networking.k8s.io", "servicecidrs"),
    resource("networking.k8s.io", "ipaddresses"),
)
EVENTS = resource("", "events")
RANGES = ("10.96.0.0/29", "fd00:96::/112")


@pytest.fixture(scope="module")
def servers() -> Iterator[Etcd]:
    with etcd() as it:
        yield it


def config(address: str, *ranges: str) -> ServerConfig:
    return ServerConfig(
        service_ranges=tuple(CIDR.parse(text) for text in ranges),
        node_ports=range(30000, 32768),
        secure_port=6443,
        advertise_addresses=(Address.parse(address),),
        disabled_admission_plugins=frozenset({"ServiceAccount"}),
    )


@asynccontextmanager
async def opened(
    store: Etcd, prefix: str, address: str = "192.0.2.1", ranges: tuple[str, ...] = RANGES[:1]
) -> AsyncIterator[Registry]:
    registry = Registry(EtcdStore(endpoints_of(store.servers), prefix), config(address, *ranges))
    try:
        await registry.open()
        yield registry
    finally:
        await registry.close()


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(main())


def config_map(name: str) -> JSON:
    return {"metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}}


def test_what_one_server_made_the_other_knows_at_once(servers: Etcd) -> None:
    """Through a load balancer each request of a client may come to another server."""

    async def work() -> None:
        async with opened(servers, "/a") as one, opened(servers, "/a") as two:
            for number in range(20):
                route = Route(CONFIG_MAPS, "default", f"c{number}")
                made = (await one.create(Route(CONFIG_MAPS, "default"), config_map(f"c{number}"), ADMIN)).object
                changed = (await two.update(route, made | {"data": {"a": "2"}}, ADMIN)).object
                assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
                with pytest.raises(StatusError, match="the object has been modified"):
                    await one.update(route, made | {"data": {"a": "3"}}, ADMIN)
                await one.delete(route, ADMIN)
                with pytest.raises(StatusError, match="not found"):
                    await two.delete(route, ADMIN)
                await two.create(Route(CONFIG_MAPS, "default"), config_map(f"c{number}"), ADMIN)
                with pytest.raises(StatusError, match="already exists"):
                    await one.create(Route(CONFIG_MAPS, "default"), config_map(f"c{number}"), ADMIN)

    run(work)


def test_every_object_shows_the_revision_it_has(servers: Etcd) -> None:
    async def work() -> None:
        async with opened(servers, "/b") as one, opened(servers, "/b") as two:
            body = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
            await one.create(Route(SERVICE_CIDRS), body, ADMIN)
            labels = {"labels": {"resourceVersion": "0"}}
            await one.create(Route(CONFIG_MAPS, "default"), {"metadata": {"name": "x"} | labels}, ADMIN)
            event = {
                "metadata": {"name": "e", "namespace": "default"},
                "regarding": {"namespace": "default"},
                "eventTime": "2026-01-01T00:00:00.000000Z",
                "reportingController": "a.io/b",
                "reportingInstance": "c",
                "action": "A",
                "reason": "R",
                "type": "Normal",
            }
            await one.create(Route(resource("events.k8s.io", "events"), "default"), event, ADMIN)
            await two.current()
            count = 0
            for row in RESOURCES:
                for version in two.cache.collection(row).versions(row.prefix):
                    assert version.decode()["metadata"]["resourceVersion"] == str(version.revision)
                    count += 1
            assert count > 6

    run(work)


def test_a_pod_without_grace_is_marked_and_removed(servers: Etcd) -> None:
    async def work() -> None:
        async with opened(servers, "/c") as registry:
            pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
            await registry.create(Route(PODS, "default"), pod, ADMIN)
            told = []
            registry.cache.collection(PODS).observe(lambda change: told.append(change.new is None))
            await registry.delete(Route(PODS, "default", "p"), ADMIN, {"gracePeriodSeconds": 0})
            assert told == [False, True]

    run(work)


def test_servers_that_die_leave_the_endpoints(servers: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serverleases, "SECONDS", 1.5)

    def shown(registry: Registry) -> list[str]:
        found = registry.reader.get(SLICES, "default", "kubernetes")
        assert found
        return [address for endpoint in found["endpoints"] for address in endpoint["addresses"]]

    async def work() -> None:
        async with (
            opened(servers, "/d", "192.0.2.1") as one,
            opened(servers, "/d", "192.0.2.2") as two,
            opened(servers, "/d", "192.0.2.3") as three,
        ):
            body = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
            await one.create(Route(SERVICE_CIDRS), body, ADMIN)
            await ensure_service(one, one.config)
            registries = (one, two, three)
            endpoints = [ServerEndpoints(registry, registry.config, shared=True) for registry in registries]
            for each in endpoints:
                await each.ensure()
            await one.current()
            assert shown(one) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
            while shown(one) != ["192.0.2.1", "192.0.2.2"]:  # the third is silent
                await asyncio.sleep(0.05)
                await endpoints[1].ensure()
                await endpoints[0].ensure()
            await endpoints[2].ensure()  # and back
            assert len(shown(three)) == 3
            await endpoints[1].leave()
            await one.current()
            assert shown(one) == ["192.0.2.1", "192.0.2.3"]

    run(work)


def test_servers_of_other_flags_share_what_ranges_there_are(servers: Etcd) -> None:
    """As while a cluster gets its second family: one server has been started anew, the other not yet."""

    async def work() -> None:
        async with (
            opened(servers, "/f", "192.0.2.1") as old,
            opened(servers, "/f", "192.0.2.2", RANGES) as new,
        ):
            looks = [DefaultRanges(registry, registry.config) for registry in (old, new)]
            for _ in range(3):
                for look in looks:
                    await look.ensure()
                    await asyncio.gather(old.current(), new.current())
            settled = old.cache.revision
            for look in looks:
                await look.ensure()
            assert old.cache.revision == settled  # they do not undo each other's work
            cidr = old.reader.get(SERVICE_CIDRS, "", "kubernetes")
            assert cidr
            assert cidr["spec"]["cidrs"] == list(RANGES)
            (event,) = old.reader.list(EVENTS)
            assert event["reason"] == "KubernetesDefaultServiceCIDRInconsistent"

            async def service(registry: Registry, name: str) -> list[str]:
                spec = {"ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"}
                made = await registry.create(
                    Route(SERVICES, "default"), {"metadata": {"name": name}, "spec": spec}, ADMIN
                )
                return list(made.object["spec"]["clusterIPs"])

            made = await asyncio.gather(*(service((old, new)[i % 2], f"s{i}") for i in range(6)))
            assert sorted(map(len, made)) == [1, 1, 1, 2, 2, 2]  # by who was asked
            with pytest.raises(StatusError, match="range is full"):
                await service(old, "more")
            body = {
                "metadata": {"name": "wider", "finalizers": ["example.com/hold"]},
                "spec": {"cidrs": ["10.97.0.0/28"]},
            }
            await new.create(Route(SERVICE_CIDRS), body, ADMIN)
            await old.current()
            assert (await service(old, "more"))[0].startswith("10.97.0.")
            await old.delete(Route(SERVICE_CIDRS, name="wider"), ADMIN)
            await new.current()
            with pytest.raises(StatusError, match="range is full"):
                await service(new, "most")
            await old.current()
            held = [ip for each in old.reader.list(SERVICES) for ip in each["spec"]["clusterIPs"]]
            assert len(set(held)) == len(held) == 10
            assert {record["metadata"]["name"] for record in old.reader.list(IP_ADDRESSES)} == set(held)

    run(work)


def test_what_is_told_when_etcd_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        with etcd() as store:
            async with opened(store, "/e") as registry:
                monkeypatch.setattr(store_module, "_WRITE_SECONDS", 0.5)
                monkeypatch.setattr(feed_module, "_HEAD_SECONDS", 0.5)
                store.members[0].freeze()
                for attempt in (
                    registry.create(Route(CONFIG_MAPS, "default"), config_map("c"), ADMIN),
                    registry.current(),
                ):
                    with pytest.raises(StatusError) as caught:
                        await attempt
                    assert (caught.value.code, caught.value.reason) == (504, "Timeout")
                    assert "context deadline exceeded" in str(caught.value)
                store.members[0].stop()
                with pytest.raises(StatusError) as caught:
                    await registry.current()
                assert (caught.value.code, caught.value.reason) == (500, "")
                assert "rpc error: code = Unavailable desc = " in str(caught.value)

    run(work)
