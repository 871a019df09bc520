"""The repair loops on a real store: damage is found, told and mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from twinstack.api.resources import Resource, resource
from twinstack.ip import CIDR
from twinstack.server.kubernetes_service import DefaultRanges, ensure_service
from twinstack.server.messages import Route, UserInfo
from twinstack.server.recorder import Recorder
from twinstack.server.registry import Registry
from twinstack.server.repair import loop as repair_loop
from twinstack.server.repair.loop import Repair
from twinstack.server.strategy.base import ServerConfig
from twinstack.store import Delete, Operation, Put
from twinstack.store.sqlite import SQLiteStore

JSON = dict[str, Any]

SERVICES = resource("", "services")
EVENTS = resource("events.k8s.io", "events")
SERVICE_CIDRS = resource("networking.k8s.io", "servicecidrs")
IP_ADDRESSES = resource("networking.k8s.io", "ipaddresses")
ADMIN = UserInfo("admin")
CONFIG = ServerConfig(
    service_ranges=(CIDR.parse("10.96.0.0/16"), CIDR.parse("fd00:96::/112")),
    node_ports=range(30000, 32768),
    secure_port=6443,
)


class Bed:
    """A registry with its repair."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.repair = Repair(registry)

    async def create(self, name: str, **spec: Any) -> JSON:
        body = {
            "metadata": {"name": name},
            "spec": {"ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"} | spec,
        }
        return (await self.registry.create(Route(SERVICES, "default"), body, ADMIN)).object

    async def write(self, *operations: Operation) -> None:
        assert await self.registry.commit(operations)

    async def store(self, row: Resource, obj: JSON) -> None:
        """Past the rules, as an older server or a mistake would."""
        meta = obj["metadata"]

        def encode(revision: int) -> bytes:
            meta["resourceVersion"] = str(revision)
            return msgspec.json.encode(obj)

        await self.write(Put(row.key(meta.get("namespace", ""), meta["name"]), encode, None))

    def service(self, name: str) -> JSON:
        found = self.registry.reader.get(SERVICES, "default", name)
        assert found is not None
        return found

    def owners(self) -> dict[str, str]:
        """Of every IPAddress object."""
        found = self.registry.reader.list(IP_ADDRESSES)
        return {item["metadata"]["name"]: item["spec"]["parentRef"]["name"] for item in found}

    def events(self) -> list[tuple[str, str, str]]:
        found = self.registry.reader.list(EVENTS)
        return sorted((item["reason"], item["regarding"]["kind"], item["note"]) for item in found)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Bed]:
    registry = Registry(SQLiteStore(str(path)), CONFIG)
    await registry.open()
    try:
        await DefaultRanges(registry, CONFIG).ensure()
        await ensure_service(registry, CONFIG)
        yield Bed(registry)
    finally:
        await registry.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Bed], Coroutine[None, None, None]]], None]:
    def runner(work: Callable[[Bed], Coroutine[None, None, None]]) -> None:
        async def main() -> None:
            async with opened(tmp_path / "store") as bed:
                await work(bed)

        asyncio.run(main())

    return runner


Run = Callable[[Callable[[Bed], Coroutine[None, None, None]]], None]


def test_nothing_to_mend_writes_nothing(run: Run) -> None:
    async def work(bed: Bed) -> None:
        await bed.create("web", type="LoadBalancer", externalTrafficPolicy="Local")
        before = bed.registry.cache.revision
        for _ in range(3):
            await bed.repair.look_at_everything()
        assert bed.registry.cache.revision == before

    run(work)


def test_lost_records_are_written_again(run: Run) -> None:
    async def work(bed: Bed) -> None:
        ips = {
            ip: f"s{n}" for n in range(120) for ip in (await bed.create(f"s{n}", type="NodePort"))["spec"]["clusterIPs"]
        }
        before = bed.owners()
        ports = bed.registry.cache.other_keys("nodeports/")
        await bed.write(
            *(Delete(IP_ADDRESSES.key("", ip), None) for ip in ips), *(Delete(port, None) for port in ports)
        )
        await bed.repair.look_at_everything()
        assert bed.owners() == before
        assert sorted(bed.registry.cache.other_keys("nodeports/")) == sorted(ports)
        reasons = [reason for reason, _, _ in bed.events()]
        assert reasons.count("ClusterIPNotAllocated") == 100, "told in measure"
        assert reasons.count("PortNotAllocated") == 100

    run(work)


