"""Nodes that fall silent, and the Pods that leave them, against a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually, make_node, turn_ready
from tests.integration.controllers.running import run, running

from twinstack.api.core import Node
from twinstack.api.errors import StatusError
from twinstack.api.kinds import EVENTS, LEASES, NODES, PODS
from twinstack.api.times import micro_now, parse_time
from twinstack.client.rest import MERGE, Client
from twinstack.controllers.disruption import Rates
from twinstack.controllers.nodelifecycle import NodeLifecycleController, Patience
from twinstack.controllers.nodettl import NodeTTLController
from twinstack.controllers.podgc import PodGarbageController
from twinstack.controllers.tainteviction import TaintEvictionController

QUICK = Patience(grace=2.0, startup=2.0, period=0.1)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


async def make_pod(client: Client, name: str, node: str, *tolerations: dict[str, Any], **status: Any) -> None:
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}], "tolerations": list(tolerations)}
    pod = await client.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    await turn_ready(client, pod, "10.244.0.7")
    if status:
        await client.patch(PODS, name, "default", {"status": status}, subresource="status", content_type=MERGE)


def bears(seconds: int | None) -> dict[str, Any]:
    both = {"operator": "Exists", "effect": "NoExecute"}
    return both if seconds is None else both | {"tolerationSeconds": seconds}


@asynccontextmanager
async def beating(client: Client, *names: str) -> AsyncIterator[None]:
    """Leases that are renewed as kubelets do."""

    async def beat(name: str) -> None:
        body = {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {"renewTime": micro_now()}}
        lease = await client.create(LEASES, body)
        while True:
            await asyncio.sleep(0.1)
            lease.spec.renew_time = micro_now()
            lease = await client.update(LEASES, lease)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(beat(name)) for name in names]
        yield
        for task in tasks:
            task.cancel()


def taints(node: Node) -> set[tuple[str, str]]:
    return {(taint.key.removeprefix("node.kubernetes.io/"), taint.effect) for taint in node.spec.taints}


async def leaving(client: Client, name: str) -> bool:
    return (await client.get(PODS, name, "default")).metadata.deletion_timestamp is not None


async def is_gone(client: Client, name: str) -> bool:
    try:
        await client.get(PODS, name, "default")
    except StatusError as error:
        return error.code == 404
    return False


async def left_at(client: Client, name: str) -> float:
    """When a Pod was told to go, in whole seconds."""
    meta = (await client.get(PODS, name, "default")).metadata
    assert meta.deletion_timestamp is not None
    return parse_time(meta.deletion_timestamp) - (meta.deletion_grace_period_seconds or 0)


def noted_at(node: Node) -> float:
    """When it was noted that the Node's Pods must go, in whole seconds."""
    (added,) = [taint.time_added for taint in node.spec.taints if taint.effect == "NoExecute"]
    assert added is not None
    return parse_time(added)


async def told(client: Client, name: str, *wanted: tuple[str, str]) -> None:
    """Wait for events about an object: reason and component."""
    selector = f"involvedObject.name={name}"
    await eventually(
        lambda: client.list(EVENTS, "default", field_selector=selector),
        lambda found: {(event.reason, event.source.component) for event in found[0]} >= set(wanted),
    )


