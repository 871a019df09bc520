"""The cluster's own objects, through the verbs and SQLite: made, grown, left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.ip import CIDR, Address
from twinstack.server.kubernetes_service import (
    DefaultRanges,
    ServerEndpoints,
    ensure_endpoints,
    ensure_service,
    own_addresses,
)
from twinstack.server.messages import Route, UserInfo
from twinstack.server.registry import Registry
from twinstack.server.repair.loop import Repair
from twinstack.server.strategy.base import ServerConfig
from twinstack.store.sqlite import SQLiteStore

JSON = dict[str, Any]

SERVICES = resource("", "services")
EVENTS = resource("", "events")
SERVICE_CIDRS = resource("networking.k8s.io", "servicecidrs")
IP_ADDRESSES = resource("networking.k8s.io", "ipaddresses")
SLICES = resource("discovery.k8s.io", "endpointslices")
ENDPOINTS = resource("", "endpoints")
SERVICE_NAME = "kubernetes.io/service-name"
ADMIN = UserInfo("admin")
DUAL = ("10.96.0.0/16", "fd00:96::/112")


def config(*ranges: str, advertise: tuple[str, ...] = ("192.0.2.1", "2001:db8::1"), port: int = 6443) -> ServerConfig:
    return ServerConfig(
        service_ranges=tuple(CIDR.parse(text) for text in ranges),
        node_ports=range(30000, 32768),
        secure_port=port,
        advertise_addresses=tuple(Address.parse(text) for text in advertise),
    )


@asynccontextmanager
async def opened(path: Path, flags: ServerConfig) -> AsyncIterator[Registry]:
    registry = Registry(SQLiteStore(str(path)), flags)
    await registry.open()
    try:
        yield registry
    finally:
        await registry.close()


def run(work: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(work())


async def ensure_all(registry: Registry) -> None:
    await DefaultRanges(registry, registry.config).ensure()
    await ensure_service(registry, registry.config)
    await ensure_endpoints(registry, registry.config, own_addresses(registry.config))


@pytest.mark.parametrize(("ranges", "family"), [(DUAL, "IPv4"), (DUAL[::-1], "IPv6"), (DUAL[1:], "IPv6")])
def test_a_new_cluster_has_its_service(tmp_path: Path, ranges: tuple[str, ...], family: str) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(*ranges)) as registry:
            await ensure_all(registry)
            reader = registry.reader
            cidr = reader.get(SERVICE_CIDRS, "", "kubernetes")
            assert cidr
            assert cidr["spec"]["cidrs"] == list(ranges)
            (ready,) = cidr["status"]["conditions"]
            assert (ready["type"], ready["status"]) == ("Ready", "True")
            assert ready["message"] == "Kubernetes default Service CIDR is ready"
            service = reader.get(SERVICES, "default", "kubernetes")
            assert service
            ip = str(CIDR.parse(ranges[0]).address(1))
            assert service["spec"] == {
                "clusterIP": ip,
                "clusterIPs": [ip],
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": [family],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
                "sessionAffinity": "None",
                "type": "ClusterIP",
            }
            assert [record["metadata"]["name"] for record in reader.list(IP_ADDRESSES)] == [ip]
            endpoints = reader.get(SLICES, "default", "kubernetes")
            assert endpoints
            assert endpoints["addressType"] == family
            address = "192.0.2.1" if family == "IPv4" else "2001:db8::1"
            assert [endpoint["addresses"] for endpoint in endpoints["endpoints"]] == [[address]]
            assert endpoints["metadata"]["labels"] == {"kubernetes.io/service-name": "kubernetes"}

    run(work)


def test_a_second_look_writes_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ensure_all(registry)
            before = registry.cache.revision
            await ensure_all(registry)
            assert registry.cache.revision == before

    run(work)


def test_single_stack_grows_to_dual_stack_at_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(DUAL[0])) as registry:
            await ensure_all(registry)
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ensure_all(registry)
            cidr = registry.reader.get(SERVICE_CIDRS, "", "kubernetes")
            assert cidr
            assert cidr["spec"]["cidrs"] == list(DUAL)
            service = registry.reader.get(SERVICES, "default", "kubernetes")
            assert service
            assert service["spec"]["ipFamilies"] == ["IPv4"]  # never corrected
            body = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"}}
            written = await registry.create(Route(SERVICES, "default"), body, ADMIN)
            assert written.object["spec"]["ipFamilies"] == ["IPv4", "IPv6"]

    run(work)


def test_other_flags_are_told_once_and_change_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ensure_all(registry)
        async with opened(tmp_path / "store", config(*DUAL[::-1])) as registry:
            ranges = DefaultRanges(registry, registry.config)
            await ranges.ensure()
            await ranges.ensure()
            cidr = registry.reader.get(SERVICE_CIDRS, "", "kubernetes")
            assert cidr
            assert cidr["spec"]["cidrs"] == list(DUAL)
            (event,) = registry.reader.list(EVENTS)
            assert (event["type"], event["reason"]) == ("Warning", "KubernetesDefaultServiceCIDRInconsistent")
            assert event["message"] == (
                "The default ServiceCIDR [10.96.0.0/16 fd00:96::/112] does not match the controller flag "
                "configurations fd00:96::/112,10.96.0.0/16"
            )

    run(work)


def test_ready_false_is_reported_and_kept(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            ranges = DefaultRanges(registry, registry.config)
            await ranges.ensure()
            condition = {"type": "Ready", "status": "False", "reason": "Terminating", "message": "in use"}
            route = Route(SERVICE_CIDRS, name="kubernetes", subresource="status")
            await registry.change(route, lambda obj: (obj | {"status": {"conditions": [condition]}}, []), ADMIN)
            await ranges.ensure()
            (event,) = registry.reader.list(EVENTS)
            assert (event["reason"], event["message"]) == ("Terminating", "Configuration matches, but in use")
            body = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
            with pytest.raises(StatusError, match="range is full"):
                await registry.create(Route(SERVICES, "default"), body, ADMIN)

    run(work)


def shown(registry: Registry) -> dict[str, list[str]]:
    """The addresses of each EndpointSlice of the Service, by the slice's name."""
    slices = [s for s in registry.reader.list(SLICES) if s["metadata"]["labels"] == {SERVICE_NAME: "kubernetes"}]
    for each in slices:
        assert {Address.parse(ip).family for end in each["endpoints"] for ip in end["addresses"]} == {
            each["addressType"]
        }
    return {s["metadata"]["name"]: [ip for end in s["endpoints"] for ip in end["addresses"]] for s in slices}


