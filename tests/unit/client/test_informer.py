from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import uvloop
from tests.unit.client.api_stub import ApiStub, Behaviour, Call, Reply, api_stub, bookmark, pod, status

from twinstack.api.core import Pod
from twinstack.api.kinds import PODS
from twinstack.client import reflector as module
from twinstack.client.informer import Informer
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client

Change = tuple[str | None, str | None]  # resourceVersions before and after


def change(old: Pod | None, new: Pod | None) -> Change:
    return (old.metadata.resource_version if old else None, new.metadata.resource_version if new else None)


def run(
    behaviour: Behaviour, scenario: Callable[[ApiStub, Informer[Pod], list[Change]], Awaitable[None]], **options: Any
) -> None:
    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            informer = Informer(client, PODS, **options)
            changes: list[Change] = []
            informer.subscribe(lambda old, new: changes.append(change(old, new)))
            task = asyncio.create_task(informer.run())
            try:
                async with asyncio.timeout(60):
                    await scenario(stub, informer, changes)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await client.close()

    uvloop.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_watch_list_then_changes_then_resume_after_a_clean_end() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        if call.query.get("sendInitialEvents") == "true":
            assert call.query["resourceVersionMatch"] == "NotOlderThan"
            reply.send(("ADDED", pod("a", 1)), ("ADDED", pod("b", 2)), ("BOOKMARK", bookmark(5, end=True)))
            reply.send(("MODIFIED", pod("a", 6)), ("DELETED", pod("b", 7)), ("BOOKMARK", bookmark(9)))
            reply.end()
        else:
            assert call.query["resourceVersion"] == "9"
            reply.send(("ADDED", pod("c", 10)))
            await asyncio.sleep(60)

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        await informer.synced()
        await until(lambda: "default/c" in informer.objects)
        assert changes == [(None, "1"), (None, "2"), ("1", "6"), ("2", None), (None, "10")]
        assert set(informer.objects) == {"default/a", "default/c"}
        assert stub.connections == 1

    run(behaviour, scenario)


def test_an_empty_collection_is_synced_too() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        reply.send(("BOOKMARK", bookmark(5, end=True)))
        await asyncio.sleep(60)

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        await informer.synced()
        assert not informer.objects

    run(behaviour, scenario)


def test_a_server_without_watch_list_is_listed() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        if call.query.get("sendInitialEvents"):
            reply.json(status(422, "Invalid", "sendInitialEvents is forbidden"), status=422)
        elif call.query.get("watch"):
            assert call.query["resourceVersion"] == "7"
            reply.begin()
            reply.send(("ADDED", pod("b", 8)))
            await asyncio.sleep(60)
        else:
            assert call.query == {"labelSelector": "x=y", "fieldSelector": "spec.nodeName=n"}
            reply.json({"metadata": {"resourceVersion": "7"}, "items": [pod("a", 1)]})

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        await until(lambda: len(changes) == 2)
        assert changes == [(None, "1"), (None, "8")]

    run(behaviour, scenario, label_selector="x=y", field_selector="spec.nodeName=n")


def test_a_server_that_ignores_watch_list_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INITIAL_STATE", 0.05)

    async def behaviour(call: Call, reply: Reply) -> None:
        if call.query.get("watch"):
            reply.begin()
            reply.send(("ADDED", pod("a", 1)))
            await asyncio.sleep(60)
        else:
            reply.json({"metadata": {"resourceVersion": "7"}, "items": [pod("a", 1)]})

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        await informer.synced()
        assert changes == [(None, "1")]

    run(behaviour, scenario)


@pytest.mark.parametrize("in_stream", [True, False])
def test_gone_reads_the_state_anew_and_reports_the_difference(in_stream: bool) -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        gone = status(410, "Expired", "too old resource version")
        if call.query.get("sendInitialEvents"):
            reply.begin()
            if len(stub_calls(call)) == 1:
                reply.send(("ADDED", pod("a", 1)), ("ADDED", pod("b", 2)), ("ADDED", pod("c", 3)))
                reply.send(("BOOKMARK", bookmark(5, end=True)))
                reply.end()
            else:
                reply.send(("ADDED", pod("a", 1)), ("ADDED", pod("b", 12)), ("ADDED", pod("d", 13)))
                reply.send(("BOOKMARK", bookmark(15, end=True)))
                await asyncio.sleep(60)
        elif in_stream:
            reply.begin()
            reply.send(("ERROR", gone))
            reply.end()
        else:
            reply.json(gone, status=410)

    lists: list[Call] = []

    def stub_calls(call: Call) -> list[Call]:
        lists.append(call)
        return lists

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        await until(lambda: len(changes) >= 6)
        assert changes[3:] == [("2", "12"), (None, "13"), ("3", None)]
        assert set(informer.objects) == {"default/a", "default/b", "default/d"}

    run(behaviour, scenario)


def test_a_killed_server_is_found_again_and_silence_is_death() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        if call.query.get("sendInitialEvents"):
            reply.send(("ADDED", pod("a", 1)), ("BOOKMARK", bookmark(5, end=True)))
        elif call.query["resourceVersion"] == "5":
            reply.send(("MODIFIED", pod("a", 6)))
        elif call.query["resourceVersion"] == "6":
            reply.send(("MODIFIED", pod("a", 7)))
        await asyncio.sleep(60)

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        await informer.synced()
        stub.drop_all()
        await until(lambda: len(changes) == 3)  # the second reconnection comes from the silence
        assert changes == [(None, "1"), ("1", "6"), ("6", "7")]

    run(behaviour, scenario, silence=0.2)