def test_pods_leave_a_lost_node_when_they_no_longer_bear_it(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        for name in ("alive", "lost"):
            await make_node(client, name)
        for name, seconds in (("hasty", 0), ("patient", 2), ("steady", None)):
            await make_pod(client, name, "lost", bears(seconds))
        await make_pod(client, "elsewhere", "alive", bears(0))
        lifecycle = partial(NodeLifecycleController, patience=QUICK)
        async with beating(client, "alive"), running(client, lifecycle, TaintEvictionController):
            node = await eventually(partial(client.get, NODES, "lost"), lambda n: len(taints(n)) == 2)
            assert taints(node) == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
            await eventually(partial(leaving, client, "hasty"), bool)
            hasty = await client.get(PODS, "hasty", "default")
            assert [
                (c.status, c.reason, c.message) for c in hasty.status.conditions if c.type == "DisruptionTarget"
            ] == [("True", "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")]
            await eventually(partial(leaving, client, "patient"), bool)
            borne = await left_at(client, "patient") - noted_at(node)
            assert borne >= 1, "it bears it for two seconds, of which the times may hide one"
            assert not await leaving(client, "steady")
            assert not await leaving(client, "elsewhere")
            await told(client, "hasty", ("TaintManagerEviction", "taint-eviction-controller"))
            await told(client, "lost", ("RegisteredNode", "node-controller"), ("NodeNotReady", "node-controller"))
            await told(client, "steady", ("NodeNotReady", "node-controller"))

    run(server, scenario)


def test_a_node_that_comes_back_keeps_its_pods(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        for name in ("alive", "back"):
            await make_node(client, name)
        await make_pod(client, "stays", "back", bears(30))
        lifecycle = partial(NodeLifecycleController, patience=QUICK)
        async with beating(client, "alive"), running(client, lifecycle, TaintEvictionController):
            await eventually(partial(client.get, NODES, "back"), lambda n: len(taints(n)) == 2)
            async with beating(client, "back"):
                ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
                await client.patch(NODES, "back", "", {"status": {"conditions": ready}}, subresource="status")
                await eventually(partial(client.get, NODES, "back"), lambda n: not taints(n))
                await told(client, "stays", ("TaintManagerEviction", "taint-eviction-controller"))
                events, _ = await client.list(EVENTS, "default", field_selector="reason=TaintManagerEviction")
                assert [event.message for event in events] == ["Cancelling deletion of Pod default/stays"]
                assert not await leaving(client, "stays")

    run(server, scenario)


def test_when_no_node_is_heard_none_sends_its_pods_away(server: Bed) -> None:
    """Then it is this controller that is cut off."""

    async def scenario(client: Client) -> None:
        for name in ("a", "b"):
            await make_node(client, name)
        async with running(client, partial(NodeLifecycleController, patience=QUICK)):
            for name in ("a", "b"):
                await eventually(
                    partial(client.get, NODES, name), lambda n: taints(n) == {("unreachable", "NoSchedule")}
                )
            await asyncio.sleep(0.3)
            assert taints(await client.get(NODES, "a")) == {("unreachable", "NoSchedule")}
            async with beating(client, "a"):
                ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
                await client.patch(NODES, "a", "", {"status": {"conditions": ready}}, subresource="status")
                await eventually(partial(client.get, NODES, "b"), lambda n: ("unreachable", "NoExecute") in taints(n))
            await eventually(partial(client.get, NODES, "b"), lambda n: ("unreachable", "NoExecute") not in taints(n))

    run(server, scenario)


def test_nodes_send_their_pods_away_one_after_the_other(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        for name in ("alive", "x", "y"):
            await make_node(client, name)
        lifecycle = partial(NodeLifecycleController, patience=QUICK, rates=Rates(normal=1.0))

        async def evicting() -> int:
            return sum(("unreachable", "NoExecute") in taints(node) for node in (await client.list(NODES))[0])

        async with beating(client, "alive"), running(client, lifecycle):
            await eventually(evicting, lambda count: count == 2)
            first, second = sorted([noted_at(await client.get(NODES, name)) for name in "xy"])
            assert second - first >= 1

    run(server, scenario)


def test_finished_pods_and_those_of_nodes_given_up_are_removed(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        await make_node(client, "n")
        for name, phase in (("first", "Succeeded"), ("second", "Failed"), ("third", "Succeeded")):
            await make_pod(client, name, "n", phase=phase)
        await make_pod(client, "stuck", "n")
        await client.delete(PODS, "stuck", "default")
        async with running(client, partial(PodGarbageController, threshold=2), NodeTTLController):
            await eventually(partial(is_gone, client, "first"), bool)
            assert not await is_gone(client, "second")
            assert not await is_gone(client, "stuck")
            node = await eventually(partial(client.get, NODES, "n"), lambda n: bool(n.metadata.annotations))
            assert node.metadata.annotations == {"node.alpha.kubernetes.io/ttl": "0"}
            down = [{"type": "Ready", "status": "False"}]
            await client.patch(NODES, "n", "", {"status": {"conditions": down}}, subresource="status")
            taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
            await client.patch(NODES, "n", "", {"spec": {"taints": [taint]}})
            await eventually(partial(is_gone, client, "stuck"), bool)

    run(server, scenario)