def test_endpoints_follow_the_servers_addresses(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ensure_all(registry)
            assert shown(registry) == {"kubernetes": ["192.0.2.1"], "kubernetes-ipv6": ["2001:db8::1"]}
        moved = config(*DUAL, advertise=("192.0.2.7", "192.0.2.3"), port=7443)
        async with opened(tmp_path / "store", moved) as registry:
            await ensure_all(registry)
            assert shown(registry) == {"kubernetes": ["192.0.2.3", "192.0.2.7"]}
            endpoints = registry.reader.get(SLICES, "default", "kubernetes")
            assert endpoints
            assert endpoints["ports"] == [{"name": "https", "port": 7443, "protocol": "TCP"}]
        async with opened(tmp_path / "store", config(*DUAL[::-1])) as registry:  # of another type: made anew
            await ensure_endpoints(registry, registry.config, own_addresses(registry.config))
            assert shown(registry) == {"kubernetes": ["2001:db8::1"], "kubernetes-ipv4": ["192.0.2.1"]}

    run(work)


def test_one_address_has_one_slice_and_endpoints_are_of_the_primary_family(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(*DUAL, advertise=("192.0.2.1",))) as registry:
            await ensure_all(registry)
            assert shown(registry) == {"kubernetes": ["192.0.2.1"]}
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ServerEndpoints(registry, registry.config).ensure()
            endpoints = registry.reader.get(ENDPOINTS, "default", "kubernetes")
            assert endpoints
            assert endpoints["subsets"][0]["addresses"] == [{"ip": "192.0.2.1"}]

    run(work)


async def new_service(registry: Registry, name: str, **spec: Any) -> JSON:
    body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]} | spec}
    made: JSON = (await registry.create(Route(SERVICES, "default"), body, ADMIN)).object["spec"]
    return made


