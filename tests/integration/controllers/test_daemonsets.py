"""DaemonSets on nodes that come, go and are tainted; a coroutine stands in for kubelets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually, make_node, pods_of
from tests.integration.controllers.running import run
from tests.integration.controllers.test_rollouts import Crowd, image, kubectl, kubelets

from twinstack.api.apps import DaemonSet
from twinstack.api.core import Pod
from twinstack.api.kinds import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from twinstack.client.rest import Client

WAIT = 30.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed")) as it:

        async def nodes(client: Client) -> None:
            for name in ("n1", "n2", "n3"):
                await make_node(client, name)

        run(it, nodes)
        yield it


def daemon_set(name: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"containers": [{"name": "c", "image": "first"}], "terminationGracePeriodSeconds": 0}
    template = {"metadata": {"labels": labels}, "spec": pod | spec.pop("pod", {})}
    fields = {"selector": {"matchLabels": labels}, "template": template} | spec
    return {"metadata": {"name": name, "namespace": "default"}, "spec": fields}


async def settled(
    client: Client, name: str, count: int, extra: Callable[[DaemonSet], bool] = lambda _: True
) -> DaemonSet:
    def holds(one: DaemonSet) -> bool:
        status = one.status
        numbers = {
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_available,
            status.number_ready,
            status.updated_number_scheduled,
        }
        return numbers == {count} and status.observed_generation == one.metadata.generation and extra(one)

    return await eventually(lambda: client.get(DAEMON_SETS, name, "default"), holds, WAIT)


def homes(pods: list[Pod]) -> list[str]:
    return sorted(pod.spec.node_name for pod in pods if pod.metadata.deletion_timestamp is None)


def test_one_pod_a_node_also_of_nodes_that_come_and_go(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.create(DAEMON_SETS, daemon_set("each"))
        async with kubelets(client, "each"):
            await settled(client, "each", 3)
            assert homes(await pods_of(client, "each")) == ["n1", "n2", "n3"]
            await make_node(client, "n4", taints=[{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}])
            await settled(client, "each", 4)
            await client.patch(NODES, "n4", "", {"spec": {"taints": [{"key": "own", "effect": "NoExecute"}]}})
            await settled(client, "each", 3)
            await client.delete(NODES, "n4")
            victim = (await pods_of(client, "each"))[0]
            await client.delete(PODS, victim.metadata.name, "default")
            await eventually(
                partial(pods_of, client, "each"),
                lambda found: victim.metadata.uid not in {p.metadata.uid for p in found} and len(found) == 3,
                WAIT,
            )
            failing = (await pods_of(client, "each"))[0]
            await client.patch(
                PODS, failing.metadata.name, "default", {"status": {"phase": "Failed"}}, subresource="status"
            )
            await eventually(
                partial(pods_of, client, "each"),
                lambda found: failing.metadata.uid not in {p.metadata.uid for p in found} and len(found) == 3,
                WAIT,
            )
            await client.patch(
                DAEMON_SETS, "each", "default", {"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}
            )
            await eventually(partial(pods_of, client, "each"), lambda found: found == [], WAIT)
        await client.delete(DAEMON_SETS, "each", "default")

    run(cluster, scenario)


@pytest.mark.parametrize(
    ("rolling", "most", "least"), [({"maxUnavailable": 1}, 3, 2), ({"maxUnavailable": 0, "maxSurge": 1}, 4, 3)]
)
def test_a_rolling_update_keeps_its_bounds(cluster: Bed, rolling: dict[str, Any], most: int, least: int) -> None:
    async def scenario(client: Client) -> None:
        name = f"roll{most}"
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
        await client.create(DAEMON_SETS, daemon_set(name, updateStrategy=strategy))
        async with kubelets(client, name):
            await settled(client, name, 3)
        crowd = Crowd()
        async with kubelets(client, name, crowd):
            await asyncio.sleep(0.1)  # until it counts
            await client.patch(DAEMON_SETS, name, "default", image("second"))
            assert "successfully rolled out" in await kubectl(
                cluster, "rollout", "status", f"ds/{name}", "--timeout=30s"
            )
            await settled(client, name, 3)
            assert {pod.spec.containers[0].image for pod in await pods_of(client, name)} == {"second"}
        assert crowd.most <= most
        assert crowd.least_ready is not None
        assert crowd.least_ready >= least
        await client.delete(DAEMON_SETS, name, "default")

    run(cluster, scenario)


def test_history_undo_and_update_on_deletion_alone(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.create(DAEMON_SETS, daemon_set("past", revisionHistoryLimit=1))
        async with kubelets(client, "past"):
            for number in ("first", "second", "third"):
                await client.patch(DAEMON_SETS, "past", "default", image(number))
                await settled(client, "past", 3)
            history = await eventually(
                lambda: kubectl(cluster, "rollout", "history", "ds/past"), lambda text: "\n1 " not in text, WAIT
            )
            assert [line.split()[0] for line in history.splitlines()[2:] if line] == ["2", "3"]
            await kubectl(cluster, "rollout", "undo", "ds/past")
            await settled(client, "past", 3)
            assert {pod.spec.containers[0].image for pod in await pods_of(client, "past")} == {"second"}
            revisions, _ = await client.list(CONTROLLER_REVISIONS, "default", label_selector="app=past")
            assert sorted(one.revision for one in revisions) == [3, 4]

            patch = {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}}
            await client.patch(DAEMON_SETS, "past", "default", patch)
            await client.patch(DAEMON_SETS, "past", "default", image("fourth"))
            await eventually(
                lambda: client.get(DAEMON_SETS, "past", "default"),
                lambda one: one.status.updated_number_scheduled == 0,
                WAIT,
            )
            victim = (await pods_of(client, "past"))[0]
            await client.delete(PODS, victim.metadata.name, "default")
            await eventually(
                lambda: client.get(DAEMON_SETS, "past", "default"),
                lambda one: one.status.updated_number_scheduled == 1 and one.status.number_available == 3,
                WAIT,
            )
        await client.delete(DAEMON_SETS, "past", "default")

    run(cluster, scenario)
