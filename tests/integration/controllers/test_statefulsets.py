"""StatefulSets in order and side by side, rolled, scaled and undone; a coroutine stands in for kubelets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually, make_node, pods_of
from tests.integration.controllers.running import run
from tests.integration.controllers.test_rollouts import image, kubectl, kubelets

from twinstack.api.apps import StatefulSet
from twinstack.api.kinds import CONTROLLER_REVISIONS, EVENTS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from twinstack.client.rest import Client

WAIT = 30.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed")) as it:

        async def nodes(client: Client) -> None:
            await make_node(client, "n1")

        run(it, nodes)
        yield it


async def make(client: Client, name: str, replicas: int, **spec: Any) -> None:
    labels = {"app": name}
    pod = {"containers": [{"name": "c", "image": "first"}], "terminationGracePeriodSeconds": 0}
    template = {"metadata": {"labels": labels}, "spec": pod}
    fields = {"replicas": replicas, "serviceName": f"{name}-svc", "selector": {"matchLabels": labels}}
    body = fields | {"template": template} | spec
    await client.create(STATEFUL_SETS, {"metadata": {"name": name, "namespace": "default"}, "spec": body})


async def settled(
    client: Client, name: str, count: int, extra: Callable[[StatefulSet], bool] | None = None
) -> StatefulSet:
    def holds(one: StatefulSet) -> bool:
        status = one.status
        numbers = {status.replicas, status.ready_replicas, status.available_replicas, status.current_replicas}
        done = numbers == {count} and status.current_revision == status.update_revision
        return (done if extra is None else extra(one)) and status.observed_generation == one.metadata.generation

    return await eventually(lambda: client.get(STATEFUL_SETS, name, "default"), holds, WAIT)


async def images(client: Client, name: str) -> dict[str, str]:
    return {pod.metadata.name: pod.spec.containers[0].image for pod in await pods_of(client, name)}


@asynccontextmanager
async def order_of(client: Client, name: str) -> AsyncIterator[list[tuple[str, str]]]:
    """What becomes of Pods, as it happens: (`ADDED` or `DELETED`, name)."""
    happened: list[tuple[str, str]] = []

    async def follow() -> None:
        async for event in client.watch(PODS, "default", label_selector=f"app={name}"):
            if event.type in ("ADDED", "DELETED"):
                happened.append((event.type, event.object.metadata.name))  # noqa: PERF401 - as it happens

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)  # until it watches
    try:
        yield happened
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_pods_come_in_order_and_go_in_the_opposite_one(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with order_of(client, "db") as happened:
            await make(client, "db", 3)
            await eventually(partial(pods_of, client, "db"), lambda found: len(found) == 1, WAIT)
            await asyncio.sleep(0.3)
            assert len(await pods_of(client, "db")) == 1, "the next one waits for the first"
            async with kubelets(client, "db"):
                await settled(client, "db", 3)
                first = next(pod for pod in await pods_of(client, "db") if pod.metadata.name == "db-0")
                assert (first.spec.hostname, first.spec.subdomain) == ("db-0", "db-svc")
                assert first.metadata.labels["apps.kubernetes.io/pod-index"] == "0"
                assert first.metadata.labels["statefulset.kubernetes.io/pod-name"] == "db-0"
                await kubectl(cluster, "scale", "sts/db", "--replicas=1")
                await settled(client, "db", 1)
            async with asyncio.timeout(WAIT):
                while len(happened) < 5:
                    await asyncio.sleep(0.01)
            assert happened == [
                *(("ADDED", f"db-{ordinal}") for ordinal in (0, 1, 2)),
                *(("DELETED", f"db-{ordinal}") for ordinal in (2, 1)),
            ]
            wanted = ("SuccessfulCreate", "create Pod db-0 in StatefulSet db successful")
            await eventually(
                lambda: client.list(EVENTS, "default", field_selector="involvedObject.name=db"),
                lambda found: wanted in {(event.reason, event.message) for event in found[0]},
            )

    run(cluster, scenario)


def test_an_update_goes_down_to_the_partition_and_may_be_undone(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
        await make(client, "roll", 3, updateStrategy=strategy, revisionHistoryLimit=1)
        async with kubelets(client, "roll"):
            await settled(client, "roll", 3)
            await client.patch(STATEFUL_SETS, "roll", "default", image("second"))
            await settled(
                client,
                "roll",
                3,
                lambda one: (
                    (one.status.updated_replicas, one.status.ready_replicas, one.status.current_replicas) == (1, 3, 2)
                ),
            )
            assert await images(client, "roll") == {"roll-0": "first", "roll-1": "first", "roll-2": "second"}
            await client.delete(PODS, "roll-0", "default")
            await eventually(
                partial(images, client, "roll"), lambda found: found.get("roll-0") == "first" and len(found) == 3, WAIT
            )
            async with order_of(client, "roll") as happened:
                rest = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
                await client.patch(STATEFUL_SETS, "roll", "default", rest)
                assert "complete" in await kubectl(cluster, "rollout", "status", "sts/roll", "--timeout=30s")
                await settled(client, "roll", 3)
                assert [name for what, name in happened if what == "DELETED"] == ["roll-1", "roll-0"]
            assert set((await images(client, "roll")).values()) == {"second"}
            await client.patch(STATEFUL_SETS, "roll", "default", image("third"))
            await settled(client, "roll", 3)
            await kubectl(cluster, "rollout", "undo", "sts/roll")
            await settled(client, "roll", 3)
            assert set((await images(client, "roll")).values()) == {"second"}
            revisions, _ = await client.list(CONTROLLER_REVISIONS, "default", label_selector="app=roll")
            assert sorted(one.revision for one in revisions) == [3, 4]

    run(cluster, scenario)


def test_side_by_side_with_claims_that_nobody_binds(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        claim = {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        await make(
            client, "par", 2, podManagementPolicy="Parallel", ordinals={"start": 5}, volumeClaimTemplates=[claim]
        )
        found = await eventually(partial(pods_of, client, "par"), lambda found: len(found) == 2, WAIT)
        assert sorted(pod.metadata.name for pod in found) == ["par-5", "par-6"]
        claims, _ = await client.list(PERSISTENT_VOLUME_CLAIMS, "default", label_selector="app=par")
        assert sorted(claim.metadata.name for claim in claims) == ["data-par-5", "data-par-6"]
        waiting = await eventually(
            partial(pods_of, client, "par"),
            lambda found: all(any(c.reason == "Unschedulable" for c in pod.status.conditions) for pod in found),
            WAIT,
        )
        message = next(c.message for c in waiting[0].status.conditions if c.type == "PodScheduled")
        assert message == (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. "
            "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
        events, _ = await eventually(
            lambda: client.list(EVENTS, "default", field_selector="involvedObject.name=par"),
            lambda found: sum(event.reason == "VolumesNotProvided" for event in found[0]) == 2,
            WAIT,
        )
        assert ("SuccessfulCreate", "create Claim data-par-5 Pod par-5 in StatefulSet par success") in {
            (event.reason, event.message) for event in events
        }

    run(cluster, scenario)


def test_claims_go_with_the_number_or_the_set_if_it_says_so(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        claim = {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        retention = {"whenDeleted": "Delete", "whenScaled": "Delete"}
        await make(
            client,
            "brief",
            2,
            podManagementPolicy="Parallel",
            volumeClaimTemplates=[claim],
            persistentVolumeClaimRetentionPolicy=retention,
        )

        async def claims() -> list[str]:
            found, _ = await client.list(PERSISTENT_VOLUME_CLAIMS, "default", label_selector="app=brief")
            return sorted(claim.metadata.name for claim in found)

        await eventually(claims, lambda found: found == ["data-brief-0", "data-brief-1"], WAIT)
        await eventually(partial(pods_of, client, "brief"), lambda found: len(found) == 2, WAIT)
        await kubectl(cluster, "scale", "sts/brief", "--replicas=1")
        await eventually(claims, lambda found: found == ["data-brief-0"], WAIT)
        await client.delete(STATEFUL_SETS, "brief", "default")
        await eventually(claims, lambda found: found == [], WAIT)

    run(cluster, scenario)
