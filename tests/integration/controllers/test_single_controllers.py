"""Single controllers, with short times, against a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import (
    SERVICE_CIDR,
    Bed,
    bed,
    eventually,
    make_node,
    slices_of,
    turn_ready,
)
from tests.integration.controllers.running import run, running

from twinstack.api.core import Node, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CONFIG_MAPS, EVENTS, LEASES, NODES, PODS, SERVICES
from twinstack.api.times import micro_now
from twinstack.client.rest import Client
from twinstack.controllers.endpointslices import EndpointSliceController
from twinstack.controllers.garbage import GarbageCollector
from twinstack.controllers.nodecidrs import NodeCIDRs
from twinstack.controllers.nodeipam import NodeIPAMController
from twinstack.controllers.nodelifecycle import NodeLifecycleController, Patience
from twinstack.controllers.podgc import PodGarbageController
from twinstack.ip import CIDR


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


async def make_pod(client: Client, name: str, node: str = "", **metadata: Any) -> Pod:
    meta = {"name": name, "namespace": "default", "labels": {"app": "web"}} | metadata
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
    return await client.create(PODS, {"metadata": meta, "spec": spec})


async def is_gone(client: Client, name: str) -> bool:
    try:
        await client.get(PODS, name, "default")
    except StatusError as error:
        return error.code == 404
    return False


def ready(node: Node) -> str:
    return next(entry.status for entry in node.status.conditions if entry.type == "Ready")


def test_a_silent_node_turns_unknown_and_its_pods_leave_service(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        await make_node(client, "alive")
        await make_node(client, "silent")
        lease = {"metadata": {"name": "alive", "namespace": "kube-node-lease"}, "spec": {"renewTime": micro_now()}}
        current = await client.create(LEASES, lease)
        await turn_ready(client, await make_pod(client, "on-alive", "alive"), "10.244.0.1", "fd00::1")
        await turn_ready(client, await make_pod(client, "on-silent", "silent"), "10.244.1.1", "fd00::2")
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
        await client.create(SERVICES, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec})

        async def renew() -> None:
            nonlocal current
            while True:
                await asyncio.sleep(0.1)
                current.spec.renew_time = micro_now()
                current = await client.update(LEASES, current)

        def in_service(slices: list[Any]) -> set[str]:
            return {a for s in slices for e in s.endpoints or [] if e.conditions.ready for a in e.addresses}

        async with running(
            client, partial(NodeLifecycleController, patience=Patience(grace=2.0)), EndpointSliceController
        ):
            beating = asyncio.create_task(renew())
            both = {"10.244.0.1", "10.244.1.1"}
            await eventually(lambda: slices_of(client, "web"), lambda slices: in_service(slices) == both)
            node = await eventually(lambda: client.get(NODES, "silent"), lambda node: ready(node) == "Unknown")
            assert {(c.reason, c.message) for c in node.status.conditions if c.type == "Ready"} == {
                ("NodeStatusUnknown", "Kubelet stopped posting node status.")
            }
            await eventually(lambda: slices_of(client, "web"), lambda slices: in_service(slices) == {"10.244.0.1"})
            node = await eventually(lambda: client.get(NODES, "silent"), lambda node: bool(node.spec.taints))
            assert node.spec.taints[0].key == "node.kubernetes.io/unreachable"
            await asyncio.sleep(0.5)
            assert ready(await client.get(NODES, "alive")) == "True"
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    run(server, scenario)


def test_pods_of_a_deleted_node_go_and_a_node_made_anew_keeps_them(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        for name in ("n1", "n2"):
            await make_node(client, name)
            await make_pod(client, f"on-{name}", name)
        await make_pod(client, "on-nothing", "never-there")
        async with running(client, partial(PodGarbageController, quarantine=0.3)):
            await eventually(lambda: is_gone(client, "on-nothing"), bool)
            await client.delete(NODES, "n1")
            await client.delete(NODES, "n2")
            await make_node(client, "n2")
            await eventually(lambda: is_gone(client, "on-n1"), bool)
            await asyncio.sleep(0.2)
            assert not await is_gone(client, "on-n2")

    run(server, scenario)


def test_dependents_go_with_the_last_of_their_owners_whatever_its_kind(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        def reference(uid: str, kind: str = "ConfigMap", version: str = "v1", name: str = "owner") -> dict[str, Any]:
            return {"apiVersion": version, "kind": kind, "name": name, "uid": uid}

        owner = await client.create(CONFIG_MAPS, {"metadata": {"name": "owner", "namespace": "default"}})
        uid, stale = owner.metadata.uid, "00000000-0000-0000-0000-000000000000"
        node = await client.create(NODES, {"metadata": {"name": "n1"}})
        cluster_scoped = reference(node.metadata.uid, "Node", name="n1")
        await make_pod(client, "owned", ownerReferences=[reference(uid)])
        await make_pod(client, "half", ownerReferences=[reference(uid), reference(stale, name="gone")])
        await make_pod(client, "namesake", ownerReferences=[reference(stale)])
        await make_pod(client, "strange", ownerReferences=[reference(stale, "Strange", "example.com/v1")])
        await make_pod(client, "of-node", ownerReferences=[cluster_scoped])
        async with running(client, GarbageCollector):
            await eventually(lambda: is_gone(client, "namesake"), bool)
            half = await eventually(
                lambda: client.get(PODS, "half", "default"), lambda pod: len(pod.metadata.owner_references) == 1
            )
            assert half.metadata.owner_references[0].uid == uid
            await client.delete(NODES, "n1")
            await eventually(lambda: is_gone(client, "of-node"), bool)
            await asyncio.sleep(0.1)
            for name in ("owned", "half", "strange"):
                assert not await is_gone(client, name)

    run(server, scenario)


def test_blocks_run_out_with_an_event_and_are_given_when_one_is_free_again(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        cidrs = NodeCIDRs([CIDR.parse("fd00::/63"), CIDR.parse("10.244.0.0/16")], [64, 24])
        async with running(client, lambda context: NodeIPAMController(context, cidrs)):
            for name in ("n1", "n2"):
                await make_node(client, name)
                await eventually(partial(client.get, NODES, name), lambda node: len(node.spec.pod_cidrs) == 2)
            await make_node(client, "n3")

            async def told() -> bool:
                events, _ = await client.list(EVENTS, "default", field_selector="involvedObject.name=n3")
                return any(e.message == "Node n3 status is now: CIDRNotAvailable" for e in events)

            await eventually(told, bool)
            await client.delete(NODES, "n1")
            node = await eventually(lambda: client.get(NODES, "n3"), lambda node: bool(node.spec.pod_cidrs))
            assert node.spec.pod_cidrs == ["fd00::/64", "10.244.2.0/24"]

    run(server, scenario)


def test_a_node_that_does_not_fit_the_flags_stops_the_controllers(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        await make_node(client, "n1", podCIDR="192.168.0.0/24", podCIDRs=["192.168.0.0/24"])
        server.start_controllers()
        process = server.processes["controllers"]
        await eventually(lambda: asyncio.to_thread(process.poll), lambda code: code == 1)

    run(server, scenario)
    assert "cidr 192.168.0.0/24 is out the range of cluster cidr 10.244.0.0/16" in server.log("controllers")
    assert "Traceback" not in server.log("controllers")


def test_flags_that_contradict_each_other_are_one_line(server: Bed) -> None:
    server.start_controllers("--node-cidr-mask-size=24")
    assert server.processes["controllers"].wait(60) == 1
    [line] = [line for line in server.log("controllers").splitlines() if "ERROR" in line]
    assert line.endswith("usage of --node-cidr-mask-size is not allowed with dual-stack clusters")
    assert SERVICE_CIDR.count(",") == 1