def test_the_server_may_come_after_the_client() -> None:
    async def main() -> None:
        async with api_stub(behaviour) as probe:
            url = probe.url
        client = Client(ClusterAccess(server=url), user_agent="test")
        informer = Informer(client, PODS)
        task = asyncio.create_task(informer.run())
        await asyncio.sleep(0.12)
        server = await asyncio.start_server(ApiStub(behaviour).serve, "127.0.0.1", int(url.rpartition(":")[2]))
        async with asyncio.timeout(20):
            await informer.synced()
        task.cancel()
        await client.close()
        server.close()
        await asyncio.sleep(0.01)

    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        reply.send(("BOOKMARK", bookmark(5, end=True)))
        reply.end()

    uvloop.run(main())


def test_indexes_follow_and_a_faulty_handler_harms_nobody() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        on_n = {"nodeName": "n"}
        on_m = {"nodeName": "m"}
        reply.send(
            ("ADDED", pod("a", 1, spec=on_n)), ("ADDED", pod("b", 2, spec=on_n)), ("BOOKMARK", bookmark(5, end=True))
        )
        reply.send(("MODIFIED", pod("a", 6, spec=on_m)), ("DELETED", pod("b", 7, spec=on_n)))
        await asyncio.sleep(60)

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        def faulty(old: Pod | None, new: Pod | None) -> None:
            raise RuntimeError("faulty")

        by_node = informer.index(lambda pod: [pod.spec.node_name])
        informer._handlers.insert(0, faulty)
        await until(lambda: len(changes) == 4)
        assert list(by_node["m"]) == ["default/a"]
        assert not by_node["n"]
        later = informer.index(lambda pod: [pod.spec.node_name])
        assert list(later["m"]) == ["default/a"]
        told: list[Change] = []
        informer.subscribe(lambda old, new: told.append(change(old, new)))
        assert told == [(None, "6")]

    run(behaviour, scenario)


def test_own_writes_are_seen_at_once_and_older_news_is_void() -> None:
    go_on = asyncio.Event()

    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        reply.send(("ADDED", pod("a", 1)), ("ADDED", pod("b", 2)), ("BOOKMARK", bookmark(5, end=True)))
        await go_on.wait()
        reply.send(("MODIFIED", pod("a", 6)), ("MODIFIED", pod("a", 8)), ("MODIFIED", pod("b", 7)))
        reply.send(
            ("DELETED", pod("b", 9)), ("ADDED", pod("b", 10) | {"metadata": {**pod("b", 10)["metadata"], "uid": "new"}})
        )
        await asyncio.sleep(60)

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        await informer.synced()
        client = informer._client
        assert isinstance(client, Client)
        informer.wrote(msgspec.convert(pod("a", 8), Pod))
        informer.removed(informer.objects["default/b"])
        informer.wrote(msgspec.convert(pod("b", 4), Pod))
        assert changes[2:] == [("1", "8"), ("2", None)]
        go_on.set()
        await until(lambda: len(changes) == 5)
        assert changes[4:] == [(None, "10")]

    run(behaviour, scenario)


def test_a_write_younger_than_the_listed_state_is_kept() -> None:
    half_way = asyncio.Event()

    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        reply.send(("ADDED", pod("a", 1)))
        await half_way.wait()
        reply.send(("BOOKMARK", bookmark(5, end=True)), ("ADDED", pod("b", 6)))
        await asyncio.sleep(60)

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        await until(lambda: len(changes) == 1)
        informer.wrote(msgspec.convert(pod("b", 6), Pod))
        half_way.set()
        await informer.synced()
        await asyncio.sleep(0.01)
        assert changes == [(None, "1"), (None, "6")]

    run(behaviour, scenario)


def test_a_server_restored_from_a_backup_is_believed() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        if reply.stub.connections == 1:
            reply.send(("ADDED", pod("a", 90)), ("ADDED", pod("b", 91)), ("BOOKMARK", bookmark(95, end=True)))
            reply.send(("ERROR", status(410, "Expired", "gone")))
            reply.drop()
        elif call.query.get("sendInitialEvents"):
            reply.send(("ADDED", pod("a", 2)), ("BOOKMARK", bookmark(5, end=True)))
            await asyncio.sleep(60)

    async def scenario(stub: ApiStub, informer: Informer[Pod], changes: list[Change]) -> None:
        await until(lambda: [*informer.objects] == ["default/a"] and changes[-1] == (None, "2"))

    run(behaviour, scenario)


def test_one_that_finds_the_server_back_wakes_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 30.0)

    async def behaviour(call: Call, reply: Reply) -> None:
        reply.begin()
        reply.send(("BOOKMARK", bookmark(5, end=True)))
        await asyncio.sleep(60)

    async def main() -> None:
        async with api_stub(behaviour) as probe:
            url = probe.url
        client = Client(ClusterAccess(server=url), user_agent="test")
        informer = Informer(client, PODS)
        informer._pause = 30.0
        monkeypatch.setattr(module, "LONGEST_REFUSED", 30.0)
        task = asyncio.create_task(informer.run())
        await asyncio.sleep(0.05)
        stub = ApiStub(behaviour)
        server = await asyncio.start_server(stub.serve, "127.0.0.1", int(url.rpartition(":")[2]))
        watch = client.watch(PODS)
        await anext(watch)
        async with asyncio.timeout(20):
            await informer.synced()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await watch.aclose()
        await client.close()
        server.close()
        await stub.stop()

    uvloop.run(main())
