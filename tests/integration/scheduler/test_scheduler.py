"""The scheduler against a real API server: where Pods go, why they wait, and what sets them free."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import WITHOUT_ACCOUNTS, Bed, empty_bed, eventually, make_node, pods_of
from tests.integration.controllers.running import run

from twinstack.api.core import Pod
from twinstack.api.kinds import EVENTS, NAMESPACES, NODES, PODS
from twinstack.client.rest import MERGE, Client

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
HELPLESS = "Preemption is not helpful for scheduling"


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with empty_bed(tmp_path_factory.mktemp("bed")) as it:
        it.start_server(*WITHOUT_ACCOUNTS)
        it.start_scheduler()

        async def nodes(client: Client) -> None:
            for name in ("n1", "n2"):
                await make_node(client, name)
                await client.patch(NODES, name, "", {"spec": {"taints": None}}, content_type=MERGE)

        run(it, nodes)
        yield it


async def make_pod(client: Client, name: str, app: str = "", **spec: Any) -> None:
    containers = [{"name": "c", "image": "i"} | spec.pop("container", {})]
    body = {"containers": containers} | spec
    metadata = {"name": name, "namespace": "default", "labels": {"app": app} if app else {}}
    await client.create(PODS, {"metadata": metadata, "spec": body})


async def placed(client: Client, name: str) -> str:
    pod = await eventually(partial(client.get, PODS, name, "default"), lambda p: bool(p.spec.node_name))
    return pod.spec.node_name


def why(pod: Pod) -> str:
    return next((c.message for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False"), "")


async def waits(client: Client, name: str) -> str:
    """The reason of a Pod that waits, which an event tells too."""
    pod = await eventually(partial(client.get, PODS, name, "default"), lambda p: bool(why(p)))
    selector = f"reason=FailedScheduling,involvedObject.name={name}"
    events, _ = await eventually(
        lambda: client.list(EVENTS, "default", field_selector=selector), lambda found: bool(found[0])
    )
    assert why(pod) in {event.message for event in events}
    assert {(event.type, event.source.component) for event in events} == {("Warning", "default-scheduler")}
    return why(pod)


def near(app: str, kind: str = "podAffinity") -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"}
    return {"affinity": {kind: {REQUIRED: [term]}}}


def test_why_a_pod_waits_and_what_frees_it(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await make_pod(client, "heavy", container={"resources": {"requests": {"cpu": "9"}}})
        assert await waits(client, "heavy") == (
            f"0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 {HELPLESS}."
        )
        await client.patch(NODES, "n2", "", {"status": {"allocatable": {"cpu": "16"}}}, subresource="status")
        assert await placed(client, "heavy") == "n2"

        taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
        await client.patch(NODES, "n2", "", {"spec": {"taints": [taint]}})
        await make_pod(client, "picky", nodeSelector={"kubernetes.io/hostname": "n2"})
        assert await waits(client, "picky") == (
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
            f"1 node(s) had untolerated taint(s). preemption: 0/2 nodes are available: 2 {HELPLESS}."
        )
        await client.patch(NODES, "n2", "", {"spec": {"taints": None}}, content_type=MERGE)
        assert await placed(client, "picky") == "n2"

        port = {"ports": [{"containerPort": 80, "hostPort": 80}]}
        for name in ("p1", "p2", "p3"):
            await make_pod(client, name, container=port)
        names = {name: await placed(client, name) for name in ("p1", "p2")}
        assert set(names.values()) == {"n1", "n2"}
        assert await waits(client, "p3") == (
            "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports. "
            "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
        )
        await make_pod(client, "p4", container=port, priorityClassName="system-node-critical")
        told = partial(client.list, EVENTS, "default", field_selector="reason=Preempted")
        events, _ = await eventually(told, lambda found: bool(found[0]))
        (gone,) = (event.involved_object.name for event in events)
        (left,) = {"p1", "p2"} - {gone}
        victim = await client.get(PODS, gone, "default")
        assert victim.metadata.deletion_timestamp, "as long as it needs"
        assert ("DisruptionTarget", "PreemptionByScheduler") in [(c.type, c.reason) for c in victim.status.conditions]
        await client.delete(PODS, gone, "default", grace_period=0)
        assert await placed(client, "p4") == names[gone]
        await client.delete(PODS, left, "default", grace_period=0)
        assert await placed(client, "p3") == names[left]

    run(cluster, scenario)


def test_pods_go_where_others_are_or_are_not(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await make_pod(client, "friend", **near("web"))
        rules = "node(s) didn't match pod affinity rules"
        assert await waits(client, "friend") == (
            f"0/2 nodes are available: 2 {rules}. preemption: 0/2 nodes are available: 2 {HELPLESS}."
        )
        await make_pod(client, "web", "web", nodeSelector={"kubernetes.io/hostname": "n2"})
        assert await placed(client, "friend") == "n2", "the Pod that comes frees the one that waited for it"

        await make_pod(client, "shy", **near("web", "podAntiAffinity"))
        assert await placed(client, "shy") == "n1"
        await make_pod(client, "web2", "web")
        assert await placed(client, "web2") == "n2", "shy is on the other one"
        await make_pod(client, "forced", "web", nodeSelector={"kubernetes.io/hostname": "n1"})
        assert await waits(client, "forced") == (
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
            "1 node(s) didn't satisfy existing pods anti-affinity rules. preemption: 0/2 nodes are available: "
            f"1 No preemption victims found for incoming pod, 1 {HELPLESS}."
        )
        await client.delete(PODS, "shy", "default", grace_period=0)
        assert await placed(client, "forced") == "n1"

    run(cluster, scenario)


def test_one_replica_a_node_and_the_next_one_waits_for_a_node(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        for name in ("a", "b", "c"):
            await make_pod(client, name, "one", **near("one", "podAntiAffinity"))
        pods = await eventually(
            lambda: pods_of(client, "one"), lambda found: sum(bool(p.spec.node_name) for p in found) == 2
        )
        [waiting] = [p.metadata.name for p in pods if not p.spec.node_name]
        assert "2 node(s) didn't match pod anti-affinity rules" in await waits(client, waiting)
        await make_node(client, "n3")
        await client.patch(NODES, "n3", "", {"spec": {"taints": None}}, content_type=MERGE)
        assert await placed(client, waiting) == "n3"

    run(cluster, scenario)


def test_labels_of_namespaces_and_of_running_pods_are_followed(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.create(NAMESPACES, {"metadata": {"name": "other"}})
        body = {
            "metadata": {"name": "web", "namespace": "other", "labels": {"app": "web"}},
            "spec": {"nodeName": "n2", "containers": [{"name": "c", "image": "i"}]},
        }
        await client.create(PODS, body)
        wish = near("web")
        wish["affinity"]["podAffinity"][REQUIRED][0]["namespaceSelector"] = {"matchLabels": {"team": "x"}}
        await make_pod(client, "across", **wish)
        await waits(client, "across")
        await client.patch(NAMESPACES, "other", "", {"metadata": {"labels": {"team": "x"}}})
        assert await placed(client, "across") == "n2"

        await make_pod(client, "later", **near("late"))
        await waits(client, "later")
        await client.patch(PODS, "across", "default", {"metadata": {"labels": {"app": "late"}}})
        assert await placed(client, "later") == "n2"

    run(cluster, scenario)


def test_spread_over_zones(cluster: Bed) -> None:
    async def scenario(client: Client) -> None:
        for name, zone in (("n1", "a"), ("n2", "b")):
            await client.patch(NODES, name, "", {"metadata": {"labels": {"zone": zone}}})
        constraint = {
            "maxSkew": 1,
            "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "s"}},
        }
        for name in ("s1", "s2", "s3", "s4"):
            await make_pod(client, name, "s", topologySpreadConstraints=[constraint])
        nodes = [await placed(client, name) for name in ("s1", "s2", "s3", "s4")]
        assert sorted(nodes) == ["n1", "n1", "n2", "n2"]

    run(cluster, scenario)