def test_a_wrong_owner_is_replaced_under_a_new_identity(run: Run) -> None:
    async def work(bed: Bed) -> None:
        service = await bed.create("web")
        ip = service["spec"]["clusterIPs"][1]
        record = bed.registry.reader.get(IP_ADDRESSES, "", ip)
        assert record is not None
        uid = record["metadata"]["uid"]
        record["spec"]["parentRef"]["name"] = "gone"
        await bed.store(IP_ADDRESSES, record)
        await bed.repair.look_at_everything()
        mended = bed.registry.reader.get(IP_ADDRESSES, "", ip)
        assert mended is not None
        assert mended["spec"]["parentRef"]["name"] == "web"
        assert mended["metadata"]["uid"] != uid
        note = f"the ClusterIP [IPv6]: {ip} for Service default/web has a wrong reference; repairing"
        assert bed.events() == [("ClusterIPNotAllocated", "Service", note)]
        (event,) = bed.registry.reader.list(EVENTS)
        assert (event["action"], event["type"]) == ("ClusterIPAllocation", "Warning")
        assert event["reportingController"] == "ipallocator-repair-controller"
        assert event["regarding"]["uid"] == service["metadata"]["uid"]

    run(work)


def test_one_address_of_two_services_gets_one_record(run: Run) -> None:
    """Both without a record, in one batch: the first gets it, the other is told."""

    async def work(bed: Bed) -> None:
        await bed.create("a")
        second = await bed.create("b")
        shared = second["spec"]["clusterIPs"][0]
        first = bed.service("a")
        old = first["spec"]["clusterIPs"][0]
        first["spec"]["clusterIPs"][0] = first["spec"]["clusterIP"] = shared
        await bed.store(SERVICES, first)
        await bed.write(Delete(IP_ADDRESSES.key("", shared), None), Delete(IP_ADDRESSES.key("", old), None))
        await bed.repair.look_at_everything()
        owner = bed.owners()[shared]
        other = "b" if owner == "a" else "a"
        assert owner in ("a", "b")
        assert [event[0] for event in bed.events()] == ["ClusterIPAlreadyAllocated", "ClusterIPNotAllocated"]
        told = next(item for item in bed.registry.reader.list(EVENTS) if item["reason"] == "ClusterIPAlreadyAllocated")
        assert told["regarding"]["name"] == other

    run(work)


