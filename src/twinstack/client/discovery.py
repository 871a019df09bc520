"""What a server serves, read from its discovery documents (apidiscovery: APIGroupList, APIResourceList)."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from twinstack.api.errors import StatusError
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


class Discovery(NamedTuple):
    """Every resource of every group, subresources left out; and why nothing is known of some groups."""

    resources: list[ServedResource]
    failures: dict[str, str]  # group version → what the server said


async def discover(client: Client) -> Discovery:
    """Read all documents. One group that fails, as that of an extension may, leaves the others known."""
    groups = msgspec.json.decode(await client.request("GET", "/apis"), type=_GroupList).groups
    versions = ["v1", *(group.preferred_version.group_version for group in groups)]
    answers = await asyncio.gather(*(_resources(client, version) for version in versions), return_exceptions=True)
    result = Discovery([], {})
    for version, answer in zip(versions, answers, strict=True):
        if isinstance(answer, StatusError):
            result.failures[version] = str(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            result.resources.extend(answer)
    return result


async def find_resource(client: Client, api_version: str, kind: str) -> ServedResource | None:
    """The resource of an object's apiVersion and kind; None when that version does not know it."""
    return next((r for r in await _resources(client, api_version) if r.kind == kind), None)


async def _resources(client: Client, group_version: str) -> list[ServedResource]:
    path = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
    document = msgspec.json.decode(await client.request("GET", path), type=_ResourceList)
    return [
        ServedResource(document.group_version, entry.name, entry.kind, entry.namespaced, entry.verbs)
        for entry in document.resources
        if "/" not in entry.name
    ]
