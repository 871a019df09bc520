"""Garbage collection of any kind by owner reference, against a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually
from tests.integration.controllers.running import run, running

from twinstack.api.errors import StatusError
from twinstack.api.kinds import CONFIG_MAPS, LEASES, NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS, SERVICES, Kind
from twinstack.api.meta import Object
from twinstack.client.rest import MERGE, Client
from twinstack.controllers.garbage import GarbageCollector


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


async def make(client: Client, kind: Kind[Any], name: str, *owners: Object, **metadata: Any) -> Object:
    references = [
        {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.metadata.name,
            "uid": owner.metadata.uid,
            "blockOwnerDeletion": True,
        }
        for owner in owners
    ]
    meta = {"name": name, "namespace": "default", "ownerReferences": references} | metadata
    made: Object = await client.create(kind, {"metadata": meta})
    return made


async def is_gone(client: Client, kind: Kind[Any], name: str, namespace: str = "default") -> bool:
    try:
        await client.get(kind, name, namespace)
    except StatusError as error:
        return error.code == 404
    return False


async def references(client: Client, kind: Kind[Any], name: str) -> list[str]:
    obj: Object = await client.get(kind, name, "default")
    return [reference.name for reference in obj.metadata.owner_references]


DEPENDENTS: tuple[Kind[Any], ...] = (SECRETS, SERVICE_ACCOUNTS, LEASES, CONFIG_MAPS)


@pytest.mark.parametrize("early", [False, True])
def test_dependents_of_any_kind_go_with_their_last_owner(server: Bed, early: bool) -> None:
    """Also when the owner went while nobody looked."""

    async def scenario(client: Client) -> None:
        name = f"o{early:d}"
        owner = await make(client, CONFIG_MAPS, name)
        other = await make(client, SECRETS, f"{name}-other")
        for kind in DEPENDENTS:
            await make(client, kind, f"{name}-d", owner)
        await make(client, SECRETS, f"{name}-shared", owner, other)
        if early:
            await client.delete(CONFIG_MAPS, name, "default")
        async with running(client, GarbageCollector):
            if not early:
                await client.delete(CONFIG_MAPS, name, "default")
            for kind in DEPENDENTS:
                await eventually(partial(is_gone, client, kind, f"{name}-d"), bool)
            await eventually(
                partial(references, client, SECRETS, f"{name}-shared"), lambda left: left == [f"{name}-other"]
            )

    run(server, scenario)


@pytest.mark.parametrize("kind", [CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, LEASES, SERVICES])
@pytest.mark.parametrize("policy", ["Foreground", "Orphan"])
def test_every_kind_can_be_deleted_by_either_policy(server: Bed, kind: Kind[Any], policy: str) -> None:
    async def scenario(client: Client) -> None:
        name = f"{kind.resource.plural}-{policy.lower()}"
        spec = {"spec": {"ports": [{"port": 80}]}} if kind is SERVICES else {}
        owner = await client.create(kind, {"metadata": {"name": name, "namespace": "default"}} | spec)
        await make(client, SECRETS, f"{name}-d", owner, finalizers=["example.com/guard"])
        async with running(client, GarbageCollector):
            await client.delete(kind, name, "default", propagation=policy)
            if policy == "Orphan":
                await eventually(partial(is_gone, client, kind, name), bool)
                assert await references(client, SECRETS, f"{name}-d") == []
                return
            dependent = await eventually(
                partial(client.get, SECRETS, f"{name}-d", "default"), lambda d: bool(d.metadata.deletion_timestamp)
            )
            assert dependent.metadata.finalizers == ["example.com/guard"]
            assert not await is_gone(client, kind, name), "it waits for what is still there"
            await client.patch(SECRETS, f"{name}-d", "default", {"metadata": {"finalizers": None}}, content_type=MERGE)
            await eventually(partial(is_gone, client, kind, name), bool)

    run(server, scenario)


def test_a_reference_must_be_right_in_every_word(server: Bed) -> None:
    """The uid of an owner under a wrong name, or in another namespace, is nobody's and harms no other dependent."""

    async def scenario(client: Client) -> None:
        await client.create(NAMESPACES, {"metadata": {"name": "elsewhere"}})
        owner = await make(client, CONFIG_MAPS, "right")
        async with running(client, GarbageCollector):
            wrong = await client.get(CONFIG_MAPS, "right", "default")
            wrong.metadata.name = "wrong"
            await make(client, SECRETS, "stray", wrong)
            await make(client, SECRETS, "abroad", owner, namespace="elsewhere")
            await eventually(partial(is_gone, client, SECRETS, "stray"), bool)
            await eventually(partial(is_gone, client, SECRETS, "abroad", "elsewhere"), bool)
            await make(client, SECRETS, "mine", owner)
            await make(client, SECRETS, "mine-too", owner)
            await client.delete(CONFIG_MAPS, "right", "default")
            await eventually(partial(is_gone, client, SECRETS, "mine"), bool)
            await eventually(partial(is_gone, client, SECRETS, "mine-too"), bool)

    run(server, scenario)


def test_a_circle_of_owners_ends(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        first = await make(client, CONFIG_MAPS, "first")
        second = await make(client, CONFIG_MAPS, "second", first)
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "second", "uid": second.metadata.uid}
        patch = {"metadata": {"ownerReferences": [reference | {"blockOwnerDeletion": True}]}}
        await client.patch(CONFIG_MAPS, "first", "default", patch, content_type=MERGE)
        async with running(client, GarbageCollector):
            await client.delete(CONFIG_MAPS, "first", "default", propagation="Foreground")
            await eventually(partial(is_gone, client, CONFIG_MAPS, "first"), bool)
            await eventually(partial(is_gone, client, CONFIG_MAPS, "second"), bool)

    run(server, scenario)


def test_what_it_cannot_judge_it_leaves_alone(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        unknown = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "7"}
        await client.create(
            CONFIG_MAPS, {"metadata": {"name": "odd", "namespace": "default", "ownerReferences": [unknown]}}
        )
        absent = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "8"}
        body = {"metadata": {"name": "lost", "namespace": "default", "ownerReferences": [absent]}}
        async with running(client, GarbageCollector):
            await client.create(PODS, body | {"spec": {"containers": [{"name": "c", "image": "i"}]}})
            await eventually(partial(is_gone, client, PODS, "lost"), bool)
            assert not await is_gone(client, CONFIG_MAPS, "odd")

    run(server, scenario)