async def label(registry: Registry, name: str, **spec: Any) -> JSON:
    """A change that has nothing to do with families, and what is sent with it."""

    def modify(obj: JSON) -> tuple[JSON, list[str]]:
        obj["metadata"]["labels"] = {"touched": "yes"}
        obj["spec"] |= spec
        return obj, []

    written = await registry.change(Route(SERVICES, "default", name), modify, ADMIN)
    return dict(written.object["spec"])


def reasons(registry: Registry) -> list[str]:
    return [event["reason"] for event in registry.reader.list(EVENTS)]


def test_a_new_primary_family_is_for_new_services(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ensure_all(registry)
            old = await new_service(registry, "old", ipFamilyPolicy="RequireDualStack")
        async with opened(tmp_path / "store", config(*DUAL[::-1])) as registry:
            await ensure_all(registry)
            assert reasons(registry) == ["KubernetesDefaultServiceCIDRInconsistent"]
            assert await label(registry, "old") == old
            assert (await new_service(registry, "single"))["ipFamilies"] == ["IPv6"]
            both = await new_service(registry, "both", ipFamilyPolicy="PreferDualStack")
            assert both["ipFamilies"] == ["IPv6", "IPv4"]
            kubernetes = registry.reader.get(SERVICES, "default", "kubernetes")
            assert kubernetes
            assert kubernetes["spec"]["ipFamilies"] == ["IPv4"]  # never corrected

    run(work)


def test_dual_stack_shrinks_to_one_range(tmp_path: Path) -> None:
    """Nothing is taken from anybody; who requires both families must give one up to change anything else."""

    async def work() -> None:
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ensure_all(registry)
            prefers = await new_service(registry, "prefers", ipFamilyPolicy="PreferDualStack")
            requires = await new_service(registry, "requires", ipFamilyPolicy="RequireDualStack")
        async with opened(tmp_path / "store", config(DUAL[0])) as registry:
            await ensure_all(registry)
            assert reasons(registry) == ["KubernetesDefaultServiceCIDRInconsistent"]
            assert await label(registry, "prefers") == prefers
            with pytest.raises(StatusError, match="this cluster is not configured for dual-stack services"):
                await label(registry, "requires")
            second = requires["clusterIPs"][1]
            assert registry.reader.get(IP_ADDRESSES, "", second)
            single = await label(registry, "requires", ipFamilyPolicy="SingleStack")
            assert (single["clusterIPs"], single["ipFamilies"]) == (requires["clusterIPs"][:1], ["IPv4"])
            assert registry.reader.get(IP_ADDRESSES, "", second) is None
            new = await new_service(registry, "new", ipFamilyPolicy="PreferDualStack")
            assert new["ipFamilies"] == ["IPv4"]

    run(work)


def test_a_range_that_moves_in_the_flags_moves_with_a_service_cidr_of_its_own(tmp_path: Path) -> None:
    """The object `kubernetes` rules, not the flag: the old range gives addresses until another one takes its place."""

    async def work() -> None:
        async with opened(tmp_path / "store", config("10.96.0.0/16")) as registry:
            await ensure_all(registry)
            old = await new_service(registry, "old")
        async with opened(tmp_path / "store", config("10.97.0.0/16")) as registry:
            await ensure_all(registry)
            assert reasons(registry) == ["KubernetesDefaultServiceCIDRInconsistent"]
            assert (await new_service(registry, "still"))["clusterIP"].startswith("10.96.")
            await registry.delete(Route(SERVICE_CIDRS, name="kubernetes"), ADMIN)  # nobody holds it: no controller here
            await ensure_all(registry)
            assert (await new_service(registry, "moved"))["clusterIP"].startswith("10.97.")
            assert await label(registry, "old") == old
            repair = Repair(registry)
            await repair.look_at_everything()
            assert sorted(reasons(registry)).count("ClusterIPOutOfRange") == 3  # old, still and kubernetes
            assert await label(registry, "old") == old

    run(work)


def test_a_family_more_upgrades_nobody_by_itself(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(DUAL[0])) as registry:
            await ensure_all(registry)
            prefers = await new_service(registry, "prefers", ipFamilyPolicy="PreferDualStack")
            assert prefers["ipFamilies"] == ["IPv4"]
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ensure_all(registry)
            assert await label(registry, "prefers") == prefers  # nobody is upgraded by a change of flags
            grown = await label(registry, "prefers", type="NodePort")  # but by one of these
            assert grown["ipFamilies"] == ["IPv4", "IPv6"]
            assert grown["clusterIPs"][:1] == prefers["clusterIPs"]

    run(work)


def test_writers_of_one_range_never_share_an_address(tmp_path: Path) -> None:
    """More writers than addresses, all at once: every address is given once, and the rest are told."""

    async def work() -> None:
        async with opened(tmp_path / "store", config("10.0.0.0/28")) as registry:
            await ensure_all(registry)

            async def create(number: int) -> str:
                body = {"metadata": {"name": f"s{number}"}, "spec": {"ports": [{"port": 80}], "type": "NodePort"}}
                try:
                    written = await registry.create(Route(SERVICES, "default"), body, ADMIN)
                except StatusError as error:
                    return error.message
                return str(written.object["spec"]["clusterIP"])

            answers = await asyncio.gather(*(create(number) for number in range(20)))
            given = [answer for answer in answers if answer.startswith("10.")]
            assert len(given) == len(set(given)) == 13  # of 14, the first is the Service `kubernetes`
            assert all("range is full" in answer for answer in answers if answer not in given)
            for service in list(registry.reader.list(SERVICES)):
                await registry.delete(Route(SERVICES, "default", service["metadata"]["name"]), ADMIN)
            assert list(registry.reader.list(IP_ADDRESSES)) == []
            assert not any(registry.reader.exists(f"nodeports/{port}") for port in registry.config.node_ports)

    run(work)


def test_the_last_finalizer_takes_the_addresses_with_it(tmp_path: Path) -> None:
    """Also when the same write gives one of them up."""

    async def work() -> None:
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ensure_all(registry)
            body = {
                "metadata": {"name": "web", "finalizers": ["example.com/wait"]},
                "spec": {"ports": [{"port": 80}], "ipFamilyPolicy": "RequireDualStack"},
            }
            await registry.create(Route(SERVICES, "default"), body, ADMIN)
            route = Route(SERVICES, "default", "web")
            await registry.delete(route, ADMIN)
            assert len(list(registry.reader.list(IP_ADDRESSES))) == 3

            def finish(obj: JSON) -> tuple[JSON, list[str]]:
                obj["metadata"]["finalizers"] = []
                obj["spec"]["ipFamilyPolicy"] = "SingleStack"
                return obj, []

            await registry.change(route, finish, ADMIN)
            assert registry.reader.get(SERVICES, "default", "web") is None
            assert len(list(registry.reader.list(IP_ADDRESSES))) == 1

    run(work)


def test_a_deleted_default_range_comes_back_and_its_services_stay(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "store", config(*DUAL)) as registry:
            await ensure_all(registry)
            before = list(registry.reader.list(IP_ADDRESSES))
            await registry.delete(Route(SERVICE_CIDRS, name="kubernetes"), ADMIN)
            await ensure_all(registry)
            cidr = registry.reader.get(SERVICE_CIDRS, "", "kubernetes")
            assert cidr
            assert cidr["status"]["conditions"][0]["status"] == "True"
            assert list(registry.reader.list(IP_ADDRESSES)) == before

    run(work)


def test_a_second_range_widens_a_full_one_until_it_is_let_go(tmp_path: Path) -> None:
    """Ranges are added and removed while the server runs; one that is being deleted gives nothing any more."""

    async def work() -> None:
        async with opened(tmp_path / "store", config("10.0.0.0/29")) as registry:
            await ensure_all(registry)

            async def create(name: str) -> str:
                body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
                written = await registry.create(Route(SERVICES, "default"), body, ADMIN)
                return str(written.object["spec"]["clusterIP"])

            for number in range(5):
                await create(f"s{number}")
            with pytest.raises(StatusError, match="range is full"):
                await create("more")
            wider = {
                "metadata": {"name": "wider", "finalizers": ["example.com/wait"]},
                "spec": {"cidrs": ["10.9.0.0/24"]},
            }
            await registry.create(Route(SERVICE_CIDRS), wider, ADMIN)
            assert (await create("more")).startswith("10.9.0.")
            await registry.delete(Route(SERVICE_CIDRS, name="wider"), ADMIN)
            with pytest.raises(StatusError, match="range is full"):
                await create("most")
            deleting = registry.reader.get(SERVICE_CIDRS, "", "wider")
            assert deleting
            assert deleting["metadata"]["deletionTimestamp"]

    run(work)
