from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from tests.unit.client.api_stub import ApiStub, Behaviour, Call, Reply, api_stub, status

from twinstack.api.core import Pod
from twinstack.api.meta import ObjectMeta
from twinstack.client.events import BURST, EventRecorder
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client

POD = Pod(kind="Pod", api_version="v1", metadata=ObjectMeta(name="web", namespace="shop", uid="u1"))


def run(behaviour: Behaviour, scenario: Callable[[ApiStub, EventRecorder], Awaitable[None]]) -> None:
    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            recorder = EventRecorder(client, "scheduler", "host-1")
            task = asyncio.create_task(recorder.run())
            try:
                async with asyncio.timeout(60):
                    await scenario(stub, recorder)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await client.close()

    uvloop.run(main())


async def accept(call: Call, reply: Reply) -> None:
    reply.json({"kind": "Event", "apiVersion": "v1", "metadata": {"name": "e"}}, status=201)


async def calls(stub: ApiStub, count: int) -> list[tuple[str, str, dict[str, Any]]]:
    while len(stub.calls) < count:
        await asyncio.sleep(0.001)
    return [(call.method, call.path, json.loads(call.body)) for call in stub.calls]


def test_an_event_is_created_and_its_repetition_counted() -> None:
    async def scenario(stub: ApiStub, recorder: EventRecorder) -> None:
        recorder.event(POD, "Warning", "FailedScheduling", "0/2 nodes are available")
        [(method, path, body)] = await calls(stub, 1)
        assert (method, path) == ("POST", "/api/v1/namespaces/shop/events")
        assert body["involvedObject"] == {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "shop",
            "name": "web",
            "uid": "u1",
        }
        assert body["metadata"]["name"].startswith("web.")
        assert (body["count"], body["type"], body["reason"]) == (1, "Warning", "FailedScheduling")
        assert body["source"] == {"component": "scheduler", "host": "host-1"}
        await asyncio.sleep(0.01)
        recorder.event(POD, "Warning", "FailedScheduling", "0/2 nodes are available")
        recorder.event(POD, "Warning", "FailedScheduling", "0/2 nodes are available")
        _, (method, path, patch) = await calls(stub, 2)
        assert (method, path) == ("PATCH", f"/api/v1/namespaces/shop/events/{body['metadata']['name']}")
        assert patch["count"] == 3

    run(accept, scenario)


def test_an_expired_event_is_begun_anew() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        if call.method == "PATCH":
            reply.json(status(404, "NotFound", "expired"), status=404)
        else:
            await accept(call, reply)

    async def scenario(stub: ApiStub, recorder: EventRecorder) -> None:
        recorder.event(POD, "Normal", "Scheduled", "m")
        first = await calls(stub, 1)
        await asyncio.sleep(0.01)
        recorder.event(POD, "Normal", "Scheduled", "m")
        last = (await calls(stub, 3))[-1]
        assert last[0] == "POST"
        assert last[2]["count"] == 1
        assert last[2]["metadata"]["name"] != first[0][2]["metadata"]["name"]

    run(behaviour, scenario)


def test_one_object_cannot_flood_and_a_refusal_is_final() -> None:
    async def behaviour(call: Call, reply: Reply) -> None:
        reply.json(status(403, "Forbidden", "namespace is being terminated"), status=403)

    async def scenario(stub: ApiStub, recorder: EventRecorder) -> None:
        for number in range(BURST * 2):
            recorder.event(POD, "Normal", "Spam", str(number))
        await calls(stub, BURST)
        await asyncio.sleep(0.02)
        assert len(stub.calls) == BURST

    run(behaviour, scenario)


def test_cluster_scoped_objects_are_told_of_in_default_and_flush_sends_the_rest() -> None:
    async def main() -> None:
        async with api_stub(accept) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            recorder = EventRecorder(client, "node")
            recorder.event(Pod(kind="Node", metadata=ObjectMeta(name="n1")), "Normal", "Starting", "m")
            await recorder.flush()
            [(_, path, body)] = await calls(stub, 1)
            assert path == "/api/v1/namespaces/default/events"
            assert "namespace" not in body["involvedObject"]
            await client.close()

    uvloop.run(main())
