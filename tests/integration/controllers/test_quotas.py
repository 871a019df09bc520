"""ResourceQuotas: charged by the server, counted by the controller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually
from tests.integration.controllers.running import run, running

from twinstack.api.errors import StatusError
from twinstack.api.kinds import CONFIG_MAPS, NAMESPACES, PODS, RESOURCE_QUOTAS, SERVICES
from twinstack.client.rest import Client
from twinstack.controllers.resourcequotas import ResourceQuotaController

JSON = dict[str, Any]

WAIT = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


async def limit(client: Client, namespace: str, **hard: str) -> None:
    """A new namespace and its quota, once it has been counted."""
    names = {name.replace("_", "."): amount for name, amount in hard.items()}
    await client.create(NAMESPACES, {"metadata": {"name": namespace}})
    meta = {"name": "q", "namespace": namespace}
    await client.create(RESOURCE_QUOTAS, {"metadata": meta, "spec": {"hard": names}})
    await used(client, namespace, **dict.fromkeys(hard, "0"))


async def used(client: Client, namespace: str, **amounts: str) -> None:
    names = {name.replace("_", "."): amount for name, amount in amounts.items()}
    read = lambda: client.get(RESOURCE_QUOTAS, "q", namespace)  # noqa: E731
    await eventually(read, lambda quota: quota.status.used == names, WAIT)


async def make_pod(client: Client, namespace: str, name: str, **resources: JSON) -> None:
    spec = {"containers": [{"name": "c", "image": "i", "resources": resources}]}
    await client.create(PODS, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})


async def refused(work: Any) -> str:
    with pytest.raises(StatusError) as caught:
        await work
    assert caught.value.code == 403
    return str(caught.value.message)


def test_many_at_once_take_no_more_than_there_is(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, ResourceQuotaController):
            await limit(client, "many", pods="5")
            makes = (make_pod(client, "many", f"p{n}") for n in range(25))
            answers = await asyncio.gather(*makes, return_exceptions=True)
            refusals = [answer for answer in answers if answer is not None]
            assert len(refusals) == 20
            assert all(isinstance(each, StatusError) and "exceeded quota: q" in each.message for each in refusals)
            await used(client, "many", pods="5")
            text = await refused(make_pod(client, "many", "more"))
            assert (
                text == 'pods "more" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5'
            )
            (first, *_), _ = await client.list(PODS, "many")
            await client.delete(PODS, first.metadata.name, "many", grace_period=0)
            await used(client, "many", pods="4")
            await make_pod(client, "many", "more")

    run(server, scenario)


def test_what_ends_or_becomes_smaller_is_given_back(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, ResourceQuotaController):
            await limit(client, "back", limits_cpu="1", services_nodeports="1", configmaps="1")
            text = await refused(make_pod(client, "back", "p"))
            assert text == 'pods "p" is forbidden: failed quota: q: must specify limits.cpu for: c'
            await make_pod(client, "back", "p", limits={"cpu": "600m"})
            text = await refused(make_pod(client, "back", "r", limits={"cpu": "600m"}))
            assert text.endswith("requested: limits.cpu=600m, used: limits.cpu=600m, limited: limits.cpu=1")
            spec = {"type": "NodePort", "ports": [{"port": 80}]}
            await client.create(SERVICES, {"metadata": {"name": "s", "namespace": "back"}, "spec": spec})
            await client.create(CONFIG_MAPS, {"metadata": {"name": "m", "namespace": "back"}})
            await used(client, "back", limits_cpu="600m", services_nodeports="1", configmaps="1")
            more = {"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}}
            text = await refused(client.patch(SERVICES, "s", "back", more))
            assert "requested: services.nodeports=" in text
            await client.patch(SERVICES, "s", "back", {"spec": {"type": "ClusterIP"}})
            await client.patch(PODS, "p", "back", {"status": {"phase": "Succeeded"}}, subresource="status")
            await client.delete(CONFIG_MAPS, "m", "back")
            await used(client, "back", limits_cpu="0", services_nodeports="0", configmaps="0")

    run(server, scenario)
