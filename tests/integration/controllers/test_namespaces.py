"""The end of namespaces, as it is told in their status, against a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from functools import partial

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually
from tests.integration.controllers.running import run, running

from twinstack.api.core import Namespace
from twinstack.api.kinds import CONFIG_MAPS, NAMESPACES, PODS, SECRETS
from twinstack.client.rest import MERGE, Client
from twinstack.controllers.namespaces import NamespaceController


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


def said(namespace: Namespace) -> dict[str, str]:
    return {c.type: c.message for c in namespace.status.conditions if c.status == "True"}


async def exists(client: Client, name: str) -> bool:
    return name in {namespace.metadata.name for namespace in (await client.list(NAMESPACES))[0]}


def test_what_holds_a_namespace_is_told_until_it_is_gone(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.create(NAMESPACES, {"metadata": {"name": "held"}})
        guarded = {"metadata": {"name": "c", "namespace": "held", "finalizers": ["example.com/guard"]}}
        await client.create(CONFIG_MAPS, guarded)
        await client.create(SECRETS, {"metadata": {"name": "s", "namespace": "held"}})
        async with running(client, NamespaceController):
            await client.delete(NAMESPACES, "held")
            namespace = await eventually(partial(client.get, NAMESPACES, "held"), lambda ns: bool(said(ns)))
            assert namespace.status.phase == "Terminating"
            assert len(namespace.status.conditions) == 5
            assert said(namespace) == {
                "NamespaceContentRemaining": "Some resources are remaining: configmaps. has 1 resource instances",
                "NamespaceFinalizersRemaining": (
                    "Some content in the namespace has finalizers remaining: example.com/guard in 1 resource instances"
                ),
            }
            version = namespace.metadata.resource_version
            await client.patch(CONFIG_MAPS, "c", "held", {"metadata": {"finalizers": None}}, content_type=MERGE)
            await eventually(partial(exists, client, "held"), lambda there: not there)
            async with aclosing(client.watch(NAMESPACES, resource_version=version)) as stream:
                last = await anext(event.object async for event in stream if event.type == "DELETED")
            assert said(last) == {}

    run(server, scenario)


def test_pods_go_before_what_serves_them(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        await client.create(NAMESPACES, {"metadata": {"name": "busy"}})
        body = {
            "metadata": {"name": "p", "namespace": "busy"},
            "spec": {"nodeName": "nowhere", "containers": [{"name": "c", "image": "i"}]},
        }
        await client.create(PODS, body)
        await client.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "busy"}})
        async with running(client, NamespaceController):
            await client.delete(NAMESPACES, "busy")
            namespace = await eventually(partial(client.get, NAMESPACES, "busy"), lambda ns: bool(said(ns)))
            assert said(namespace) == {
                "NamespaceContentRemaining": "Some resources are remaining: pods. has 1 resource instances"
            }
            assert (await client.get(PODS, "p", "busy")).metadata.deletion_timestamp
            await client.get(CONFIG_MAPS, "c", "busy")
            await client.delete(PODS, "p", "busy", grace_period=0)
            await eventually(partial(exists, client, "busy"), lambda there: not there)

    run(server, scenario)
