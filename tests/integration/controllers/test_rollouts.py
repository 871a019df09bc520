"""Rollouts as people drive them with kubectl; a coroutine stands in for kubelets and turns Pods ready."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.integration.controllers.bed import (
    Bed,
    bed,
    deployment,
    deployment_of,
    eventually,
    make_node,
    pods_of,
    turn_ready,
)
from tests.integration.controllers.running import run

from twinstack.api.apps import Deployment
from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import DEPLOYMENTS, EVENTS, PODS, REPLICA_SETS
from twinstack.client.rest import Client

KUBECTL = Path(sys.executable).with_name("kubectl")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed")) as it:

        async def nodes(client: Client) -> None:
            await make_node(client, "n1")

        run(it, nodes)
        yield it


async def kubectl(cluster: Bed, *args: str) -> str:
    process = await asyncio.create_subprocess_exec(
        KUBECTL,
        f"--kubeconfig={cluster.kubeconfig}",
        *args,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


class Crowd:
    """How many Pods of a Deployment there were at most, and ready ones at least, after each change."""

    def __init__(self) -> None:
        self.most = 0
        self.least_ready: int | None = None


@asynccontextmanager
async def kubelets(client: Client, app: str, crowd: Crowd | None = None, *, refuse: str = "") -> AsyncIterator[None]:
    """Pods of `app` turn ready soon; those with the image `refuse` never."""
    numbers = itertools.count(10)
    known: dict[str, Pod] = {}

    def is_ready(pod: Pod) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)

    async def follow() -> None:
        stream = client.watch(PODS, "default", label_selector=f"app={app}", initial_events=True)
        counting = False
        async for event in stream:
            pod = event.object
            if event.type == "BOOKMARK":
                counting = True
                continue
            known[pod.metadata.name] = pod
            if event.type == "DELETED":
                del known[pod.metadata.name]
            elif not is_ready(pod) and pod.spec.node_name and pod.spec.containers[0].image != refuse:
                with contextlib.suppress(StatusError):
                    await turn_ready(client, pod, f"10.244.0.{next(numbers)}")
            if crowd is not None and counting:
                ready = sum(is_ready(p) and p.metadata.deletion_timestamp is None for p in known.values())
                crowd.most = max(crowd.most, sum(p.metadata.deletion_timestamp is None for p in known.values()))
                crowd.least_ready = ready if crowd.least_ready is None else min(crowd.least_ready, ready)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def progress(owner: Deployment) -> tuple[str, str]:
    return next(((c.status, c.reason) for c in owner.status.conditions if c.type == "Progressing"), ("", ""))


async def available(client: Client, name: str, count: int) -> Deployment:
    return await eventually(
        partial(deployment_of, client, name),
        lambda d: (
            d.status.available_replicas == d.status.updated_replicas == d.status.replicas == count
            and d.status.observed_generation == d.metadata.generation
        ),
    )


def image(text: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": text}]}}}}


@pytest.mark.parametrize(
    ("surge", "unavailable", "most", "least"), [(1, 0, 5, 4), (0, 1, 4, 3), ("50%", "25%", 6, 3), (0, "100%", 4, 0)]
)
def test_a_rolling_update_keeps_its_bounds(
    cluster: Bed, surge: int | str, unavailable: int | str, most: int, least: int
) -> None:
    async def scenario(client: Client) -> None:
        name = f"roll-{surge}-{unavailable}".replace("%", "p")
        strategy = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
        await client.create(DEPLOYMENTS, deployment(name, 4, strategy=strategy))
        async with kubelets(client, name):
            await available(client, name, 4)
        crowd = Crowd()
        async with kubelets(client, name, crowd):
            await asyncio.sleep(0.1)  # until it counts
            await client.patch(DEPLOYMENTS, name, "default", image("twinstack.local/other"))
            assert "successfully rolled out" in await kubectl(cluster, "rollout", "status", f"deploy/{name}")
            await available(client, name, 4)
        assert crowd.most <= most
        assert crowd.least_ready is not None
        assert crowd.least_ready >= least
        await client.delete(DEPLOYMENTS, name, "default")

    run(cluster, scenario)


def test_history_undo_pause_and_resume(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        body = deployment("app", 2, revisionHistoryLimit=2)
        body["metadata"]["annotations"] = {"kubernetes.io/change-cause": "first"}
        await client.create(DEPLOYMENTS, body)
        async with kubelets(client, "app"):
            await available(client, "app", 2)
            for number in ("second", "third"):
                cause = {"metadata": {"annotations": {"kubernetes.io/change-cause": number}}}
                await client.patch(DEPLOYMENTS, "app", "default", image(number) | cause)
                await available(client, "app", 2)
            assert await kubectl(cluster, "rollout", "history", "deploy/app") == (
                "deployment.apps/app \nREVISION  CHANGE-CAUSE\n1         first\n2         second\n3         third\n\n"
            )
            assert "rolled back" in await kubectl(cluster, "rollout", "undo", "deploy/app")
            await available(client, "app", 2)
            assert (await deployment_of(client, "app")).spec.template.spec["containers"][0]["image"] == "second"
            history = await kubectl(cluster, "rollout", "history", "deploy/app")
            assert [line.split()[0] for line in history.splitlines()[2:] if line] == ["1", "3", "4"]
            await kubectl(cluster, "rollout", "undo", "deploy/app", "--to-revision=1")
            await available(client, "app", 2)
            history = await kubectl(cluster, "rollout", "history", "deploy/app")
            assert [line.split()[0] for line in history.splitlines()[2:] if line] == ["3", "4", "5"]

            await kubectl(cluster, "rollout", "pause", "deploy/app")
            await eventually(
                partial(deployment_of, client, "app"), lambda d: progress(d) == ("Unknown", "DeploymentPaused")
            )
            await client.patch(DEPLOYMENTS, "app", "default", image("while-paused") | {"metadata": {}})
            await kubectl(cluster, "scale", "deploy/app", "--replicas=3")
            paused = await eventually(partial(deployment_of, client, "app"), lambda d: d.status.replicas == 3)
            assert paused.status.updated_replicas == 0
            assert {p.spec.containers[0].image for p in await pods_of(client, "app")} == {"twinstack.local/host"}
            await kubectl(cluster, "rollout", "resume", "deploy/app")
            done = await available(client, "app", 3)
            assert progress(done) == ("True", "NewReplicaSetAvailable")

            await client.patch(DEPLOYMENTS, "app", "default", image("a-fourth"))
            await available(client, "app", 3)
            owned, _ = await eventually(
                lambda: client.list(REPLICA_SETS, "default", label_selector="app=app"),
                lambda found: len(found[0]) == 3,
            )
            assert sum(bool(replica_set.spec.replicas) for replica_set in owned) == 1, "two are kept for the history"

    run(cluster, scenario)


def test_recreate_never_mixes_versions(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.create(DEPLOYMENTS, deployment("again", 3, strategy={"type": "Recreate"}))
        crowd = Crowd()
        async with kubelets(client, "again", crowd):
            await available(client, "again", 3)
            images: set[frozenset[str]] = set()
            await client.patch(DEPLOYMENTS, "again", "default", image("newer"))
            for _ in range(200):
                pods = [p for p in await pods_of(client, "again") if p.metadata.deletion_timestamp is None]
                images.add(frozenset(p.spec.containers[0].image for p in pods))
                if len(pods) == 3 and images and frozenset({"newer"}) in images:
                    break
                await asyncio.sleep(0.005)
            await available(client, "again", 3)
        assert frozenset({"newer", "twinstack.local/host"}) not in images
        assert crowd.most == 3

    run(cluster, scenario)


def test_a_rollout_that_is_stuck_says_so_and_may_be_undone(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.create(DEPLOYMENTS, deployment("stuck", 2, progressDeadlineSeconds=2, minReadySeconds=0))
        async with kubelets(client, "stuck", refuse="broken"):
            await available(client, "stuck", 2)
            await client.patch(DEPLOYMENTS, "stuck", "default", image("broken"))
            late = await eventually(
                partial(deployment_of, client, "stuck"),
                lambda d: progress(d) == ("False", "ProgressDeadlineExceeded"),
            )
            assert late.status.available_replicas == 2, "the old ones still serve"
            await kubectl(cluster, "rollout", "undo", "deploy/stuck")
            done = await available(client, "stuck", 2)
            assert progress(done) == ("True", "NewReplicaSetAvailable")
            events, _ = await client.list(EVENTS, "default", field_selector="involvedObject.name=stuck")
            assert {event.reason for event in events} == {"ScalingReplicaSet"}
            assert {event.source.component for event in events} == {"deployment-controller"}

    run(cluster, scenario)
