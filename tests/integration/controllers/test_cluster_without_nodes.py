"""Controllers and scheduler against a real API server; hand-made Nodes and Pod statuses stand in for kubelets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import uvloop
from tests.integration.controllers.bed import (
    Bed,
    bed,
    connected,
    deployment,
    deployment_of,
    eventually,
    make_node,
    pods_of,
    slices_of,
    turn_ready,
)

from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from twinstack.client.rest import MERGE, Client


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed")) as it:

        async def nodes() -> None:
            async with connected(it) as client:
                await make_node(client, "n1")
                await make_node(client, "n2")

        uvloop.run(nodes())
        yield it


def run(cluster: Bed, scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with connected(cluster) as client:
            await scenario(client)

    uvloop.run(main())


async def ready_all(client: Client, app: str, first: int = 1) -> list[Pod]:
    pods = await pods_of(client, app)
    for number, pod in enumerate(pods, first):
        await turn_ready(client, pod, f"10.244.0.{number}", f"fd00:10:244::{number:x}")
    return pods


def addresses(slices: list[Any], family: str, ready: bool = True) -> set[str]:
    return {
        address
        for slice_ in slices
        if slice_.address_type == family
        for endpoint in slice_.endpoints or []
        if endpoint.conditions.ready is ready
        for address in endpoint.addresses
    }


def test_nodes_get_a_block_of_each_family(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        blocks = []
        for name in ("n1", "n2"):
            node = await eventually(partial(client.get, NODES, name), lambda node: bool(node.spec.pod_cidrs))
            assert node.spec.pod_cidr == node.spec.pod_cidrs[0]
            blocks.append(node.spec.pod_cidrs)
        assert sorted(blocks) == [
            ["10.244.0.0/24", "fd00:10:244::/64"],
            ["10.244.1.0/24", "fd00:10:244:1::/64"],
        ]

    run(cluster, scenario)


def test_a_deployment_becomes_pods_on_nodes_and_a_service_finds_them(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        started = time.perf_counter()
        await client.create(DEPLOYMENTS, deployment("web", 3))
        await eventually(lambda: pods_of(client, "web"), lambda pods: len(pods) == 3, pause=0.002)
        created = time.perf_counter()
        pods = await eventually(
            lambda: pods_of(client, "web"), lambda pods: all(pod.spec.node_name for pod in pods), pause=0.002
        )
        bound = time.perf_counter()
        print(f"3 Pods made after {(created - started) * 1e3:.0f} ms, bound after {(bound - started) * 1e3:.0f} ms")
        assert len(pods) == 3
        assert {pod.spec.node_name for pod in pods} == {"n1", "n2"}
        spec = {"selector": {"app": "web"}, "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}
        await client.create(SERVICES, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec})
        slices = await eventually(lambda: slices_of(client, "web"), lambda slices: len(slices) == 2)
        assert {slice_.address_type for slice_ in slices} == {"IPv4", "IPv6"}
        assert not addresses(slices, "IPv4")

        await ready_all(client, "web")
        slices = await eventually(lambda: slices_of(client, "web"), lambda slices: len(addresses(slices, "IPv6")) == 3)
        assert addresses(slices, "IPv4") == {f"10.244.0.{n}" for n in (1, 2, 3)}
        assert addresses(slices, "IPv6") == {f"fd00:10:244::{n}" for n in (1, 2, 3)}
        status = (
            await eventually(lambda: deployment_of(client, "web"), lambda d: d.status.available_replicas == 3)
        ).status
        assert (status.replicas, status.updated_replicas, status.ready_replicas) == (3, 3, 3)
        assert {c.type: (c.status, c.reason) for c in status.conditions} == {
            "Available": ("True", "MinimumReplicasAvailable"),
            "Progressing": ("True", "NewReplicaSetAvailable"),
        }
        wanted = {"Scheduled", "SuccessfulCreate", "ScalingReplicaSet"}
        await eventually(
            lambda: client.list(EVENTS, "default"), lambda listed: wanted <= {event.reason for event in listed[0]}
        )

    run(cluster, scenario)


def test_slices_follow_readiness_within_milliseconds(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        pod = (await pods_of(client, "web"))[0]
        times = []
        for number in range(10):
            ready = bool(number % 2)
            version = (await slices_of(client, "web"))[0].metadata.resource_version
            [slice4] = [slice_ for slice_ in await slices_of(client, "web") if slice_.address_type == "IPv4"]
            seen = asyncio.create_task(_next_change(client, slice4.metadata.name, version))
            await asyncio.sleep(0.02)
            started = time.perf_counter()
            await turn_ready(client, pod, pod.status.pod_ips[0].ip, pod.status.pod_ips[1].ip, ready=ready)
            times.append((await asyncio.wait_for(seen, 60) - started) * 1e3)
        times.sort()
        print(f"Pod patch to slice seen: median {times[5]:.1f} ms, worst {times[-1]:.1f} ms")
        assert times[5] < 100

    run(cluster, scenario)


async def _next_change(client: Client, name: str, version: str) -> float:
    stream = client.watch(ENDPOINT_SLICES, "default", resource_version=version, field_selector=f"metadata.name={name}")
    async for event in stream:
        if event.type == "MODIFIED":
            await stream.aclose()
            return time.perf_counter()
    raise AssertionError("the watch ended")


def test_a_family_that_a_service_loses_loses_its_slices(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        single = {"spec": {"ipFamilyPolicy": "SingleStack"}}
        await client.patch(SERVICES, "web", "default", single)
        slices = await eventually(lambda: slices_of(client, "web"), lambda slices: len(slices) == 1)
        assert slices[0].address_type == "IPv4"
        await client.patch(SERVICES, "web", "default", {"spec": {"ipFamilyPolicy": "PreferDualStack"}})
        slices = await eventually(lambda: slices_of(client, "web"), lambda slices: len(slices) == 2)
        assert len(addresses(slices, "IPv6")) == 3

    run(cluster, scenario)


def test_scaling_adopting_and_replacing(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": 5}})
        await eventually(lambda: pods_of(client, "web"), lambda pods: len(pods) == 5)
        await ready_all(client, "web")
        await client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": 2}})
        await _finish_deletions(client, "web", 2)
        # A Pod that loses its label is released and replaced, and comes back as one too many.
        lost = (await pods_of(client, "web"))[0]
        label = {"metadata": {"labels": {"app": "gone"}}}
        await client.patch(PODS, lost.metadata.name, "default", label)
        await eventually(lambda: pods_of(client, "web"), lambda pods: len(pods) == 2)
        released = await eventually(
            lambda: client.get(PODS, lost.metadata.name, "default"), lambda pod: not pod.metadata.owner_references
        )
        await client.patch(PODS, released.metadata.name, "default", {"metadata": {"labels": {"app": "web"}}})
        await _finish_deletions(client, "web", 2)
        pods = await pods_of(client, "web")
        assert all(pod.metadata.owner_references[0].kind == "ReplicaSet" for pod in pods)

    run(cluster, scenario)


async def _finish_deletions(client: Client, app: str, count: int) -> None:
    """End Pods that are being deleted, as their kubelet would, until `count` are left."""

    async def finish() -> list[Pod]:
        pods = await pods_of(client, app)
        for pod in pods:
            if pod.metadata.deletion_timestamp is not None:
                await client.delete(PODS, pod.metadata.name, "default", uid=pod.metadata.uid, grace_period=0)
        return await pods_of(client, app)

    await eventually(finish, lambda pods: len(pods) == count)
    await asyncio.sleep(0.2)
    assert len(await pods_of(client, app)) == count


def test_a_new_template_rolls_and_a_rollback_takes_the_old_set_again(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        async def image(name: str) -> None:
            patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}}
            await client.patch(DEPLOYMENTS, "web", "default", patch)

        async def roll(revision: str) -> None:
            async def step() -> bool:
                for number, pod in enumerate(await pods_of(client, "web"), 20):
                    if pod.metadata.deletion_timestamp is not None:
                        await client.delete(PODS, pod.metadata.name, "default", grace_period=0)
                    elif not pod.status.pod_ips and pod.spec.node_name:
                        await turn_ready(client, pod, f"10.244.0.{number}", f"fd00:10:244::{number:x}")
                current = await deployment_of(client, "web")
                status = current.status
                return (
                    current.metadata.annotations.get("deployment.kubernetes.io/revision") == revision
                    and status.observed_generation == current.metadata.generation
                    and (status.updated_replicas, status.replicas, status.available_replicas) == (2, 2, 2)
                )

            await eventually(step, bool)

        await ready_all(client, "web", 30)
        first = (await pods_of(client, "web"))[0].metadata.labels["pod-template-hash"]
        await image("twinstack.local/host:2")
        await roll("2")
        second = {pod.metadata.labels["pod-template-hash"] for pod in await pods_of(client, "web")}
        assert first not in second
        await image("twinstack.local/host")
        await roll("3")
        assert {pod.metadata.labels["pod-template-hash"] for pod in await pods_of(client, "web")} == {first}
        sets, _ = await client.list(REPLICA_SETS, "default", label_selector="app=web")
        assert sorted(rs.spec.replicas or 0 for rs in sets) == [0, 2]
        reused = next(rs for rs in sets if rs.spec.replicas)
        assert reused.metadata.annotations["deployment.kubernetes.io/revision-history"] == "1"

    run(cluster, scenario)


def test_deleting_the_owners_deletes_what_they_own(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.delete(SERVICES, "web", "default")
        await eventually(lambda: slices_of(client, "web"), lambda slices: not slices)
        await client.delete(DEPLOYMENTS, "web", "default", propagation="Background")

        async def sets() -> list[Any]:
            return (await client.list(REPLICA_SETS, "default", label_selector="app=web"))[0]

        await eventually(sets, lambda sets: not sets)
        await _finish_deletions(client, "web", 0)

    run(cluster, scenario)


@pytest.mark.parametrize("policy", ["Foreground", "Orphan"])
def test_foreground_and_orphaning_deletion_come_to_an_end(cluster: Bed, policy: str) -> None:
    async def scenario(client: Client) -> None:
        name = policy.lower()
        await client.create(DEPLOYMENTS, deployment(name, 1))
        await eventually(lambda: pods_of(client, name), lambda pods: len(pods) == 1)
        await client.delete(DEPLOYMENTS, name, "default", propagation=policy)

        async def sets() -> list[Any]:
            return (await client.list(REPLICA_SETS, "default", label_selector=f"app={name}"))[0]

        if policy == "Foreground":
            await _finish_deletions(client, name, 0)
            await eventually(sets, lambda found: not found)
        await eventually(lambda: client.list(DEPLOYMENTS, "default"), lambda listed: not listed[0])
        if policy == "Orphan":
            [orphan] = await sets()
            assert not orphan.metadata.owner_references
            assert len(await pods_of(client, name)) == 1
            await client.delete(REPLICA_SETS, orphan.metadata.name, "default", propagation="Background")
            await _finish_deletions(client, name, 0)

    run(cluster, scenario)


def test_a_replication_controller_keeps_its_pods_and_leaves_them_behind(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        template = deployment("old", 1)["spec"]["template"]
        body = {
            "metadata": {"name": "old", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"app": "old"}, "template": template},
        }
        await client.create(REPLICATION_CONTROLLERS, body)
        get = partial(client.get, REPLICATION_CONTROLLERS, "old", "default")
        await eventually(get, lambda rc: rc.status.replicas == 2)
        await ready_all(client, "old", 150)
        await eventually(get, lambda rc: rc.status.available_replicas == 2)
        await client.patch(REPLICATION_CONTROLLERS, "old", "default", {"spec": {"replicas": 1}}, content_type=MERGE)
        await eventually(lambda: pods_of(client, "old"), lambda pods: len(alive(pods)) == 1)
        events, _ = await client.list(EVENTS, "default", field_selector="involvedObject.kind=ReplicationController")
        assert {(event.reason, event.source.component) for event in events} >= {
            ("SuccessfulCreate", "replication-controller")
        }
        # Of this kind alone the Pods stay, unless the deletion says otherwise.
        await client.delete(REPLICATION_CONTROLLERS, "old", "default")
        [pod] = await eventually(lambda: pods_of(client, "old"), lambda pods: not any_owned(pods))
        assert pod.metadata.deletion_timestamp is None
        await client.delete(PODS, pod.metadata.name, "default", grace_period=0)

    run(cluster, scenario)


def alive(pods: list[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.metadata.deletion_timestamp is None]


def any_owned(pods: list[Pod]) -> bool:
    return any(pod.metadata.owner_references for pod in alive(pods)) or len(pods) != 1


def test_every_namespace_has_an_account_and_the_certificate_and_ends_empty(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.create(NAMESPACES, {"metadata": {"name": "team"}})
        await eventually(lambda: client.get(SERVICE_ACCOUNTS, "default", "team"), lambda _: True)
        published = await eventually(lambda: client.get(CONFIG_MAPS, "kube-root-ca.crt", "team"), lambda _: True)
        assert published.data == {"ca.crt": "PEM"}
        tampered = {"data": {"ca.crt": "forged"}}
        await client.patch(CONFIG_MAPS, "kube-root-ca.crt", "team", tampered, content_type=MERGE)
        await eventually(
            lambda: client.get(CONFIG_MAPS, "kube-root-ca.crt", "team"), lambda entry: entry.data == {"ca.crt": "PEM"}
        )
        body = deployment("web", 2)
        body["metadata"]["namespace"] = "team"
        await client.create(DEPLOYMENTS, body)
        await eventually(lambda: client.list(PODS, "team"), lambda listed: len(listed[0]) == 2)
        await client.delete(NAMESPACES, "team")

        async def gone() -> bool:
            for pod in (await client.list(PODS, "team"))[0]:
                if pod.metadata.deletion_timestamp is not None:
                    await client.delete(PODS, pod.metadata.name, "team", grace_period=0)
            try:
                await client.get(NAMESPACES, "team")
            except StatusError as error:
                return error.code == 404
            return False

        await eventually(gone, bool)
        assert not (await client.list(CONFIG_MAPS, "team"))[0]

    run(cluster, scenario)


def test_a_pod_that_fits_nowhere_says_so_and_is_placed_when_a_node_comes(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        spec = {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "i"}]}
        await client.create(PODS, {"metadata": {"name": "picky", "namespace": "default"}, "spec": spec})
        message = (
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. "
            "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        )

        def told(pod: Pod) -> bool:
            return any(
                (c.type, c.status, c.reason, c.message) == ("PodScheduled", "False", "Unschedulable", message)
                for c in pod.status.conditions
            )

        await eventually(lambda: client.get(PODS, "picky", "default"), told)

        async def warned() -> bool:
            events, _ = await client.list(EVENTS, "default", field_selector="involvedObject.name=picky")
            return any((event.reason, event.message) == ("FailedScheduling", message) for event in events)

        await eventually(warned, bool)
        await client.patch(NODES, "n2", "", {"metadata": {"labels": {"disk": "ssd"}}})
        await eventually(lambda: client.get(PODS, "picky", "default"), lambda pod: pod.spec.node_name == "n2")
        await client.delete(PODS, "picky", "default", grace_period=0)

    run(cluster, scenario)


def test_taints_follow_a_node_and_pods_wait_for_it(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        async def conditions(status: str) -> None:
            change = [{"type": "Ready", "status": status, "reason": "Test"}]
            await client.patch(NODES, "n1", "", {"status": {"conditions": change}}, subresource="status")

        def keys(node: Any) -> list[str]:
            return [taint.key for taint in node.spec.taints]

        await conditions("False")
        await eventually(lambda: client.get(NODES, "n1"), lambda n: keys(n) == ["node.kubernetes.io/not-ready"])
        await conditions("Unknown")
        await eventually(lambda: client.get(NODES, "n1"), lambda n: keys(n) == ["node.kubernetes.io/unreachable"])
        await conditions("True")
        await eventually(lambda: client.get(NODES, "n1"), lambda n: keys(n) == [])

    run(cluster, scenario)


def test_what_is_killed_converges_when_it_is_back(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        cluster.stop("controllers", 9)
        await client.create(DEPLOYMENTS, deployment("later", 2))
        cluster.stop("server", 9)
        cluster.start_controllers()
        cluster.start_server()
        await eventually(lambda: pods_of(client, "later"), lambda pods: len(pods) == 2)
        pods = await eventually(lambda: pods_of(client, "later"), lambda pods: all(pod.spec.node_name for pod in pods))
        await asyncio.sleep(0.3)
        assert len(await pods_of(client, "later")) == len(pods) == 2
        blocks = [node.spec.pod_cidrs for node in (await client.list(NODES))[0]]
        assert len({cidr for pair in blocks for cidr in pair}) == 4
        await client.delete(DEPLOYMENTS, "later", "default", propagation="Background")
        await _finish_deletions(client, "later", 0)

    run(cluster, scenario)


def test_they_stop_when_told_to_and_have_not_complained(cluster: Bed) -> None:
    for name in ("controllers", "scheduler"):
        assert cluster.stop(name) == 0
        log = cluster.log(name)
        assert "Traceback" not in log, log
