"""Ends namespaces: removes what is in one that is being deleted, then lets it go (Namespace.spec.finalizers)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.core import Namespace, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NAMESPACES, PODS
from twinstack.client.discovery import ServedResource, served_resources
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.podstate import condition

FINALIZER = "kubernetes"
FIRST_PAUSE = 0.1  # seconds until what is left is looked at again; doubled each time
LONGEST_PAUSE = 5.0
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_DELETE = json.dumps({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}).encode()

log = logging.getLogger(__name__)


class _Meta(msgspec.Struct):
    name: str
    finalizers: list[str] = []


class _Item(msgspec.Struct):
    metadata: _Meta


class _Items(msgspec.Struct):
    items: list[_Item]


Remains = dict[str, list[_Meta]]  # `pods.` or `deployments.apps` → what is left


class NamespaceController:
    """Pods go first (KEP-5080): what serves them, and what guards them, stays while they end."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue("namespaces")
        self._namespaces = context.informers.of(NAMESPACES)
        self._pods = context.informers.of(PODS)
        self._rounds: Counter[str] = Counter()

    async def run(self) -> None:
        await synced(self._namespaces)
        self._namespaces.subscribe(self._namespace_changed)
        self._pods.subscribe(self._pod_changed)
        await self._queue.run(self._sync, workers=8)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and new.metadata.deletion_timestamp is not None:
            self._queue.add(new.metadata.name)
        elif new is None and old is not None:
            del self._rounds[old.metadata.name]

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is None and old.metadata.namespace in self._rounds:
            self._queue.add(old.metadata.namespace)

    async def _sync(self, name: str) -> None:
        namespace = self._namespaces.objects.get(name)
        if namespace is None or namespace.metadata.deletion_timestamp is None:
            return
        if FINALIZER not in namespace.spec.finalizers:
            return
        remains = await self._empty(name)
        if not remains:
            await self._finalize(name)
            return
        await self._report(namespace, remains)
        pause = min(FIRST_PAUSE * 2.0 ** self._rounds[name], LONGEST_PAUSE)
        self._rounds[name] += 1
        self._queue.add(name, delay=pause)

    async def _empty(self, namespace: str) -> Remains:
        """Delete what can be deleted; returns what is still there."""
        resources = [
            resource
            for resource in await served_resources(self._client)
            if resource.namespaced and {"list", "delete"} <= set(resource.verbs)
        ]
        pods = [resource for resource in resources if (resource.group_version, resource.plural) == ("v1", "pods")]
        remains = await self._empty_all(pods, namespace)
        if remains:
            return remains
        return await self._empty_all([resource for resource in resources if resource not in pods], namespace)

    async def _empty_all(self, resources: list[ServedResource], namespace: str) -> Remains:
        left = await asyncio.gather(*(self._empty_one(resource, namespace) for resource in resources))
        return {_qualified(resource): items for resource, items in zip(resources, left, strict=True) if items}

    async def _empty_one(self, resource: ServedResource, namespace: str) -> list[_Meta]:
        items = await self._list(resource, namespace)
        if not items:
            return []
        if "deletecollection" in resource.verbs:
            await self._client.request("DELETE", resource.path(namespace), _DELETE)
        else:
            for item in items:
                await self._delete(resource, namespace, item.name)
        return await self._list(resource, namespace)

    async def _list(self, resource: ServedResource, namespace: str) -> list[_Meta]:
        try:
            answer = await self._client.request("GET", resource.path(namespace), accept=_METADATA)
        except StatusError as error:
            if error.code in (404, 405):
                return []
            raise
        return [item.metadata for item in msgspec.json.decode(answer, type=_Items).items]

    async def _delete(self, resource: ServedResource, namespace: str, name: str) -> None:
        try:
            await self._client.request("DELETE", resource.path(namespace, name), _DELETE)
        except StatusError as error:
            if error.code != 404:
                raise

    async def _finalize(self, name: str) -> None:
        """Take our finalizer off. The object goes there whole: the subresource replaces all of its metadata."""
        path = NAMESPACES.resource.path(name=name)
        try:
            namespace = json.loads(await self._client.request("GET", path))
            finalizers = namespace["spec"].get("finalizers") or []
            namespace["spec"]["finalizers"] = [entry for entry in finalizers if entry != FINALIZER]
            await self._client.request("PUT", f"{path}/finalize", msgspec.json.encode(namespace))
        except StatusError as error:
            if error.code != 404:
                raise
        log.info("namespace %s is empty and released", name)

    async def _report(self, namespace: Namespace, remains: Remains) -> None:
        """Say in the status what holds the namespace up; a patch only when that has changed."""
        now = times.now()
        changes = []
        for type_, reason, message in _findings(remains):
            known = condition(namespace.status.conditions, type_)
            if known is not None and (known.status, known.message) == ("True", message):
                continue
            changes.append(
                {"type": type_, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}
            )
        if changes:
            patch: dict[str, Any] = {"status": {"conditions": changes}}
            answer = await self._client.patch(NAMESPACES, namespace.metadata.name, "", patch, subresource="status")
            self._namespaces.wrote(answer)


def _findings(remains: Remains) -> list[tuple[str, str, str]]:
    """Type, reason and message of the conditions for what is left. Pure."""
    content = ", ".join(f"{name} has {len(items)} resource instances" for name, items in sorted(remains.items()))
    result = [("NamespaceContentRemaining", "SomeResourcesRemain", f"Some resources are remaining: {content}")]
    holders = Counter(finalizer for items in remains.values() for item in items for finalizer in item.finalizers)
    if holders:
        text = ", ".join(f"{finalizer} in {count} resource instances" for finalizer, count in sorted(holders.items()))
        message = f"Some content in the namespace has finalizers remaining: {text}"
        result.append(("NamespaceFinalizersRemaining", "SomeFinalizersRemain", message))
    return result


def _qualified(resource: ServedResource) -> str:
    group = resource.group_version.rpartition("/")[0].partition("/")[0]
    return f"{resource.plural}.{group}"
