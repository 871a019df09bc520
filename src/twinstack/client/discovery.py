"""What a server serves, read from its discovery documents (apidiscovery: APIGroupList, APIResourceList)."""

from __future__ import annotations

import asyncio

import msgspec

from twinstack.client.rest import Client


class ServedResource(msgspec.Struct, frozen=True):
    """One resource in the version that the server prefers."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]

    def path(self, namespace: str = "", name: str = "") -> str:
        """The URL path of the collection or of one object."""
        root = "/apis/" if "/" in self.group_version else "/api/"
        scope = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{root}{self.group_version}{scope}/{self.plural}" + (f"/{name}" if name else "")


class _Resource(msgspec.Struct):
    name: str
    kind: str = ""
    namespaced: bool = False
    verbs: tuple[str, ...] = ()


class _ResourceList(msgspec.Struct, rename="camel"):
    group_version: str
    resources: list[_Resource] = []


class _Version(msgspec.Struct, rename="camel"):
    group_version: str


class _Group(msgspec.Struct, rename="camel"):
    preferred_version: _Version


class _GroupList(msgspec.Struct):
    groups: list[_Group] = []


async def served_resources(client: Client) -> list[ServedResource]:
    """Every resource of every group, subresources left out. Fails whole if one group's document does."""
    groups = msgspec.json.decode(await client.request("GET", "/apis"), type=_GroupList).groups
    paths = ["/api/v1", *(f"/apis/{group.preferred_version.group_version}" for group in groups)]
    lists = await asyncio.gather(*(_resources(client, path) for path in paths))
    return [resource for resources in lists for resource in resources]


async def find_resource(client: Client, api_version: str, kind: str) -> ServedResource | None:
    """The resource of an object's apiVersion and kind; None when that version does not know it."""
    root = "/apis/" if "/" in api_version else "/api/"
    return next((r for r in await _resources(client, f"{root}{api_version}") if r.kind == kind), None)


async def _resources(client: Client, path: str) -> list[ServedResource]:
    document = msgspec.json.decode(await client.request("GET", path), type=_ResourceList)
    return [
        ServedResource(document.group_version, entry.name, entry.kind, entry.namespaced, entry.verbs)
        for entry in document.resources
        if "/" not in entry.name
    ]
