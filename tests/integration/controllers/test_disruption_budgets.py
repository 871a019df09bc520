"""PodDisruptionBudgets: counted by the controller, kept by the server's evictions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, deployment, eventually, pods_of, turn_ready
from tests.integration.controllers.running import run, running

from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import DEPLOYMENTS, JOBS, POD_DISRUPTION_BUDGETS, PODS
from twinstack.api.policy import PodDisruptionBudget, PodDisruptionBudgetStatus
from twinstack.client.rest import Client
from twinstack.controllers.deployments import DeploymentController
from twinstack.controllers.disruptionbudgets import DisruptionController
from twinstack.controllers.jobs import JobController
from twinstack.controllers.replicasets import ReplicaSetController

WAIT = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


async def guard(client: Client, app: str, **spec: Any) -> None:
    body = {"selector": {"matchLabels": {"app": app}}} | spec
    meta = {"name": app, "namespace": "default"}
    await client.create(POD_DISRUPTION_BUDGETS, {"metadata": meta, "spec": body})


async def counted(client: Client, app: str, *numbers: int) -> PodDisruptionBudgetStatus:
    """The status, once so many are expected, healthy, desired and allowed to go."""

    def holds(budget: PodDisruptionBudget) -> bool:
        at = budget.status
        return (at.expected_pods, at.current_healthy, at.desired_healthy, at.disruptions_allowed) == numbers

    read = lambda: client.get(POD_DISRUPTION_BUDGETS, app, "default")  # noqa: E731
    return (await eventually(read, holds, WAIT)).status


async def started(client: Client, app: str, replicas: int) -> list[Pod]:
    await client.create(DEPLOYMENTS, deployment(app, replicas))
    pods = await eventually(lambda: pods_of(client, app), lambda found: len(found) == replicas, WAIT)
    for pod in pods:
        binding = {"metadata": {"name": pod.metadata.name}, "target": {"kind": "Node", "name": "n"}}
        await client.request("POST", f"/api/v1/namespaces/default/pods/{pod.metadata.name}/binding", _json(binding))
        await turn_ready(client, pod, "10.244.0.9")
    return pods


async def evict(client: Client, pod: Pod) -> None:
    name = pod.metadata.name
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    await client.request("POST", f"/api/v1/namespaces/default/pods/{name}/eviction", _json(body))


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def test_a_budget_holds_evictions_back_until_others_are_ready(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, DeploymentController, ReplicaSetController, DisruptionController):
            await guard(client, "web", maxUnavailable="30%")
            await counted(client, "web", 0, 0, 0, 0)
            first, second, third = await started(client, "web", 3)
            status = await counted(client, "web", 3, 3, 2, 1)
            assert [(each.type, each.reason) for each in status.conditions] == [("DisruptionAllowed", "SufficientPods")]
            answers = await asyncio.gather(*(evict(client, pod) for pod in (first, second)), return_exceptions=True)
            (refusal,) = [answer for answer in answers if answer is not None]
            assert isinstance(refusal, StatusError)
            assert refusal.code == 429
            status = await counted(client, "web", 3, 2, 2, 0)
            assert status.conditions[0].reason == "InsufficientPods"
            with pytest.raises(StatusError) as caught:
                await evict(client, third)
            (cause,) = (caught.value.details or {})["causes"]
            assert cause == {
                "reason": "DisruptionBudget",
                "message": "The disruption budget web needs 2 healthy pods and has 2 currently",
            }

    run(server, scenario)


def test_many_evictions_at_once_take_no_more_than_there_is(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, DeploymentController, ReplicaSetController, DisruptionController):
            await guard(client, "many", minAvailable=5)
            pods = await started(client, "many", 8)
            await counted(client, "many", 8, 8, 5, 3)
            answers = await asyncio.gather(*(evict(client, pod) for pod in pods), return_exceptions=True)
            assert sum(answer is None for answer in answers) == 3, answers

    run(server, scenario)


def test_pods_without_a_number_of_replicas_cannot_be_counted(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, JobController, DisruptionController):
            template = {
                "metadata": {"labels": {"app": "job"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
            }
            meta = {"name": "job", "namespace": "default"}
            await client.create(JOBS, {"metadata": meta, "spec": {"template": template}})
            await eventually(lambda: pods_of(client, "job"), lambda found: len(found) == 1, WAIT)
            await guard(client, "job", maxUnavailable=1)
            read = lambda: client.get(POD_DISRUPTION_BUDGETS, "job", "default")  # noqa: E731
            budget = await eventually(read, lambda found: bool(found.status.conditions), WAIT)
            (condition,) = budget.status.conditions
            assert (condition.reason, condition.message) == (
                "SyncFailed",
                "jobs.batch does not implement the scale subresource",
            )

    run(server, scenario)


def test_a_pod_of_two_budgets_cannot_be_evicted(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        spec = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
        meta = {"name": "twice", "namespace": "default", "labels": {"app": "twice", "other": "x"}}
        pod = await client.create(PODS, {"metadata": meta, "spec": spec})
        await turn_ready(client, pod, "10.244.0.8")
        await guard(client, "twice", minAvailable=0)
        await client.create(
            POD_DISRUPTION_BUDGETS,
            {
                "metadata": {"name": "other", "namespace": "default"},
                "spec": {"minAvailable": 0, "selector": {"matchLabels": {"other": "x"}}},
            },
        )
        with pytest.raises(StatusError, match="more than one PodDisruptionBudget") as caught:
            await evict(client, pod)
        assert caught.value.code == 500

    run(server, scenario)