def test_text_that_is_not_canonical_holds_its_record(run: Run) -> None:
    async def work(bed: Bed) -> None:
        await bed.create("web", clusterIP="fd00:96::5", ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack")
        service = bed.service("web")
        service["spec"]["clusterIP"], service["spec"]["clusterIPs"] = "FD00:96:0::5", ["FD00:96:0::5"]
        await bed.store(SERVICES, service)
        before = bed.registry.cache.revision
        await bed.repair.look_at_everything()
        assert bed.registry.cache.revision == before
        await bed.registry.delete(Route(SERVICES, "default", "web"), ADMIN)
        assert "fd00:96::5" not in bed.owners()

    run(work)


def test_leaked_ports_go_in_the_third_round(run: Run) -> None:
    async def work(bed: Bed) -> None:
        await bed.write(Put("nodeports/30100", lambda _: b"{}", 0))
        for _ in range(2):
            await bed.repair.look_at_everything()
            assert bed.registry.reader.exists("nodeports/30100")
        await bed.repair.look_at_everything()
        assert not bed.registry.reader.exists("nodeports/30100")

    run(work)


def test_the_loop_follows_changes_and_is_ready_after_its_first_look(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair_loop, "_GATHER_SECONDS", 0.01)

    async def eventually(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    async def work(bed: Bed) -> None:
        reader = bed.registry.reader
        task = asyncio.create_task(bed.repair.run())
        try:
            await eventually(lambda: bed.repair.ready)
            service = await bed.create("web")
            ip = service["spec"]["clusterIP"]
            await bed.registry.delete(Route(IP_ADDRESSES, "", ip), ADMIN)  # as a person may
            await eventually(lambda: bed.owners().get(ip) == "web")

            labels = {"ipaddress.kubernetes.io/managed-by": "me"}

            def claim(obj: JSON) -> tuple[JSON, list[str]]:
                obj["metadata"]["labels"] = labels
                return obj, []

            await bed.registry.change(Route(IP_ADDRESSES, "", ip), claim, ADMIN)
            mended = {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            }
            await eventually(
                lambda: (reader.get(IP_ADDRESSES, "", ip) or {"metadata": {}})["metadata"]["labels"] == mended
            )

            leaked = {
                "kind": "IPAddress",
                "apiVersion": "networking.k8s.io/v1",
                "metadata": {
                    "name": "10.96.7.7",
                    "uid": "u",
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": mended,
                },
                "spec": {"parentRef": {"group": "", "resource": "services", "namespace": "default", "name": "gone"}},
            }
            await bed.store(IP_ADDRESSES, leaked)
            await eventually(lambda: "10.96.7.7" not in bed.owners())
            await eventually(lambda: ("IPAddressNotAllocated", "IPAddress") in [event[:2] for event in bed.events()])
        finally:
            task.cancel()
            await asyncio.wait([task])

    run(work)


def test_the_loop_waits_for_the_first_range(tmp_path: Path) -> None:
    async def work() -> None:
        registry = Registry(SQLiteStore(str(tmp_path / "store")), CONFIG)
        await registry.open()
        repair = Repair(registry)
        task = asyncio.create_task(repair.run())
        try:
            await asyncio.sleep(0.05)
            assert not repair.ready
            await DefaultRanges(registry, CONFIG).ensure()
            async with asyncio.timeout(60):
                while not repair.ready:
                    await asyncio.sleep(0.005)
            assert list(registry.reader.list(EVENTS)) == []
        finally:
            task.cancel()
            await asyncio.wait([task])
            await registry.close()

    asyncio.run(work())


def test_what_cannot_be_read_is_skipped(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def work(bed: Bed) -> None:
        service = await bed.create("web", type="NodePort")
        spec = service["spec"] | {"clusterIPs": 7}
        await bed.store(SERVICES, service | {"spec": spec})
        other = await bed.create("other")
        await bed.registry.delete(Route(IP_ADDRESSES, "", other["spec"]["clusterIP"]), ADMIN)
        before = bed.owners()
        for _ in range(4):
            await bed.repair.look_at_everything()
        assert bed.owners() == before | {other["spec"]["clusterIP"]: "other"}
        assert bed.registry.reader.exists(f"nodeports/{service['spec']['ports'][0]['nodePort']}")

    run(work)
    assert "services/default/web cannot be read" in caplog.text


def test_an_event_that_happens_again_is_counted(run: Run) -> None:
    async def work(bed: Bed) -> None:
        recorder = Recorder(bed.registry, "tester")
        about = {"kind": "Service", "apiVersion": "v1", "namespace": "default", "name": "web", "uid": "1"}
        for _ in range(3):
            await recorder.warn(about, "Look", "Wrong", "it is wrong")
        await recorder.warn(about, "Look", "Wrong", "otherwise wrong")
        await recorder.warn({"kind": "ServiceCIDR", "name": "all"}, "Look", "Wrong", "x" * 2000)
        notes = {item["note"]: item.get("series", {}).get("count") for item in bed.registry.reader.list(EVENTS)}
        assert notes == {"it is wrong": 3, "otherwise wrong": None, "x" * 1024: None}
        for event in list(bed.registry.reader.list(EVENTS)):
            meta = event["metadata"]
            await bed.registry.delete(Route(EVENTS, meta["namespace"], meta["name"]), ADMIN)
        await recorder.warn(about, "Look", "Wrong", "it is wrong")
        assert [item["note"] for item in bed.registry.reader.list(EVENTS)] == ["it is wrong"]

    run(work)
